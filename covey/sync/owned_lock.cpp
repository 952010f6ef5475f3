#include <covey/sync/owned_lock.hpp>

namespace covey {

owner_died::owner_died()
    : std::runtime_error(
          "covey: the owner of a mutex died inside its section; recover() it after repairing what it protects") {}

namespace detail {

bool owned_lock::try_lock() { return own_or_throw(word_.try_lock(lock_word::unrepaired_lock::refuse)); }

bool owned_lock::lock_until(const deadline& until, const stop_word* stop) {
  return own_or_throw(word_.lock(0, lock_word::unrepaired_lock::refuse, until, stop));
}

bool owned_lock::recover(std::uint32_t number, const std::function<void()>& repair) {
  return repair_and_unlock(word_.lock(number, lock_word::unrepaired_lock::take), repair) == recovery::repaired;
}

recovery owned_lock::recover(const std::function<void()>& repair, const deadline& until, const stop_word* stop) {
  return repair_and_unlock(word_.lock(0, lock_word::unrepaired_lock::take, until, stop), repair);
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
    word_.unlock_unrepaired();
    throw;
  }
  unlock();
  return recovery::repaired;
}

}  // namespace detail
}  // namespace covey
