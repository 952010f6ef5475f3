#include <covey/sync/semaphore.hpp>

#include <algorithm>
#include <climits>
#include <string>
#include <system_error>

namespace covey::detail {

bool semaphore_state::add(std::uint32_t n, std::uint32_t most) noexcept {
  std::uint32_t seen = count_.load(std::memory_order_relaxed);
  do {
    if (seen > most || n > most - seen) return false;
  } while (!count_.compare_exchange_weak(seen, seen + n, std::memory_order_seq_cst, std::memory_order_relaxed));
  waiting_.wake(static_cast<int>(std::min<std::uint32_t>(n, INT_MAX)));
  return true;
}

bool semaphore_state::wait(const deadline& until, const stop_word* stop) {
  return waiting_.wait([this] { return take(); }, until, stop, sleeping::nap_first);
}

void refuse_semaphore_count(std::ptrdiff_t most) {
  throw std::system_error(std::make_error_code(std::errc::value_too_large),
                          "covey: a semaphore counts from 0 to " + std::to_string(most) + ", its max()");
}

}  // namespace covey::detail
