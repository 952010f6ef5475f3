#include <covey/sync/mutex.hpp>

#include <new>

namespace covey {
namespace {

using detail::lock_word;

bool own_or_throw(lock_word::outcome o) {
  if (o == lock_word::outcome::unrepaired) throw owner_died();
  return o == lock_word::outcome::locked;
}

}  // namespace

owner_died::owner_died()
    : std::runtime_error(
          "covey: the owner of a mutex died inside its section; recover() it after repairing what it protects") {}

mutex::mutex() : region_(detail::region_request{.bytes = sizeof(lock_word), .kind = detail::region_kind::mutex}) {
  new (region_.data()) lock_word;
}

void mutex::lock() { own_or_throw(shared().lock(lock_word::unrepaired_lock::refuse)); }

bool mutex::try_lock() { return own_or_throw(shared().try_lock(lock_word::unrepaired_lock::refuse)); }

bool mutex::lock_for(std::chrono::nanoseconds timeout, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return own_or_throw(shared().lock(lock_word::unrepaired_lock::refuse, detail::deadline_in(timeout), &stopped));
}

bool mutex::lock_until(std::chrono::steady_clock::time_point until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return own_or_throw(shared().lock(lock_word::unrepaired_lock::refuse, until, &stopped));
}

void mutex::unlock() noexcept { shared().unlock(); }

bool mutex::recover(const std::function<void()>& repair) {
  if (shared().lock(lock_word::unrepaired_lock::take) == lock_word::outcome::locked) {
    shared().unlock();
    return false;
  }
  try {
    repair();
  } catch (...) {
    shared().unlock_unrepaired();
    throw;
  }
  shared().unlock();
  return true;
}

bool mutex::needs_recovery_approx() const noexcept { return shared().unrepaired_approx(); }

mutex mutex::decode_handle(detail::decoder& in) {
  return mutex(detail::region::decode(in, detail::region_kind::mutex));
}

}  // namespace covey
