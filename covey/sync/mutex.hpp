/// @file
/// mutex: mutual exclusion between threads and processes that survives the death of its owner.
#pragma once

#include <chrono>
#include <covey/base/result.hpp>
#include <covey/sync/deadlock.hpp>
#include <covey/sync/handle.hpp>
#include <covey/sync/owned_lock.hpp>
#include <functional>
#include <stop_token>

namespace covey {

/// Mutual exclusion between threads and processes; std::mutex's and std::timed_mutex's contract and names.
///
/// Handle:  a copy is the same mutex (unlike std, on purpose); give it to any task, process or message.
/// Safety:  process-safe. Not recursive: lock() throws std::system_error when this thread owns it already. Not fair.
/// Death:   when the owner dies, at any instruction, every lock(), try_lock() and lock_for() throws owner_died until
///          somebody recovers it; sleepers are woken. A thread that ends while it owns the mutex counts as dead. It
///          knows whom it waits for, and with mutex_options::detect_deadlock finds that this would be for ever.
/// Order:   what happened before unlock() is visible after the lock() that follows.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/identity.md, docs/design/sync.md. Example: examples/tour_05_shared.cpp
class mutex {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Makes a free mutex. Throws std::system_error if no shared memory can be had.
  mutex() : mutex(mutex_options()) {}

  /// The same, with options.
  explicit mutex(const mutex_options& options) : state_(std::in_place, options) {}

  /// Blocks until this thread owns it. Throws owner_died, and deadlock_detected if it was made to.
  void lock() { state_->lock(state_.number()); }

  /// As lock(), but returns false when `stop` was requested while it was not free. Looks for no deadlock.
  [[nodiscard]] bool lock(std::stop_token stop) { return lock_by(std::nullopt, std::move(stop)); }

  /// Returns whether this thread owns it now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock() { return state_->try_lock(); }

  /// Returns false when `timeout` passed, or `stop` was requested, first. Throws owner_died.
  template <class Rep, class Period>
  [[nodiscard]] bool lock_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    return lock_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As lock_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool lock_until(const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) {
    return lock_by(detail::steady(until), std::move(stop));
  }

  /// std's name for lock_for, for std::unique_lock.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout) {
    return lock_for(timeout);
  }

  /// std's name for lock_until, for std::unique_lock. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& until) {
    return lock_until(until);
  }

  /// Gives it up. The caller must own it.
  void unlock() noexcept { state_->unlock(); }

  /// Takes the mutex whether or not an owner died, and if one did and nobody has repaired since, runs `repair` and
  /// marks the protected state whole. Returns whether `repair` ran. A throw or a death inside leaves it unrepaired.
  /// Blocks like lock().
  bool recover(const std::function<void()>& repair) { return state_->recover(repair); }

  /// Whether an owner died and nobody has repaired since; may be stale when it returns.
  [[nodiscard]] bool needs_recovery_approx() const noexcept { return state_->unrepaired_approx(); }

  /// Its number among the family's objects that live now; deadlock_detected tells locks by it.
  [[nodiscard]] std::uint32_t number() const noexcept { return state_.number(); }

  /// Whether both name the same mutex.
  bool operator==(const mutex& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static mutex decode_handle(detail::decoder& in) { return mutex(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::owned_lock, detail::region_kind::mutex>;
  explicit mutex(handle h) : state_(std::move(h)) {}
  bool lock_by(const detail::deadline& until, std::stop_token stop);

  handle state_;
};

using timed_mutex = mutex;  ///< std's name for a mutex with try_lock_for and try_lock_until: each has them

}  // namespace covey
