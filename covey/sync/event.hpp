/// @file
/// event: a flag that one sets and others wait for.
#pragma once

#include <chrono>
#include <covey/memory/region.hpp>
#include <stop_token>

namespace covey {

/// A flag that one worker sets and others wait for, across threads and processes.
///
/// Handle:  a copy is the same event; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   a holder killed at any instruction leaves the flag set or clear, and wakes nobody falsely. An event does
/// not know who
///          will set it: whoever waits for a process that may die waits with a timeout, or for the process.
/// Order:   what happened before set() is visible after a wait that returned because of it.
/// Fork:    a child forked past covey must not use it.
/// Example: examples/traffic_light.cpp
class event {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Makes a clear event. Throws std::system_error if no shared memory can be had.
  event();

  /// Sets the flag and wakes all who wait.
  void set() noexcept;

  /// Clears the flag.
  void clear() noexcept;

  /// Whether the flag is set at this moment.
  [[nodiscard]] bool is_set() const noexcept;

  /// Blocks until set. Not fair: waiters wake in no particular order. A set() that a clear() follows at once may be
  /// missed.
  void wait() const;

  /// Returns false if `timeout` passed, or `stop` was requested, first.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds timeout, std::stop_token stop = {}) const;

  /// As wait_for, with a point in time.
  [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point until, std::stop_token stop = {}) const;

  /// Whether both name the same event.
  bool operator==(const event& other) const noexcept { return region_ == other.region_; }

  void encode_handle(detail::encoder& out) const { region_.encode(out); }  ///< for covey
  static event decode_handle(detail::decoder& in);                          ///< for covey

 private:
  struct state;
  explicit event(detail::region r) : region_(std::move(r)) {}
  [[nodiscard]] state& shared() const;

  detail::region region_;
};

}  // namespace covey
