#include <covey/sync/recursive_mutex.hpp>

namespace covey {

// The caller owns it: whether it may once more.
bool recursive_mutex::lock_again() {
  const std::uint32_t depth = state_->depth.load(std::memory_order_relaxed);
  if (depth >= depth_max - 1) return false;
  state_->depth.store(depth + 1, std::memory_order_relaxed);
  return true;
}

void recursive_mutex::lock() {
  if (!state_->lock.is_mine()) {
    state_->lock.lock(state_.number());
    begin();
  } else if (!lock_again()) {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                            "covey: a recursive_mutex is locked a million times by one thread");
  }
}

bool recursive_mutex::try_lock() {
  if (state_->lock.is_mine()) return lock_again();
  if (!state_->lock.try_lock()) return false;
  begin();
  return true;
}

bool recursive_mutex::lock_by(const detail::deadline& until, std::stop_token stop) {
  if (state_->lock.is_mine()) return lock_again();
  const detail::stop_word stopped(std::move(stop));
  if (!state_->lock.lock_until(until, &stopped)) return false;
  begin();
  return true;
}

void recursive_mutex::unlock() noexcept {
  if (detail::is_forked_past()) return;
  const std::uint32_t depth = state_->depth.load(std::memory_order_relaxed);
  if (depth == 0)
    state_->lock.unlock();
  else
    state_->depth.store(depth - 1, std::memory_order_relaxed);
}

// A dead owner may have locked it several times.
std::function<void()> recursive_mutex::beginning(const std::function<void()>& repair) {
  return [this, &repair] {
    begin();
    repair();
  };
}

bool recursive_mutex::recover(const std::function<void()>& repair) {
  return !state_->lock.is_mine() && state_->lock.recover(state_.number(), beginning(repair));
}

recovery recursive_mutex::recover_by(const detail::deadline& until, std::stop_token stop,
                                     const std::function<void()>& repair) {
  if (state_->lock.is_mine()) return recovery::was_whole;
  const detail::stop_word stopped(std::move(stop));
  return state_->lock.recover(beginning(repair), until, &stopped);
}

}  // namespace covey
