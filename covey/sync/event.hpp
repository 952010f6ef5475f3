/// @file
/// event: a flag that one sets and others wait for.
#pragma once

#include <chrono>
#include <covey/memory/waitable.hpp>
#include <covey/sync/handle.hpp>
#include <stop_token>

namespace covey {

/// A flag that one worker sets and others wait for, across threads and processes.
///
/// Handle:  a copy is the same event; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   a holder killed at any instruction leaves the flag set or clear, and wakes nobody falsely. An event does
///          not know who will set it: whoever waits for a process that may die waits for both,
///          wait_any(event, process), or with a timeout. Killed inside set(), after the flag: those who wait are
///          woken by the death, at most 10 ms later.
/// Order:   what happened before set() is visible after a wait that returned because of it.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: examples/traffic_light.cpp
class event {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Makes a clear event. Throws std::system_error if no shared memory can be had.
  event() : state_(std::in_place) {}

  /// Sets the flag and wakes all who wait.
  void set() noexcept { state_->set(); }

  /// Clears the flag.
  void clear() noexcept { state_->word.fetch_and(~flag, std::memory_order_relaxed); }

  /// Whether the flag is set at this moment.
  [[nodiscard]] bool is_set() const noexcept { return (state_->word.load(std::memory_order_acquire) & flag) != 0; }

  /// Blocks until set. Not fair: waiters wake in no particular order. Who waits when set() is called returns, also when
  /// clear() follows at once.
  void wait() const { state_->wait(std::nullopt, nullptr); }

  /// As wait(), but returns false when `stop` was requested first.
  [[nodiscard]] bool wait(std::stop_token stop) const { return wait_by(std::nullopt, std::move(stop)); }

  /// Returns false if `timeout` passed, or `stop` was requested, first.
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

  /// Whether both name the same event.
  bool operator==(const event& other) const noexcept { return state_ == other.state_; }

  /// For wait_any: ready when set, or set and cleared since this call.
  [[nodiscard]] auto wait_hook() const {
    const std::uint32_t first = state_->word.load(std::memory_order_acquire);
    return detail::wait_hook{[s = &*state_, first] { return s->over(first); }, [s = &*state_] { return s->arm(); }};
  }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static event decode_handle(detail::decoder& in) { return event(handle::decode(in)); }

 private:
  friend struct detail::looker;
  static constexpr std::uint32_t flag = 1;
  static constexpr std::uint32_t sleepers = 2;

  struct state {
    void set() noexcept;
    bool wait(const detail::deadline& until, const detail::stop_word* stop) noexcept;
    [[nodiscard]] bool over(std::uint32_t first) const noexcept;
    detail::wait_word arm() noexcept;

    std::atomic<std::uint32_t> word{0};  // generation << 2 | somebody sleeps << 1 | flag
  };
  using handle = detail::handle_on<state, detail::region_kind::event>;
  explicit event(handle h) : state_(std::move(h)) {}
  bool wait_by(const detail::deadline& until, std::stop_token stop) const;

  handle state_;
};

}  // namespace covey
