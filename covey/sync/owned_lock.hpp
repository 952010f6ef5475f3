/// @file
/// owned_lock: what the mutexes lie on.
#pragma once

#include <covey/sync/lock_forms.hpp>
#include <covey/sync/watched_word.hpp>
#include <functional>
#include <stdexcept>

namespace covey {

/// The owner of a lock died inside its section, and nobody has repaired what it may have left half done.
class owner_died : public std::runtime_error {
 public:
  /// Says so in one sentence.
  owner_died();
};

namespace detail {

/// A watched_word whose owner may die with something half done. Lives in shared memory.
///
/// Safety: process-safe.
/// Death:  as lock_word; what is unrepaired is told by owner_died.
class owned_lock {
 public:
  explicit owned_lock(const mutex_options& options) noexcept : word_(options) {}

  /// Blocks until locked. `number` is how errors name the lock. Throws owner_died, deadlock_detected, and
  /// std::system_error when this thread owns it.
  void lock(std::uint32_t number) { own_or_throw(word_.lock(number, lock_word::unrepaired_lock::refuse)); }

  bool try_lock();
  bool lock_until(const deadline& until, const stop_word* stop);

  void unlock() noexcept { word_.unlock(); }

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
  static bool own_or_throw(lock_word::outcome o) {
    if (o == lock_word::outcome::unrepaired) throw owner_died();
    return o == lock_word::outcome::locked;
  }
  recovery repair_and_unlock(lock_word::outcome had, const std::function<void()>& repair);

  watched_word word_;
};

}  // namespace detail
}  // namespace covey
