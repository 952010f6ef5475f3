/// @file
/// named_mutex, named_event: what programs that know nothing of each other agree by, inside a named segment.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <covey/sync/mutex.hpp>
#include <cstdint>
#include <functional>
#include <stop_token>

namespace covey {

/// Mutual exclusion inside a named segment, between threads of any programs; covey::mutex's contract and names.
///
/// Not a handle: it lies in the shared object itself and cannot be copied.
/// Safety:  process-safe. Not recursive: lock() throws std::system_error when this thread owns it already. A stop is
///          seen within 20 ms.
/// Death:   the kernel itself says when the owner dies, at any instruction, or ends without unlock, or calls exec: then
///          every lock(), try_lock() and lock_for() throws owner_died until somebody recovers it. Nobody looks for
///          deadlocks: programs that only share a name do not see what each other's threads wait for.
/// Order:   what happened before unlock() is visible after the lock() that follows.
/// Fork:    a child forked past covey must not use it.
/// Limits:  a thread that owns more than 2,048 at a time is not known to own the rest. While a process owns one, it
///          goes on holding the segment, even without a handle.
/// Design:  docs/design/named.md. Example: examples/named_board.cpp
class named_mutex : public lock_forms<named_mutex> {
 public:
  using covey_offset_type = void;  ///< may lie in a named segment

  /// Makes a free mutex.
  named_mutex();
  named_mutex(const named_mutex&) = delete;
  named_mutex& operator=(const named_mutex&) = delete;

  /// Blocks until this thread owns it. Throws owner_died.
  void lock();
  using lock_forms<named_mutex>::lock;

  /// Returns whether this thread owns it now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock();

  /// Gives it up. The caller must own it.
  void unlock() noexcept;

  /// Takes the mutex whether or not an owner died, and if one did and nobody has repaired since, runs `repair` and
  /// marks the protected state whole. Returns whether `repair` ran. A throw or a death inside leaves it unrepaired.
  /// Blocks like lock().
  bool recover(const std::function<void()>& repair);
  using lock_forms<named_mutex>::recover;

  /// Whether an owner died and nobody has repaired since; may be stale when it returns.
  [[nodiscard]] bool needs_recovery_approx() noexcept;

 private:
  enum class outcome { locked, unrepaired, busy };

  template <class Lock>
  outcome take(const Lock& lock);
  outcome take_by(const detail::deadline& until, const std::stop_token& stop);
  recovery recover_from(outcome o, const std::function<void()>& repair);
  friend class lock_forms<named_mutex>;
  bool lock_by(const detail::deadline& until, std::stop_token stop);
  recovery recover_by(const detail::deadline& until, std::stop_token stop, const std::function<void()>& repair);
  void give() noexcept;
  bool own_or_throw(outcome o);

  pthread_mutex_t mutex_;
  std::atomic<std::uint32_t> unrepaired_{0};  // 1 from the first who learns of a death until recover() is done
};

/// A flag inside a named segment that one program sets and others wait for. It has covey::event's names, and less of
/// its contract: a set() that a clear() follows at once may be missed, a stop is seen within 50 ms, and wait_any() does
/// not take it.
///
/// Not a handle: it lies in the shared object itself and cannot be copied.
/// Safety:  process-safe.
/// Death:   a process killed at any instruction leaves the flag set or clear. Killed inside set(), the flag may be set
///          and nobody woken: then who waits sees it within 50 ms. An event does not know who will set it: whoever
///          waits for a program that may die waits with a timeout.
/// Order:   what happened before set() is visible after a wait that returned because of it.
class named_event {
 public:
  using covey_offset_type = void;  ///< may lie in a named segment

  /// Makes a clear event.
  named_event() noexcept = default;
  named_event(const named_event&) = delete;
  named_event& operator=(const named_event&) = delete;

  /// Sets the flag and wakes all who wait.
  void set() noexcept;

  /// Clears the flag.
  void clear() noexcept { flag_.store(0, std::memory_order_release); }

  /// Whether the flag is set at this moment.
  [[nodiscard]] bool is_set() const noexcept { return flag_.load(std::memory_order_acquire) != 0; }

  /// Blocks until set. A set() that a clear() follows at once may be missed.
  void wait() const { (void)wait_by(std::nullopt, {}); }

  /// As wait(), but returns false when `stop` was requested first (seen within 50 ms).
  [[nodiscard]] bool wait(std::stop_token stop) const { return wait_by(std::nullopt, std::move(stop)); }

  /// Returns false if `timeout` passed, or `stop` was requested (seen within 50 ms), first.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const {
    return wait_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As wait_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& until,
                                std::stop_token stop = {}) const {
    return wait_by(detail::steady(until), std::move(stop));
  }

 private:
  bool wait_by(const detail::deadline& until, std::stop_token stop) const;

  std::atomic<std::uint32_t> flag_{0};
};

}  // namespace covey
