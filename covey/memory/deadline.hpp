/// @file
/// Until when somebody waits: durations of any kind and points in time of any clock, on the steady clock.
#pragma once

#include <chrono>
#include <optional>
#include <ratio>
#include <type_traits>

namespace covey::detail {

/// Until when a wait lasts; nothing: until what is waited for comes.
using deadline = std::optional<std::chrono::steady_clock::time_point>;

/// A duration of any kind in nanoseconds, rounded up; what is beyond them is the longest, or the shortest, that there
/// is. One that is not a number is the shortest.
template <class Rep, class Period>
constexpr std::chrono::nanoseconds in_nanoseconds(const std::chrono::duration<Rep, Period>& d) {
  using std::chrono::nanoseconds;
  if constexpr (std::is_same_v<std::chrono::duration<Rep, Period>, nanoseconds>) {
    return d;
  } else {
    using wide = std::chrono::duration<long double, std::nano>;
    if (wide(d) >= wide(nanoseconds::max())) return nanoseconds::max();
    if (!(wide(d) > wide(nanoseconds::min()))) return nanoseconds::min();
    return std::chrono::ceil<nanoseconds>(d);
  }
}

/// The deadline `timeout` from now; none when that is beyond what the clock can say.
template <class Rep, class Period>
deadline deadline_in(const std::chrono::duration<Rep, Period>& timeout) {
  using std::chrono::steady_clock;
  const auto now = steady_clock::now();
  const std::chrono::nanoseconds left = in_nanoseconds(timeout);
  if (left > steady_clock::time_point::max() - now) return std::nullopt;
  return now + left;
}

/// A point in time of any clock, as far from now on the steady one.
template <class Clock, class Duration>
std::chrono::steady_clock::time_point steady(const std::chrono::time_point<Clock, Duration>& until) {
  using std::chrono::steady_clock;
  if constexpr (std::is_same_v<Clock, steady_clock>) {
    return steady_clock::time_point(in_nanoseconds(until.time_since_epoch()));
  } else {
    using wide = std::chrono::duration<long double, std::nano>;
    const wide left = wide(until.time_since_epoch()) - wide(Clock::now().time_since_epoch());
    return steady_clock::time_point(in_nanoseconds(wide(steady_clock::now().time_since_epoch()) + left));
  }
}

}  // namespace covey::detail
