/// @file
/// lock_forms: the ways to lock and to recover with an end to the wait, which all mutexes have.
#pragma once

#include <chrono>
#include <covey/memory/deadline.hpp>
#include <functional>
#include <stop_token>
#include <utility>

namespace covey {

/// What a recover() came to that ends when its time is up.
enum class recovery {
  not_in_time,  ///< the mutex was not free in time: nothing is known, and nothing was done
  was_whole,    ///< there was nothing to repair
  repaired      ///< `repair` ran to its end
};

/// What a mutex can do beside lock(), try_lock(), unlock() and recover(). All throw as those do, but look for no
/// deadlock.
template <class Mutex>
class lock_forms {
 public:
  /// As lock(), but returns false when `stop` was requested while it was not free.
  [[nodiscard]] bool lock(std::stop_token stop) { return self().lock_by(std::nullopt, std::move(stop)); }

  /// Returns false when `timeout` passed, or `stop` was requested, first.
  template <class Rep, class Period>
  [[nodiscard]] bool lock_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    return self().lock_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As lock_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool lock_until(const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) {
    return self().lock_by(detail::steady(until), std::move(stop));
  }

  /// std's name for lock_for, for std::unique_lock.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout) {
    return lock_for(timeout);
  }

  /// std's name for lock_until, for std::unique_lock.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& until) {
    return lock_until(until);
  }

  /// As recover(), but gives up when `stop` was requested while it was not free.
  [[nodiscard]] recovery recover(const std::function<void()>& repair, std::stop_token stop) {
    return self().recover_by(std::nullopt, std::move(stop), repair);
  }

  /// As recover(), but gives up when `timeout` passed, or `stop` was requested, first: that ends the wait, not
  /// `repair`.
  template <class Rep, class Period>
  [[nodiscard]] recovery recover_for(const std::chrono::duration<Rep, Period>& timeout,
                                     const std::function<void()>& repair, std::stop_token stop = {}) {
    return self().recover_by(detail::deadline_in(timeout), std::move(stop), repair);
  }

  /// As recover_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] recovery recover_until(const std::chrono::time_point<Clock, Duration>& until,
                                       const std::function<void()>& repair, std::stop_token stop = {}) {
    return self().recover_by(detail::steady(until), std::move(stop), repair);
  }

 protected:
  lock_forms() noexcept = default;

 private:
  [[nodiscard]] Mutex& self() noexcept { return static_cast<Mutex&>(*this); }
};

}  // namespace covey
