/// @file
/// permits: so many may have one at a time, and the dead's come back.
#pragma once

#include <array>
#include <chrono>
#include <covey/sync/gate.hpp>
#include <covey/sync/handle.hpp>
#include <mutex>
#include <stop_token>
#include <utility>

namespace covey {
namespace detail {

/// A table of owners. Lives in shared memory.
class permits_state {
 public:
  static constexpr std::uint32_t count_max = 4000;

  explicit permits_state(std::uint32_t count) noexcept : count_(count) {}

  bool take();
  bool wait(const deadline& until, const stop_word* stop);
  bool give() noexcept;  // false when this process has none

  /// Not more than the table holds, whatever others wrote over it.
  [[nodiscard]] std::uint32_t count() const noexcept { return count_ < count_max ? count_ : count_max; }
  [[nodiscard]] std::uint32_t held(process_id by) const noexcept;
  [[nodiscard]] std::uint32_t available() const noexcept;
  [[nodiscard]] bool any_available() const noexcept;
  wait_word arm() noexcept { return waiting_.arm(); }

 private:
  friend struct looker;

  std::uint32_t count_;  // constant
  gate waiting_;
  std::array<std::atomic<process_id>, count_max> owners_{};
};

}  // namespace detail

/// A bounded number of permits that processes own: for connections, licences, memory. When a process dies, its permits
/// come back.
///
/// A permit belongs to the process, not to the thread: any thread of it may release it. For a guard see covey::permit.
///
/// Handle:  a copy is the same permits; give it to any task, process or message.
/// Safety:  process-safe. Not fair.
/// Death:   what a dead process owned is free as soon as its death is known, and wakes who waits. Whoever waits knows
///          whom it waits for, and never waits for the dead. Nobody looks for deadlocks: a permit may come from any of
///          those who own one.
/// Limits:  at most max() permits. Taking one costs a look at each permit that is owned, in the worst case.
/// Order:   what happened before release() is visible after the acquire() that took that permit.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: examples/permits.cpp
class permits {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// The most permits.
  static constexpr std::ptrdiff_t max() noexcept { return detail::permits_state::count_max; }

  /// Makes `count` permits, all free. Throws std::system_error if there are none or more than max(), or no shared
  /// memory can be had.
  explicit permits(std::ptrdiff_t count);

  /// Blocks until this process owns one more.
  void acquire() {
    if (!state_->take()) (void)state_->wait(std::nullopt, nullptr);
  }

  /// As acquire(), but returns false when `stop` was requested while it had to wait.
  [[nodiscard]] bool acquire(std::stop_token stop) { return take_by(std::nullopt, std::move(stop)); }

  /// Whether this process owns one more now; never blocks.
  [[nodiscard]] bool try_acquire() { return state_->take(); }

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

  /// Gives one of this process's back. Throws std::system_error (operation_not_permitted) when it has none.
  void release();

  /// How many there are in all.
  [[nodiscard]] std::ptrdiff_t count() const noexcept { return state_->count(); }

  /// How many this process owns; stale at once when other threads of it use them.
  [[nodiscard]] std::ptrdiff_t owned_approx() const noexcept { return state_->held(detail::this_process_id()); }

  /// How many are free; may be stale when it returns.
  [[nodiscard]] std::ptrdiff_t available_approx() const noexcept { return state_->available(); }

  /// Whether both name the same permits.
  bool operator==(const permits& other) const noexcept { return state_ == other.state_; }

  /// For wait_any: ready while try_acquire() would get one.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[s = &*state_] { return s->any_available(); }, [s = &*state_] { return s->arm(); }};
  }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static permits decode_handle(detail::decoder& in) { return permits(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::permits_state, detail::region_kind::permits>;
  explicit permits(handle h) : state_(std::move(h)) {}
  bool take_by(const detail::deadline& until, std::stop_token stop);

  handle state_;
};

/// Owns one of some permits while it lives.
///
/// Safety: thread-compatible. Move-only.
/// Death:  as permits: what it owned comes back.
class permit {
 public:
  /// Owns nothing.
  permit() noexcept = default;

  /// Blocks until it owns one.
  explicit permit(permits from) : from_(std::move(from)) { from_->acquire(); }

  /// Owns one if there is a free one.
  permit(permits from, std::try_to_lock_t) {
    if (from.try_acquire()) from_ = std::move(from);
  }

  /// Blocks until it owns one, or `stop` was requested.
  permit(permits from, std::stop_token stop) {
    if (from.acquire(std::move(stop))) from_ = std::move(from);
  }

  /// Blocks until it owns one, `timeout` passed, or `stop` was requested.
  template <class Rep, class Period>
  permit(permits from, const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    if (from.try_acquire_for(timeout, std::move(stop))) from_ = std::move(from);
  }

  /// The same, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  permit(permits from, const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) {
    if (from.try_acquire_until(until, std::move(stop))) from_ = std::move(from);
  }

  /// Owns one that this process has acquired before.
  permit(permits from, std::adopt_lock_t) : from_(std::move(from)) {}

  permit(permit&& other) noexcept : from_(std::exchange(other.from_, std::nullopt)) {}

  /// Gives back what it owned.
  permit& operator=(permit&& other) noexcept {
    if (this != &other) {
      reset();
      from_ = std::exchange(other.from_, std::nullopt);
    }
    return *this;
  }
  ~permit() { reset(); }

  /// Gives it back, if it owns one.
  void reset() noexcept;

  /// Whether it owns one.
  explicit operator bool() const noexcept { return from_.has_value(); }

 private:
  std::optional<permits> from_;
};

}  // namespace covey
