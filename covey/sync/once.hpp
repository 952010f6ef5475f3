/// @file
/// once_flag, call_once: a function that one of many runs.
#pragma once

#include <covey/memory/lock_word.hpp>
#include <covey/sync/handle.hpp>
#include <functional>
#include <utility>

namespace covey {

/// Says whether a function has run to its end in one of many threads or processes; std::once_flag's contract.
///
/// Handle:  a copy is the same flag; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   whoever is killed in the middle has not run it: the next one runs it, from the start. Who waits knows whom
///          it waits for, and goes on by itself.
/// Order:   what the function did is visible after every call_once that returned.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/once_test.cpp
class once_flag {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Nothing has run. Throws std::system_error if no shared memory can be had.
  once_flag() : state_(std::in_place) {}

  /// Whether a function has run to its end.
  [[nodiscard]] bool done() const noexcept { return state_->done.load(std::memory_order_acquire) != 0; }

  /// Whether both name the same flag.
  bool operator==(const once_flag& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static once_flag decode_handle(detail::decoder& in) { return once_flag(handle::decode(in)); }

 private:
  friend struct detail::looker;
  template <class F, class... Args>
  friend void call_once(const once_flag& flag, F&& f, Args&&... args);

  struct state {
    detail::lock_word running;
    std::atomic<std::uint32_t> done{0};
  };
  using handle = detail::handle_on<state, detail::region_kind::once>;
  explicit once_flag(handle h) : state_(std::move(h)) {}

  handle state_;
};

/// Runs `f(args…)` unless a function has run to its end with this flag; waits while another runs one. What `f` throws
/// goes to this caller, and the next one runs again. Throws std::system_error when `f` calls it with the same flag.
template <class F, class... Args>
void call_once(const once_flag& flag, F&& f, Args&&... args) {
  once_flag::state& s = *flag.state_;
  if (flag.done()) return;
  // What the dead left half done is the function's own affair: it begins anew.
  (void)s.running.lock(detail::lock_word::unrepaired_lock::take);
  struct unlocking {
    detail::lock_word& lock;
    ~unlocking() { lock.unlock(); }
  } const when_left{s.running};
  if (flag.done()) return;
  std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
  s.done.store(1, std::memory_order_release);  // pairs with done()
}

}  // namespace covey
