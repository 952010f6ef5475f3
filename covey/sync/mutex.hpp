/// @file
/// mutex: mutual exclusion between threads and processes that survives the death of its owner.
#pragma once

#include <chrono>
#include <covey/base/result.hpp>
#include <covey/sync/deadlock.hpp>
#include <covey/sync/handle.hpp>
#include <covey/sync/lock_forms.hpp>
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
class mutex : public lock_forms<mutex> {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Makes a free mutex. Throws std::system_error if no shared memory can be had.
  mutex() : mutex(mutex_options()) {}

  /// The same, with options.
  explicit mutex(const mutex_options& options) : state_(std::in_place, options) {}

  /// Blocks until this thread owns it. Throws owner_died, and deadlock_detected if it was made to.
  void lock() { state_->lock(state_.number()); }
  using lock_forms<mutex>::lock;

  /// Returns whether this thread owns it now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock() { return state_->try_lock(); }

  /// Gives it up. The caller must own it.
  void unlock() noexcept { state_->unlock(); }

  /// Takes the mutex whether or not an owner died, and if one did and nobody has repaired since, runs `repair` and
  /// marks the protected state whole. Returns whether `repair` ran. A throw or a death inside leaves it unrepaired.
  /// Blocks like lock(). Throws std::system_error when this thread owns it, and deadlock_detected if it was made to.
  bool recover(const std::function<void()>& repair) { return state_->recover(state_.number(), repair); }
  using lock_forms<mutex>::recover;

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
  friend class lock_forms<mutex>;
  bool lock_by(const detail::deadline& until, std::stop_token stop);
  recovery recover_by(const detail::deadline& until, std::stop_token stop, const std::function<void()>& repair);

  handle state_;
};

using timed_mutex = mutex;  ///< std's name for a mutex with try_lock_for and try_lock_until: each has them

}  // namespace covey
