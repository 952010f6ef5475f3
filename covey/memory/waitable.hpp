/// @file
/// What lets an object be one of several that somebody waits for. docs/design/waiting.md tells how.
#pragma once

#include <atomic>
#include <cstdint>

namespace covey::detail {

/// Where to sleep for an object, and what stands there as long as nothing has happened. Without a word, the deaths of
/// the family alone can change the object.
struct wait_word {
  const std::atomic<std::uint32_t>* word = nullptr;
  std::uint32_t expected = 0;
};

/// What poll() takes instead. One that is `needed` tells what neither a word nor a death tells.
struct wait_descriptor {
  int fd = -1;
  short events = 0;
  bool needed = false;
};

/// How an object is waited for together with others. `ready()` says whether its own wait would return at once, and
/// takes nothing; `arm()` says where to sleep, and lets whoever changes the object know that somebody does, until the
/// word has changed. The order is arm, ready, sleep. Both are called by the thread that waits, while the handle lives.
///
/// An object is made waitable by a member `wait_hook() const`, which returns one of these:
///
///     auto wait_hook() const {
///       return detail::wait_hook{[s = &*state_] { return s->has_some(); }, [s = &*state_] { return s->pollers.arm();
///       }};
///     }
///
/// and by `pollers.wake()` wherever a change may make it ready; a gate has that inside.
/// What has a descriptor may have a class of its own as its hook, with `polled()`, and with `settle()` when ready()
/// comes true a moment later than the descriptor; and `must_look_again()` while nothing would wake who waits.
template <class Ready, class Arm>
struct wait_hook {
  Ready ready;
  Arm arm;
};

/// Where those sleep who wait for an object among others: apart from those who wait for it alone, so that they take no
/// wake from these. All of them wake at each change. Lives in shared memory; all zero is nobody.
///
/// Safety: process-safe.
/// Death:  a sleeper that is killed costs one needless system call. A waker that dies before its wake leaves that to
///         `deaths`; one that is stopped there, to the next waker.
class poll_word {
 public:
  /// The caller will sleep while the word is as this says.
  wait_word arm() noexcept;

  /// After each change, made by a sequentially consistent operation, that may make the object ready.
  void wake() noexcept {
    if ((state_.load(std::memory_order_seq_cst) >> 32) != 0) wake_pollers();  // pairs with arm()
  }

 private:
  void wake_pollers() noexcept;

  // Little-endian: the lower half is the first.
  [[nodiscard]] const std::atomic<std::uint32_t>& futex() const noexcept {
    const void* const half = &state_;
    return *static_cast<const std::atomic<std::uint32_t>*>(half);
  }

  std::atomic<std::uint64_t> state_{0};  // how often it was armed since all were awake << 32 | changes, the futex
};

}  // namespace covey::detail
