/// @file
/// watched_word: a lock_word whose waiters may look for deadlocks; what mutexes, guarded and once_flag lie on.
#pragma once

#include <covey/memory/lock_word.hpp>

namespace covey {

/// How a lock is made: a mutex of any kind, and what has one inside (guarded, once_flag).
struct mutex_options {
  /// lock() throws deadlock_detected when waiting would never end. Costs a few ns at each unlock, and two looks at the
  /// cells of those in the way before a long wait. So does recover(). Waits with a timeout or a stop_token may end by
  /// themselves and are not looked at.
  bool detect_deadlock = false;
};

namespace detail {

/// A lock_word that may have been asked to look for deadlocks. Lives in shared memory.
///
/// Safety: process-safe.
/// Death:  as lock_word.
class watched_word {
 public:
  explicit watched_word(const mutex_options& options = {}) noexcept : watched_(options.detect_deadlock ? 1 : 0) {}

  /// As lock_word::lock. `number` is how errors name the lock. Throws deadlock_detected too, unless it was given an end
  /// to the wait.
  lock_word::outcome lock(std::uint32_t number, lock_word::unrepaired_lock mode, const deadline& until = std::nullopt,
                          const stop_word* stop = nullptr) {
    return word_.lock_if_free() ? lock_word::outcome::locked : lock_slowly(number, mode, until, stop);
  }

  lock_word::outcome try_lock(lock_word::unrepaired_lock mode) { return word_.try_lock(mode); }

  void unlock() noexcept {
    if (watched_ != 0 && !is_forked_past()) tell_release();
    word_.unlock();
  }

  void unlock_unrepaired() noexcept;

  [[nodiscard]] bool unrepaired_approx() const noexcept { return word_.unrepaired_approx(); }
  /// Who has it now, or 0.
  [[nodiscard]] participant owner_approx() const noexcept { return word_.owner_approx(); }
  /// Whether somebody sleeps for it, or did when its owner took it.
  [[nodiscard]] bool waited_for_approx() const noexcept { return word_.waited_for_approx(); }

 private:
  lock_word::outcome lock_slowly(std::uint32_t number, lock_word::unrepaired_lock mode, const deadline& until,
                                 const stop_word* stop);
  static void tell_release() noexcept;

  lock_word word_;
  std::uint32_t watched_;  // constant
};

}  // namespace detail
}  // namespace covey
