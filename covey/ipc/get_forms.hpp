/// @file
/// get_forms: the ways to get with an end to the wait, which queues and subscribers have.
#pragma once

#include <chrono>
#include <covey/memory/park.hpp>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace covey {

/// What one who gets T can do beside get() and get_many(). All throw as these do.
template <class Getter, class T>
class get_forms {
 public:
  /// As get(), but nothing also when `stop` was requested.
  std::optional<T> get(std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_until_deadline(std::nullopt, &stopped);
  }

  /// Takes a message if there is one. Never blocks.
  std::optional<T> try_get() const { return get_for(std::chrono::nanoseconds{0}); }

  /// As get(), but nothing also when none came within `timeout` or `stop` was requested; closed() tells which.
  template <class Rep, class Period>
  std::optional<T> get_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_until_deadline(detail::deadline_in(timeout), &stopped);
  }

  /// As get_for, with a point in time. A clock that is set while this waits is not followed, here and below.
  template <class Clock, class Duration>
  std::optional<T> get_until(const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_until_deadline(detail::steady(until), &stopped);
  }

  /// As get_many(), but none also when `stop` was requested.
  std::vector<T> get_many(std::size_t max, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_many_until_deadline(max, std::nullopt, &stopped);
  }

  /// As get_many(), but only those that wait now, perhaps none. Never blocks.
  std::vector<T> try_get_many(std::size_t max) const { return get_many_for(max, std::chrono::nanoseconds{0}); }

  /// As get_many(), but none also when none came within `timeout` or `stop` was requested; closed() tells which.
  template <class Rep, class Period>
  std::vector<T> get_many_for(std::size_t max, const std::chrono::duration<Rep, Period>& timeout,
                              std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_many_until_deadline(max, detail::deadline_in(timeout), &stopped);
  }

  /// As get_many_for, with a point in time.
  template <class Clock, class Duration>
  std::vector<T> get_many_until(std::size_t max, const std::chrono::time_point<Clock, Duration>& until,
                                std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().get_many_until_deadline(max, detail::steady(until), &stopped);
  }

 protected:
  get_forms() noexcept = default;

 private:
  [[nodiscard]] const Getter& self() const noexcept { return static_cast<const Getter&>(*this); }
};

}  // namespace covey
