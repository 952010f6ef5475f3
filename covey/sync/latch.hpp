/// @file
/// latch: a count that goes down once.
#pragma once

#include <chrono>
#include <covey/sync/arrive_forms.hpp>
#include <covey/sync/gate.hpp>
#include <covey/sync/handle.hpp>
#include <stop_token>

namespace covey {

/// A count that goes down to 0 once, and those who wait for that; std::latch's contract and names.
///
/// Handle:  a copy is the same latch; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   a count that the dead owed is not counted: a latch does not know whom it waits for. Where they may
///          die, wait_any(latch, process), or use a barrier, which knows its parties. A waiter killed anywhere harms
///          nobody.
/// Order:   what happened before count_down() is visible after a wait that returned because of it.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/latch_test.cpp
class latch : public arrive_forms<latch> {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// The highest count.
  static constexpr std::ptrdiff_t max() noexcept { return 2'147'483'647; }

  /// Makes one that counts down from `expected`. Throws std::system_error if it is beyond max(), or no shared memory
  /// can be had.
  explicit latch(std::ptrdiff_t expected);

  /// Counts `update` down; at 0 all who wait go on. Throws std::system_error (invalid_argument), and counts nothing, if
  /// fewer are left.
  void count_down(std::ptrdiff_t update = 1);

  /// Whether the count is 0; never blocks.
  [[nodiscard]] bool try_wait() const noexcept { return state_->left.load(std::memory_order_acquire) == 0; }

  /// Blocks until the count is 0.
  void wait() const { (void)wait_by(std::nullopt, {}); }

  /// As wait(), but returns false when `stop` was requested first.
  [[nodiscard]] bool wait(std::stop_token stop) const { return wait_by(std::nullopt, std::move(stop)); }

  /// Returns false when `timeout` passed, or `stop` was requested, first.
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

  /// Counts `update` down and waits.
  void arrive_and_wait(std::ptrdiff_t update = 1) {
    count_down(update);
    wait();
  }
  using arrive_forms<latch>::arrive_and_wait;

  /// Whether both name the same latch.
  bool operator==(const latch& other) const noexcept { return state_ == other.state_; }

  /// For wait_any: ready when the count is 0.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[s = &*state_] { return s->left.load(std::memory_order_acquire) == 0; },
                             [s = &*state_] { return s->waiting.arm(); }};
  }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static latch decode_handle(detail::decoder& in) { return latch(handle::decode(in)); }

 private:
  friend struct detail::looker;
  struct state {
    explicit state(std::uint32_t expected) noexcept : left(expected) {}
    std::atomic<std::uint32_t> left;
    detail::gate waiting;
  };
  using handle = detail::handle_on<state, detail::region_kind::latch>;
  explicit latch(handle h) : state_(std::move(h)) {}
  friend class arrive_forms<latch>;
  bool arrive_and_wait_by(const detail::deadline& until, std::stop_token stop) {
    count_down();
    return wait_by(until, std::move(stop));
  }
  bool wait_by(const detail::deadline& until, std::stop_token stop) const;

  handle state_;
};

}  // namespace covey
