/// @file
/// once_flag, call_once: a function that one of many runs.
#pragma once

#include <chrono>
#include <concepts>
#include <covey/sync/handle.hpp>
#include <covey/sync/watched_word.hpp>
#include <functional>
#include <stop_token>
#include <utility>

namespace covey {
namespace detail {
class once_run;
}

/// Says whether a function has run to its end in one of many threads or processes; std::once_flag's contract.
///
/// Handle:  a copy is the same flag; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   whoever is killed in the middle has not run it: the next one runs it, from the start. Who waits knows whom
///          it waits for, and goes on by itself; with mutex_options::detect_deadlock it finds that this would be for
///          ever: functions of two flags that wait for each other's flag.
/// Order:   what the function did is visible after every call_once that returned.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/once_test.cpp
class once_flag {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Nothing has run. Throws std::system_error if no shared memory can be had.
  once_flag() : once_flag(mutex_options()) {}

  /// The same, with options.
  explicit once_flag(const mutex_options& options) : state_(std::in_place, options) {}

  /// Whether a function has run to its end.
  [[nodiscard]] bool done() const noexcept { return state_->done.load(std::memory_order_acquire) != 0; }

  /// Its number among the family's objects that live now; deadlock_detected tells locks by it.
  [[nodiscard]] std::uint32_t number() const noexcept { return state_.number(); }

  /// Whether both name the same flag.
  bool operator==(const once_flag& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static once_flag decode_handle(detail::decoder& in) { return once_flag(handle::decode(in)); }

 private:
  friend struct detail::looker;
  friend class detail::once_run;

  struct state {
    explicit state(const mutex_options& options) noexcept : running(options) {}
    detail::watched_word running;
    std::atomic<std::uint32_t> done{0};
  };
  using handle = detail::handle_on<state, detail::region_kind::once>;
  explicit once_flag(handle h) : state_(std::move(h)) {}

  handle state_;
};

namespace detail {

/// The whole of call_once.
class once_run {
 public:
  /// False when another runs a function with this flag until `until` or `stop`.
  template <class F, class... Args>
  static bool by(const once_flag& flag, const deadline& until, const stop_word* stop, F&& f, Args&&... args) {
    once_flag::state& s = *flag.state_;
    if (flag.done()) return true;
    // What the dead left half done is the function's own affair: it begins anew.
    if (s.running.lock(flag.number(), lock_word::unrepaired_lock::take, until, stop) == lock_word::outcome::not_now)
      return flag.done();
    struct unlocking {
      watched_word& lock;
      ~unlocking() { lock.unlock(); }
    } const when_left{s.running};
    if (flag.done()) return true;
    std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    s.done.store(1, std::memory_order_release);  // pairs with done()
    return true;
  }
};

}  // namespace detail

/// Runs `f(args…)` unless a function has run to its end with this flag; waits while another runs one. What `f` throws
/// goes to this caller, and the next one runs again. Throws std::system_error when `f` calls it with the same flag, and
/// deadlock_detected if the flag was made to.
template <class F, class... Args>
  requires std::invocable<F, Args...>
void call_once(const once_flag& flag, F&& f, Args&&... args) {
  (void)detail::once_run::by(flag, std::nullopt, nullptr, std::forward<F>(f), std::forward<Args>(args)...);
}

/// As call_once(), but returns false when `stop` was requested while another ran its function; else true: one has run
/// to its end.
template <class F, class... Args>
  requires std::invocable<F, Args...>
[[nodiscard]] bool call_once(const once_flag& flag, std::stop_token stop, F&& f, Args&&... args) {
  const detail::stop_word stopped(std::move(stop));
  return detail::once_run::by(flag, std::nullopt, &stopped, std::forward<F>(f), std::forward<Args>(args)...);
}

/// As call_once(), but returns false when `timeout` passed while another ran its function: it ends the wait, not `f`.
template <class Rep, class Period, class F, class... Args>
  requires std::invocable<F, Args...>
[[nodiscard]] bool call_once_for(const once_flag& flag, const std::chrono::duration<Rep, Period>& timeout, F&& f,
                                 Args&&... args) {
  return detail::once_run::by(flag, detail::deadline_in(timeout), nullptr, std::forward<F>(f),
                              std::forward<Args>(args)...);
}

/// As call_once_for, with a point in time. A clock that is set while this waits is not followed.
template <class Clock, class Duration, class F, class... Args>
  requires std::invocable<F, Args...>
[[nodiscard]] bool call_once_until(const once_flag& flag, const std::chrono::time_point<Clock, Duration>& until, F&& f,
                                   Args&&... args) {
  return detail::once_run::by(flag, detail::steady(until), nullptr, std::forward<F>(f), std::forward<Args>(args)...);
}

}  // namespace covey
