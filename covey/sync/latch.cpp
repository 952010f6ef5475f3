#include <covey/sync/latch.hpp>

#include <string>
#include <system_error>

namespace covey {
namespace {

std::uint32_t checked(std::ptrdiff_t n) {
  if (n < 0 || n > latch::max())
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            "covey: a latch counts from at most " + std::to_string(latch::max()));
  return static_cast<std::uint32_t>(n);
}

}  // namespace

latch::latch(std::ptrdiff_t expected) : state_(std::in_place, checked(expected)) {}

void latch::count_down(std::ptrdiff_t update) {
  const std::uint32_t n = checked(update);
  std::uint32_t seen = state_->left.load(std::memory_order_relaxed);
  do {
    if (n > seen)
      throw std::system_error(
          std::make_error_code(std::errc::invalid_argument),
          "covey: a latch is counted down by " + std::to_string(n) + " and " + std::to_string(seen) + " are left");
  } while (!state_->left.compare_exchange_weak(seen, seen - n, std::memory_order_seq_cst, std::memory_order_relaxed));
  if (seen == n) state_->waiting.wake();
}

bool latch::wait_by(const detail::deadline& until, std::stop_token stop) const {
  const detail::stop_word stopped(std::move(stop));
  return state_->waiting.wait([this] { return try_wait(); }, until, &stopped, detail::sleeping::nap_first);
}

}  // namespace covey
