#include <covey/sync/sync_inspection.hpp>

#include <algorithm>
#include <covey/sync/barrier.hpp>
#include <covey/sync/condition_variable.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/once.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/sync/shared_mutex.hpp>

namespace covey::detail {

// A friend of the states, so that the look at each stands beside them and they need no verbs for it.
struct looker {
  template <class State>
  static const State& state_in(const region& r) {
    return *std::launder(reinterpret_cast<const State*>(r.data()));
  }

  // Others may write there: what is checked is what is used.
  static std::uint32_t copy_of(const volatile std::uint32_t& word) { return word; }

  // ---- locks -------------------------------------------------------------------------------------------------------

  static lock_sight see(const owned_lock& lock) {
    lock_sight s{.waited_for = lock.waited_for_approx(), .needs_recovery = lock.unrepaired_approx()};
    if (const participant owner = lock.owner_approx(); owner != 0 && alive(owner)) s.owner = owner;
    return s;
  }

  static lock_sight see(const shared_lock_state& lock) {
    lock_sight s{.needs_recovery = lock.unrepaired_approx()};
    const participant writer = lock.writer_.load(std::memory_order_acquire);
    const bool in_section = lock.dirty_.load(std::memory_order_acquire) != 0;
    const bool lives = writer != 0 && alive(writer);
    if (lives && in_section) s.owner = writer;
    for (const auto& place : lock.readers_)
      if (const participant reader = place.load(std::memory_order_acquire); reader != 0 && alive(reader))
        s.readers.push_back(reader);
    s.waited_for = (lives && !in_section) || lock.writing_.waited_for_approx() ||
                   lock.readers_wait_.sleepers_approx() != 0 || lock.writer_waits_.sleepers_approx() != 0 ||
                   lock.room_wait_.sleepers_approx() != 0;
    return s;
  }

  // ---- the others --------------------------------------------------------------------------------------------------

  static count_sight see_event(const region& r) {
    const std::uint32_t word = state_in<event::state>(r).word.load(std::memory_order_acquire);
    return {.value = word & event::flag, .of = 1, .waiters = (word & event::sleepers) != 0 ? 1 : 0};
  }

  static count_sight see_latch(const region& r) {
    const auto& s = state_in<latch::state>(r);
    return {.value = s.left.load(std::memory_order_acquire), .waiters = s.waiting.sleepers_approx()};
  }

  static count_sight see(const semaphore_state& s) {
    return {.value = s.count_approx(), .waiters = s.waiting_.sleepers_approx()};
  }

  static count_sight see(const condition_state& s) { return {.waiters = s.sleepers_.load(std::memory_order_relaxed)}; }

  static count_sight see(const permits_state& s) {
    const std::uint32_t count = std::min(copy_of(s.count_), permits_state::count_max);
    count_sight c{.of = count, .waiters = s.waiting_.sleepers_approx()};
    for (std::uint32_t i = 0; i < count; ++i) {
      const process_id owner = s.owners_[i].load(std::memory_order_acquire);
      if (owner != 0 && process_alive(owner))
        c.holders.push_back(slot_of_process(owner));
      else
        ++c.value;
    }
    return c;
  }

  static count_sight see(const barrier_state& s) {
    const barrier_state::moment now = s.now();
    count_sight c{.value = now.arrived, .of = now.expected, .broken = now.broken()};
    const std::uint32_t count = std::min(copy_of(s.parties_), barrier_state::parties_max);
    for (std::uint32_t i = 0; i < count; ++i) {
      const participant who = s.places_[i].who.load(std::memory_order_acquire);
      if (who == 0 || (who & name_flags) != 0) continue;  // free, on its way, or gone
      if (alive(who))
        c.holders.push_back(slot_of(who));
      else
        c.broken = true;  // although nobody has noticed yet
    }
    return c;
  }

  static void add_owner(count_sight& c, const watched_word& lock) {
    if (const participant owner = lock.owner_approx(); owner != 0 && alive(owner)) c.holders.push_back(slot_of(owner));
  }

  static count_sight see_once(const region& r) {
    const auto& s = state_in<once_flag::state>(r);
    count_sight c{.value = s.done.load(std::memory_order_acquire) != 0 ? 1 : 0,
                  .of = 1,
                  .waiters = s.running.waited_for_approx() ? 1 : 0};
    add_owner(c, s.running);
    return c;
  }

  static count_sight see_guarded(const region& r) {
    const auto& h = state_in<guarded_bytes::header>(r);
    count_sight c{.value = h.version.load(std::memory_order_relaxed),
                  .waiters = h.updating.waited_for_approx() ? 1 : 0};
    add_owner(c, h.updating);
    return c;
  }

  static const owned_lock& recursive_lock(const region& r) { return state_in<recursive_mutex::state>(r).lock; }
};

std::optional<lock_sight> inspect_lock(std::uint64_t region_id) {
  const region held = region::hold_if_counted(region_id);
  if (!held) return std::nullopt;
  switch (held.kind()) {
    case region_kind::mutex: return looker::see(looker::state_in<owned_lock>(held));
    case region_kind::recursive_mutex: return looker::see(looker::recursive_lock(held));
    case region_kind::shared_mutex: return looker::see(looker::state_in<shared_lock_state>(held));
    default: return std::nullopt;
  }
}

std::optional<count_sight> inspect_count(std::uint64_t region_id) {
  const region held = region::hold_if_counted(region_id);
  if (!held) return std::nullopt;
  switch (held.kind()) {
    case region_kind::event: return looker::see_event(held);
    case region_kind::latch: return looker::see_latch(held);
    case region_kind::semaphore: return looker::see(looker::state_in<semaphore_state>(held));
    case region_kind::permits: return looker::see(looker::state_in<permits_state>(held));
    case region_kind::condition: return looker::see(looker::state_in<condition_state>(held));
    case region_kind::barrier: return looker::see(looker::state_in<barrier_state>(held));
    case region_kind::once: return looker::see_once(held);
    case region_kind::guarded: return looker::see_guarded(held);
    default: return std::nullopt;
  }
}

}  // namespace covey::detail
