#include <covey/sync/mutex.hpp>

namespace covey {

bool mutex::lock_for(std::chrono::nanoseconds timeout, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_until(detail::deadline_in(timeout), &stopped);
}

bool mutex::lock_until(std::chrono::steady_clock::time_point until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_until(until, &stopped);
}

}  // namespace covey
