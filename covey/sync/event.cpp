// One word: the flag, whether somebody sleeps, and how often the flag was set, by which a waiter knows that it was set
// and cleared again. A setter killed between its store and its wake leaves the wake to `deaths`.
#include <covey/sync/event.hpp>

#include <climits>
#include <covey/sync/gate.hpp>

namespace covey {
namespace {

constexpr std::uint32_t one_generation = 4;

bool over_since(std::uint32_t first, std::uint32_t seen) { return (seen & 1) != 0 || (seen ^ first) >= one_generation; }

}  // namespace

void event::state::set() noexcept {
  std::uint32_t seen = word.load(std::memory_order_relaxed);
  while (!word.compare_exchange_weak(seen, ((seen & ~sleepers) + one_generation) | flag, std::memory_order_release,
                                     std::memory_order_relaxed)) {
  }
  if ((seen & sleepers) != 0) detail::unpark(word, INT_MAX);
}

bool event::state::wait(const detail::deadline& until, const detail::stop_word* stop) noexcept {
  const std::uint32_t first = word.load(std::memory_order_acquire);  // pairs with set(), as the loads below
  const auto is_over = [&] { return over(first); };
  if (is_over() || detail::look_before_sleep(is_over, until)) return true;
  for (detail::rest sleep(detail::sleeping::nap_first);;) {
    const std::uint32_t deaths = detail::deaths_seen();
    if (is_over()) return true;
    const std::uint32_t seen = word.fetch_or(sleepers, std::memory_order_acquire);
    if (over_since(first, seen)) return true;
    if (sleep(word, seen | sleepers, deaths, until, stop) != detail::wake_reason::woken) return is_over();
  }
}

bool event::state::over(std::uint32_t first) const noexcept {
  return over_since(first, word.load(std::memory_order_acquire));
}

detail::wait_word event::state::arm() noexcept {
  return {&word, word.fetch_or(sleepers, std::memory_order_seq_cst) | sleepers};
}

bool event::wait_by(const detail::deadline& until, std::stop_token stop) const {
  const detail::stop_word stopped(std::move(stop));
  return state_->wait(until, &stopped);
}

}  // namespace covey
