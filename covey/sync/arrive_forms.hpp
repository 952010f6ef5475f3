/// @file
/// arrive_forms: the ways to arrive and wait with an end to the wait, which barriers and latches have.
#pragma once

#include <chrono>
#include <covey/memory/deadline.hpp>
#include <stop_token>
#include <utility>

namespace covey {

/// What a place to meet can do beside arrive_and_wait(). All arrive for one, throw as that does, and return false when
/// the wait was over before all had come: then the arrival stands.
template <class Meeting>
class arrive_forms {
 public:
  /// As arrive_and_wait(), but returns false when `stop` was requested first.
  [[nodiscard]] bool arrive_and_wait(std::stop_token stop) {
    return self().arrive_and_wait_by(std::nullopt, std::move(stop));
  }

  /// Returns false when `timeout` passed, or `stop` was requested, first.
  template <class Rep, class Period>
  [[nodiscard]] bool arrive_and_wait_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    return self().arrive_and_wait_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As arrive_and_wait_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool arrive_and_wait_until(const std::chrono::time_point<Clock, Duration>& until,
                                           std::stop_token stop = {}) {
    return self().arrive_and_wait_by(detail::steady(until), std::move(stop));
  }

 protected:
  arrive_forms() noexcept = default;

 private:
  [[nodiscard]] Meeting& self() noexcept { return static_cast<Meeting&>(*this); }
};

}  // namespace covey
