#include <covey/memory/lock_word.hpp>

#include <climits>
#include <system_error>

namespace covey::detail {
namespace {

constexpr bool is_owned(std::uint64_t word) { return (word & 1023) != 0; }

}  // namespace

lock_word::outcome lock_word::try_lock(unrepaired_lock mode) {
  const participant me = this_name();
  for (;;) {
    std::uint64_t seen = word_.load(std::memory_order_acquire);
    if (is_owned(seen)) {
      if (alive(seen)) return outcome::not_now;
      bury(seen);
      continue;
    }
    const bool unrepaired = (seen & name_unrepaired) != 0;
    if (unrepaired && mode == unrepaired_lock::refuse) return outcome::unrepaired;
    if (word_.compare_exchange_weak(seen, me | (seen & name_flags), std::memory_order_acquire,
                                    std::memory_order_relaxed)) {
      ++locks_owned;
      return unrepaired ? outcome::unrepaired : outcome::locked;
    }
  }
}

lock_word::outcome lock_word::lock_slowly(unrepaired_lock mode, const deadline& until, const stop_word* stop) {
  const participant me = this_name();
  std::uint64_t slept =
      0;  // name_waiters once we have slept: others may sleep too, and only the word can tell who unlocks
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    std::uint64_t seen = word_.load(std::memory_order_acquire);
    if (!is_owned(seen)) {
      const bool unrepaired = (seen & name_unrepaired) != 0;
      if (unrepaired && mode == unrepaired_lock::refuse) return outcome::unrepaired;
      if (word_.compare_exchange_weak(seen, me | (seen & name_flags) | slept, std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
        ++locks_owned;
        return unrepaired ? outcome::unrepaired : outcome::locked;
      }
      continue;
    }
    if (((seen ^ me) & ~name_flags) == 0)
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "covey: lock a mutex that this thread owns");
    if (!alive(seen)) {
      bury(seen);
      continue;
    }
    if (slept == 0 && look_again(seen)) continue;
    const std::uint64_t waiting = seen | name_waiters;
    if (seen != waiting && !word_.compare_exchange_weak(seen, waiting, std::memory_order_relaxed)) continue;
    slept = name_waiters;
    if (park(futex(), static_cast<std::uint32_t>(waiting), deaths, until, stop) != wake_reason::woken) {
      unpark(futex(), 1);  // a wake meant for one of us may have come to us just now
      return outcome::not_now;
    }
  }
}

// The owner is dead: mark the state unrepaired and let everybody look.
bool lock_word::bury(std::uint64_t seen) noexcept {
  if (!word_.compare_exchange_strong(seen, name_unrepaired, std::memory_order_acq_rel)) return false;
  if ((seen & name_waiters) != 0) unpark(futex(), INT_MAX);
  return true;
}

// Whether the word changed within about the time of a wake. Seldom looks: each takes the word's cache line from the
// owner, who may unlock and lock again many times while it has it.
bool lock_word::look_again(std::uint64_t seen) const noexcept {
  constexpr int looks = 6, pauses_between = 16;
  for (int look = 0; can_spin() && look < looks; ++look) {
    for (int i = 0; i < pauses_between; ++i) pause_cpu();
    if (word_.load(std::memory_order_relaxed) != seen) return true;
  }
  return false;
}

void lock_word::unlock_unrepaired() noexcept {
  if (is_forked_past()) return;
  if (locks_owned != 0) --locks_owned;
  word_.store(name_unrepaired, std::memory_order_release);
  unpark(futex(), INT_MAX);
}

bool lock_word::unrepaired_approx() const noexcept {
  const std::uint64_t seen = word_.load(std::memory_order_acquire);
  return (seen & name_unrepaired) != 0 || (is_owned(seen) && !alive(seen));
}

participant lock_word::owner_approx() const noexcept {
  const std::uint64_t seen = word_.load(std::memory_order_acquire);
  return is_owned(seen) ? seen & ~name_flags : 0;
}

}  // namespace covey::detail
