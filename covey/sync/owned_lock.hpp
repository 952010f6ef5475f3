/// @file
/// owned_lock: what the mutexes lie on.
#pragma once

#include <covey/memory/lock_word.hpp>
#include <covey/sync/lock_forms.hpp>
#include <functional>
#include <stdexcept>

namespace covey {

/// The owner of a lock died inside its section, and nobody has repaired what it may have left half done.
class owner_died : public std::runtime_error {
 public:
  /// Says so in one sentence.
  owner_died();
};

/// How a mutex is made.
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
/// Death:  as lock_word; what is unrepaired is told by owner_died.
class owned_lock {
 public:
  explicit owned_lock(const mutex_options& options) noexcept : watched_(options.detect_deadlock ? 1 : 0) {}

  /// Blocks until locked. `number` is how errors name the lock. Throws owner_died, deadlock_detected, and
  /// std::system_error when this thread owns it.
  void lock(std::uint32_t number) {
    if (!word_.lock_if_free()) lock_slowly(number);
  }

  bool try_lock();
  bool lock_until(const deadline& until, const stop_word* stop);

  void unlock() noexcept {
    if (watched_ != 0 && !is_forked_past()) tell_release();
    word_.unlock();
  }

  /// The whole of mutex::recover. Throws deadlock_detected as lock().
  bool recover(std::uint32_t number, const std::function<void()>& repair);
  /// The same with an end to the wait.
  recovery recover(const std::function<void()>& repair, const deadline& until, const stop_word* stop);

  [[nodiscard]] bool unrepaired_approx() const noexcept { return word_.unrepaired_approx(); }
  /// Who has it now, or 0.
  [[nodiscard]] participant owner_approx() const noexcept { return word_.owner_approx(); }
  /// Whether somebody sleeps for it, or did when its owner took it.
  [[nodiscard]] bool waited_for_approx() const noexcept { return word_.waited_for_approx(); }
  [[nodiscard]] bool is_mine() const noexcept { return word_.owner_approx() == thread_name && thread_name != 0; }

 private:
  void lock_slowly(std::uint32_t number);
  template <class Attempt>
  void wait_for_owner(std::uint32_t number, const Attempt& attempt);
  recovery repair_and_unlock(lock_word::outcome had, const std::function<void()>& repair);
  void unlock_unrepaired() noexcept;
  static void tell_release() noexcept;

  lock_word word_;
  std::uint32_t watched_;  // constant
};

}  // namespace detail
}  // namespace covey
