/// @file
/// What every synchronization object is: a handle on a state in a region of its own.
#pragma once

#include <chrono>
#include <covey/memory/errors.hpp>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <new>
#include <type_traits>
#include <utility>

namespace covey::detail {

/// Reads the states for inspect(): sync_inspection.cpp.
struct looker;

/// Names the one `State` in a region of its own; a copy names the same.
///
/// Where it lies is remembered, so that an uncontended operation costs no look into the ledger; but not by a handle
/// that lies in shared memory itself, which has to look each time whether its region is mapped here.
///
/// Safety: thread-compatible; `State` looks after itself.
template <class State, region_kind Kind>
class handle_on {
 public:
  /// Makes a state. Throws std::system_error if no shared memory can be had.
  template <class... Args>
  explicit handle_on(std::in_place_t, const Args&... args)
      : region_(region_request{.bytes = sizeof(State), .kind = Kind}) {
    new (region_.data()) State(args...);
    found_ = find();
  }

  handle_on(const handle_on& other) : region_(other.region_), found_(find()) {}
  handle_on(handle_on&& other) : region_(std::move(other.region_)), found_(find()) { other.found_ = nullptr; }
  handle_on& operator=(const handle_on& other) {  // NOLINT(bugprone-unhandled-self-assignment): regions handle it
    region_ = other.region_;
    found_ = find();
    return *this;
  }
  handle_on& operator=(handle_on&& other) noexcept {
    region_ = std::move(other.region_);
    found_ = find();
    if (this != &other) other.found_ = nullptr;
    return *this;
  }
  ~handle_on() = default;

  State& operator*() const { return found_ != nullptr ? *found_ : in_region(); }
  State* operator->() const { return &**this; }

  /// The object's number among those that live, as errors show it; from 1.
  [[nodiscard]] std::uint32_t number() const noexcept { return static_cast<std::uint32_t>(region_.id()) + 1; }

  bool operator==(const handle_on& other) const noexcept { return region_ == other.region_; }

  void encode(encoder& out) const { region_.encode(out); }
  static handle_on decode(decoder& in) {
    region r = region::decode(in, Kind);
    if (!r) throw bad_message("covey: a message names no object where it must name one");
    return handle_on(std::move(r));
  }

 private:
  explicit handle_on(region r) : region_(std::move(r)), found_(find()) {}

  [[nodiscard]] State& in_region() const {
    std::byte* const there = region_.data();
    if (there == nullptr) throw_moved_from();
    return *std::launder(reinterpret_cast<State*>(there));
  }
  [[nodiscard]] State* find() const { return in_arena(this) || !region_ ? nullptr : &in_region(); }

  region region_;
  State* found_ = nullptr;
};

/// A duration of any kind in nanoseconds, rounded up; what is beyond them is the longest, or the shortest, that there
/// is.
template <class Rep, class Period>
constexpr std::chrono::nanoseconds in_nanoseconds(const std::chrono::duration<Rep, Period>& d) {
  using std::chrono::nanoseconds;
  using wide = std::chrono::duration<long double, std::nano>;
  if (wide(d) >= wide(nanoseconds::max())) return nanoseconds::max();
  if (wide(d) <= wide(nanoseconds::min())) return nanoseconds::min();
  return std::chrono::ceil<nanoseconds>(d);
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
