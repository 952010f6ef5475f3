#include <covey/sync/mutex.hpp>

namespace covey {

bool mutex::lock_by(const detail::deadline& until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_until(until, &stopped);
}

recovery mutex::recover_by(const detail::deadline& until, std::stop_token stop, const std::function<void()>& repair) {
  const detail::stop_word stopped(std::move(stop));
  return state_->recover(repair, until, &stopped);
}

}  // namespace covey
