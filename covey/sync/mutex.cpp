#include <covey/sync/mutex.hpp>

namespace covey {

bool mutex::lock_by(const detail::deadline& until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_until(until, &stopped);
}

}  // namespace covey
