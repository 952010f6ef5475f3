#include <covey/sync/condition_variable.hpp>

#include <climits>
#include <covey/sync/gate.hpp>

namespace covey {
namespace detail {

condition_state::seen condition_state::look() noexcept {
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  return {deaths_seen(), changes_.load(std::memory_order_seq_cst)};
}

wake_reason condition_state::sleep(seen before, const deadline& until, const stop_word* stop) noexcept {
  wake_reason reason = wake_reason::woken;
  const auto changed = [&] { return changes_.load(std::memory_order_relaxed) != before.changes; };
  if (!look_before_sleep(changed, until)) {
    rest sleep(sleeping::nap_first);
    do reason = sleep(changes_, before.changes, before.deaths, until, stop);
    while (reason == wake_reason::woken && !changed() && deaths_seen() == before.deaths);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
  return reason;
}

// The lock orders what was changed before look() and after it: who changed it before has nothing to tell us.
void condition_state::notify(int count) noexcept {
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  changes_.fetch_add(1, std::memory_order_seq_cst);
  unpark(changes_, count);
}

}  // namespace detail

void condition_variable::notify_all() noexcept { state_->notify(INT_MAX); }

}  // namespace covey
