/// @file
/// condition_variable: waiting, with a lock given up meanwhile, until others say that something changed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <covey/sync/handle.hpp>
#include <covey/sync/mutex.hpp>
#include <mutex>
#include <stop_token>
#include <thread>

namespace covey {
namespace detail {

/// What waits of a condition share. Lives in shared memory.
class condition_state {
 public:
  /// Taken before the lock is given up: what the sleeper has seen.
  struct seen {
    std::uint32_t deaths;
    std::uint32_t changes;
  };
  seen look() noexcept;
  wake_reason sleep(seen before, const deadline& until, const stop_word* stop) noexcept;
  void notify(int count) noexcept;

 private:
  friend struct looker;

  std::atomic<std::uint32_t> changes_{0};
  std::atomic<std::uint32_t> sleepers_{0};  // the dead are counted for ever: costs a system call
};

}  // namespace detail

/// Waiting, with a lock given up meanwhile, until others notify; the contract and names of std::condition_variable and
/// std::condition_variable_any. Works with std::unique_lock<covey::mutex>, and with whatever else has lock() and
/// unlock().
///
/// Handle:  a copy is the same condition; give it to any task, process or message.
/// Safety:  process-safe. Not fair.
/// Death:   a waiter or a notifier killed anywhere harms nobody: every death in the family wakes all who wait (up to
///          10 ms later), as if spuriously, so that a notification that went to the dead is not missed: wait with a
///          predicate. When the mutex's owner died, wait throws owner_died and does not own the lock. A condition does
///          not know whom it waits for, so the death of who would have notified ends no wait by itself: let the
///          predicate ask whether that process lives, which needs no timeout, or give a timeout.
/// Order:   that of the lock.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/condition_variable_test.cpp
class condition_variable {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Nobody waits. Throws std::system_error if no shared memory can be had.
  condition_variable() : state_(std::in_place) {}

  /// Wakes one who waits, if any. Fastest after the lock was given up: who wakes takes it.
  void notify_one() noexcept { state_->notify(1); }

  /// Wakes all who wait.
  void notify_all() noexcept;

  /// Gives the lock up, blocks until notified (or spuriously), and takes it again. Throws what lock() throws.
  template <class Lock>
  void wait(Lock& lock) {
    (void)wait_once(lock, std::nullopt, nullptr);
  }

  /// Blocks until `done()`, which is called under the lock.
  template <class Lock, class Predicate>
  void wait(Lock& lock, Predicate done) {
    while (!done()) wait(lock);
  }

  /// Blocks until `done()`, or until `stop` is requested; what `done()` says then.
  template <class Lock, class Predicate>
  bool wait(Lock& lock, std::stop_token stop, Predicate done) {
    return wait_until_done(lock, std::nullopt, std::move(stop), done);
  }

  /// As wait, for at most `timeout`.
  template <class Lock, class Rep, class Period>
  std::cv_status wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& timeout) {
    return status_of(wait_once(lock, detail::deadline_in(timeout), nullptr));
  }

  /// Blocks until `done()`, for at most `timeout`; what `done()` says then.
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& timeout, Predicate done) {
    return wait_until_done(lock, detail::deadline_in(timeout), {}, done);
  }

  /// Blocks until `done()`, for at most `timeout` and until `stop` is requested; what `done()` says then.
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, std::stop_token stop, const std::chrono::duration<Rep, Period>& timeout, Predicate done) {
    return wait_until_done(lock, detail::deadline_in(timeout), std::move(stop), done);
  }

  /// As wait, until a point in time. A clock that is set while this waits is not followed.
  template <class Lock, class Clock, class Duration>
  std::cv_status wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& until) {
    return status_of(wait_once(lock, detail::steady(until), nullptr));
  }

  /// Blocks until `done()`, until a point in time; what `done()` says then.
  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& until, Predicate done) {
    return wait_until_done(lock, detail::steady(until), {}, done);
  }

  /// Blocks until `done()`, until a point in time and until `stop` is requested; what `done()` says then.
  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, std::stop_token stop, const std::chrono::time_point<Clock, Duration>& until,
                  Predicate done) {
    return wait_until_done(lock, detail::steady(until), std::move(stop), done);
  }

  /// Whether both name the same condition.
  bool operator==(const condition_variable& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static condition_variable decode_handle(detail::decoder& in) { return condition_variable(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::condition_state, detail::region_kind::condition>;
  explicit condition_variable(handle h) : state_(std::move(h)) {}

  static std::cv_status status_of(detail::wake_reason r) {
    return r == detail::wake_reason::timed_out ? std::cv_status::timeout : std::cv_status::no_timeout;
  }

  template <class Lock>
  detail::wake_reason wait_once(Lock& lock, const detail::deadline& until, const detail::stop_word* stop) {
    detail::family_check();  // who cannot lock again shall not wait
    const auto before = state_->look();
    lock.unlock();
    const detail::wake_reason reason = state_->sleep(before, until, stop);
    lock_again(lock);
    return reason;
  }

  // Who notifies under the lock still has it, perhaps on this processor: let it go on before we sleep for that.
  template <class Lock>
  static void lock_again(Lock& lock) {
    if constexpr (requires { static_cast<bool>(lock.try_lock()); }) {
      if (lock.try_lock()) return;
      std::this_thread::yield();
    }
    lock.lock();
  }

  template <class Lock, class Predicate>
  bool wait_until_done(Lock& lock, const detail::deadline& until, std::stop_token stop, Predicate& done) {
    const detail::stop_word stopped(std::move(stop));
    while (!done()) {
      if (stopped.stopped()) return false;
      if (wait_once(lock, until, &stopped) != detail::wake_reason::woken) return done();
    }
    return true;
  }

  handle state_;
};

using condition_variable_any = condition_variable;  ///< std's name for one that works with every lock: this does

}  // namespace covey
