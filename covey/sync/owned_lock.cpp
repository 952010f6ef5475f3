#include <covey/sync/owned_lock.hpp>

#include <covey/sync/deadlock.hpp>

namespace covey {

owner_died::owner_died()
    : std::runtime_error(
          "covey: the owner of a mutex died inside its section; recover() it after repairing what it protects") {}

namespace detail {
namespace {

bool own_or_throw(lock_word::outcome o) {
  if (o == lock_word::outcome::unrepaired) throw owner_died();
  return o == lock_word::outcome::locked;
}

}  // namespace

template <class Attempt>
void owned_lock::wait_for_owner(std::uint32_t number, const Attempt& attempt) {
  wait_watched(watched_ != 0, number, attempt, [&](const auto& ask) {
    if (const participant owner = word_.owner_approx(); owner != 0)
      ask(owner, [&] { return word_.owner_approx() == owner; });
  });
}

void owned_lock::lock_slowly(std::uint32_t number) {
  wait_for_owner(number, [&](const deadline& until) {
    return own_or_throw(word_.lock(lock_word::unrepaired_lock::refuse, until));
  });
}

bool owned_lock::try_lock() { return own_or_throw(word_.try_lock(lock_word::unrepaired_lock::refuse)); }

bool owned_lock::lock_until(const deadline& until, const stop_word* stop) {
  return own_or_throw(word_.lock(lock_word::unrepaired_lock::refuse, until, stop));
}

void owned_lock::tell_release() noexcept { note_release(); }

void owned_lock::unlock_unrepaired() noexcept {
  if (watched_ != 0) tell_release();
  word_.unlock_unrepaired();
}

bool owned_lock::recover(std::uint32_t number, const std::function<void()>& repair) {
  auto had = lock_word::outcome::not_now;
  wait_for_owner(number, [&](const deadline& until) {
    had = word_.lock(lock_word::unrepaired_lock::take, until);
    return had != lock_word::outcome::not_now;
  });
  return repair_and_unlock(had, repair) == recovery::repaired;
}

recovery owned_lock::recover(const std::function<void()>& repair, const deadline& until, const stop_word* stop) {
  return repair_and_unlock(word_.lock(lock_word::unrepaired_lock::take, until, stop), repair);
}

recovery owned_lock::repair_and_unlock(lock_word::outcome had, const std::function<void()>& repair) {
  if (had == lock_word::outcome::not_now) return recovery::not_in_time;
  if (had == lock_word::outcome::locked) {
    unlock();
    return recovery::was_whole;
  }
  try {
    repair();
  } catch (...) {
    unlock_unrepaired();
    throw;
  }
  unlock();
  return recovery::repaired;
}

}  // namespace detail
}  // namespace covey
