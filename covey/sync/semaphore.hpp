/// @file
/// counting_semaphore, binary_semaphore: a count that several take from and give to.
#pragma once

#include <chrono>
#include <covey/sync/gate.hpp>
#include <covey/sync/handle.hpp>
#include <stop_token>

namespace covey {
namespace detail {

/// A count with those who wait for it. Lives in shared memory.
class semaphore_state {
 public:
  explicit semaphore_state(std::uint32_t count) noexcept : count_(count) {}

  /// False when the count would exceed `most`; then it is unchanged.
  bool add(std::uint32_t n, std::uint32_t most) noexcept;

  bool take() noexcept {
    std::uint32_t seen = count_.load(std::memory_order_relaxed);
    while (seen != 0)
      if (count_.compare_exchange_weak(seen, seen - 1, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }

  bool wait(const deadline& until, const stop_word* stop);

  [[nodiscard]] std::uint32_t count_approx() const noexcept { return count_.load(std::memory_order_relaxed); }
  wait_word arm() noexcept { return waiting_.arm(); }

 private:
  friend struct looker;

  std::atomic<std::uint32_t> count_;
  gate waiting_;
};

/// Throws std::system_error (value_too_large).
[[noreturn]] void refuse_semaphore_count(std::ptrdiff_t most);

}  // namespace detail

/// A count that several take from and give to, for signals and for things that nobody owns; std::counting_semaphore's
/// contract and names. For things that come back when their holder dies, see covey::permits.
///
/// Handle:  a copy is the same semaphore; give it to any task, process or message.
/// Safety:  process-safe. Not fair.
/// Death:   what a dead process had acquired does not come back, because nobody knows who acquired what; what it had
///          released stays. A waiter or releaser killed anywhere takes no wake with it (it may come 10 ms late). A
///          waiter does not know whom it waits for: wait_any(semaphore, process) where that may die.
/// Order:   what happened before release() is visible after the acquire() that took what it gave.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/semaphore_test.cpp
template <std::ptrdiff_t LeastMaxValue = 2'147'483'647>
class counting_semaphore {
  static_assert(LeastMaxValue >= 0 && LeastMaxValue <= 2'147'483'647, "covey: a semaphore counts to 2^31 - 1");

 public:
  using covey_handle = void;  ///< may travel to other processes

  /// The highest count.
  static constexpr std::ptrdiff_t max() noexcept { return LeastMaxValue; }

  /// Makes one with a count of `desired`. Throws std::system_error if it is beyond max(), or no shared memory can be
  /// had.
  explicit counting_semaphore(std::ptrdiff_t desired) : state_(std::in_place, checked(desired)) {}

  /// Adds `update` and wakes as many. Throws std::system_error (value_too_large), and adds nothing, if the count would
  /// exceed max().
  void release(std::ptrdiff_t update = 1) {
    if (!state_->add(checked(update), static_cast<std::uint32_t>(max()))) detail::refuse_semaphore_count(max());
  }

  /// Blocks until it could take one.
  void acquire() {
    if (!state_->take()) (void)state_->wait(std::nullopt, nullptr);
  }

  /// As acquire(), but returns false when `stop` was requested while it had to wait.
  [[nodiscard]] bool acquire(std::stop_token stop) { return take_by(std::nullopt, std::move(stop)); }

  /// Whether it took one; never blocks.
  [[nodiscard]] bool try_acquire() noexcept { return state_->take(); }

  /// Returns false when `timeout` passed, or `stop` was requested, first.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    return take_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As try_acquire_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& until,
                                       std::stop_token stop = {}) {
    return take_by(detail::steady(until), std::move(stop));
  }

  /// The count; may be stale when it returns.
  [[nodiscard]] std::ptrdiff_t count_approx() const noexcept { return state_->count_approx(); }

  /// Whether both name the same semaphore.
  bool operator==(const counting_semaphore& other) const noexcept { return state_ == other.state_; }

  /// For wait_any: ready while try_acquire() would take one.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[s = &*state_] { return s->count_approx() != 0; }, [s = &*state_] { return s->arm(); }};
  }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static counting_semaphore decode_handle(detail::decoder& in) { return counting_semaphore(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::semaphore_state, detail::region_kind::semaphore>;
  explicit counting_semaphore(handle h) : state_(std::move(h)) {}

  bool take_by(const detail::deadline& until, std::stop_token stop) {
    if (state_->take()) return true;
    const detail::stop_word stopped(std::move(stop));
    return state_->wait(until, &stopped);
  }

  static std::uint32_t checked(std::ptrdiff_t n) {
    if (n < 0 || n > max()) detail::refuse_semaphore_count(max());
    return static_cast<std::uint32_t>(n);
  }

  handle state_;
};

using binary_semaphore = counting_semaphore<1>;  ///< std's name for one that counts to 1

}  // namespace covey
