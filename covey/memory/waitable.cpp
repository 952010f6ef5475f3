#include <covey/memory/waitable.hpp>
#include <covey/memory/park.hpp>

#include <climits>

namespace covey::detail {
namespace {

constexpr std::uint64_t one_arming = 1ULL << 32;
constexpr std::uint64_t armings_max = 1ULL << 31;  // the count starts again at 1: it differs, that is all it is for

}  // namespace

wait_word poll_word::arm() noexcept {
  std::uint64_t seen = state_.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    const auto changes = static_cast<std::uint32_t>(seen);
    next = (seen >> 32) >= armings_max ? one_arming | changes : seen + one_arming;
  } while (!state_.compare_exchange_weak(seen, next, std::memory_order_seq_cst, std::memory_order_relaxed));
  return {&futex(), static_cast<std::uint32_t>(seen)};
}

// They count as awake after they were woken, and only when nobody armed and nobody else woke in between: who is stopped
// or dies here leaves a count that is too high, never one that is too low.
void poll_word::wake_pollers() noexcept {
  std::uint64_t mine = state_.fetch_add(1, std::memory_order_seq_cst) + 1;
  unpark(futex(), INT_MAX);
  state_.compare_exchange_strong(mine, mine & (one_arming - 1), std::memory_order_seq_cst, std::memory_order_relaxed);
}

}  // namespace covey::detail
