/// @file
/// lock_word: the lock inside shared structures. Its states are drawn in docs/design/identity.md.
#pragma once

#include <covey/memory/park.hpp>

namespace covey::detail {

/// Lives in shared memory; all zero is free and whole.
///
/// Safety: process-safe.
/// Death:  a dead owner leaves the word unrepaired; the next locker learns it.
class lock_word {
 public:
  enum class outcome { locked, unrepaired, not_now };

  /// What to do when an owner died: say `unrepaired` and do not lock, or say so and lock, for repair.
  enum class unrepaired_lock { refuse, take };

  /// Blocks until locked, `until`, or `stop`. `not_now` is a timeout or a stop. Throws std::system_error
  /// (resource_deadlock_would_occur) when this thread owns it already.
  outcome lock(unrepaired_lock mode, const deadline& until = std::nullopt, const stop_word* stop = nullptr) {
    return lock_if_free() ? outcome::locked : lock_slowly(mode, until, stop);
  }

  /// Locks if it is free and whole; never blocks, and does not look for more.
  bool lock_if_free() {
    std::uint64_t expected = 0;
    if (!word_.compare_exchange_strong(expected, this_name(), std::memory_order_acquire, std::memory_order_relaxed))
      return false;
    ++locks_owned;
    return true;
  }

  /// Never blocks.
  outcome try_lock(unrepaired_lock mode);

  /// Frees it and marks it whole. The caller owns it; does nothing in a child forked past covey, whose parent does.
  void unlock() noexcept {
    if (is_forked_past()) return;
    if (locks_owned != 0) --locks_owned;
    if ((word_.exchange(0, std::memory_order_release) & name_waiters) != 0) unpark(futex(), 1);
  }

  /// As unlock(), but leaves it marked unrepaired.
  void unlock_unrepaired() noexcept;

  [[nodiscard]] bool unrepaired_approx() const noexcept;

  /// Whether somebody sleeps for it, or did when its owner took it.
  [[nodiscard]] bool waited_for_approx() const noexcept {
    return (word_.load(std::memory_order_relaxed) & name_waiters) != 0;
  }

  /// Who owns it now, or 0.
  [[nodiscard]] participant owner_approx() const noexcept;

 private:
  outcome lock_slowly(unrepaired_lock mode, const deadline& until, const stop_word* stop);
  bool bury(std::uint64_t seen) noexcept;
  bool look_again(std::uint64_t seen) const noexcept;

  // The half of the word that holds the flags and the cell: little-endian, so the first.
  [[nodiscard]] const std::atomic<std::uint32_t>& futex() const noexcept {
    const void* const half = &word_;
    return *static_cast<const std::atomic<std::uint32_t>*>(half);
  }

  std::atomic<std::uint64_t> word_{0};
};

}  // namespace covey::detail
