// Words are copied, then judged: what is no state counts for nothing. What is damaged may as well be in the making by
// another thread: so the family is told nothing.
#include <covey/ipc/queue_inspection.hpp>

#include <algorithm>
#include <covey/ipc/broadcast_layout.hpp>
#include <covey/ipc/queue_side.hpp>

namespace covey::detail {
namespace {

// Whether there is a message in the slot: nobody has got it for good.
bool is_there(slot_state state) {
  return state.kind() != slot_kind::fresh && state.kind() != slot_kind::free && !state.is_done();
}

void count(queue_sight& s, slot_state state) {
  if (state.kind() == slot_kind::queued) ++s.waiting;
  if (state.kind() == slot_kind::failed) ++s.failed;
  if (state.kind() == slot_kind::in_flight && alive(state.hand())) s.hands.push_back(state.hand());
}

const char* name_of(queue_order order) {
  switch (order) {
    case queue_order::first_in: break;
    case queue_order::by_rank: return "priority_queue";
    case queue_order::newest_first: return "lifo_queue";
  }
  return "queue";
}

queue_sight see_lanes(const region& held) {
  const queue_view q = view_of(held, false);
  queue_sight s{.kind = name_of(q.shape.order),
                .capacity = q.shape.items,
                .closed = (q.flags() & flag_closed) != 0,
                .getters = q.header().sleeping_readers.load(std::memory_order_relaxed),
                .putters = q.header().sleeping_writers.load(std::memory_order_relaxed)};
  if (q.shape.by_rank()) s.put = q.header().next_number.load(std::memory_order_relaxed);
  const std::size_t lanes = q.lanes_used();
  std::uint64_t there = 0;
  for (std::size_t l = 0; l < lanes; ++l) {
    if (!q.shape.by_rank()) s.put += tail_of(q, l, q.lane(l).head.load(std::memory_order_acquire));
    for (std::uint64_t i = 0; i < slots_touched(q, l); ++i) {
      const slot_state state = q.state_of(q.slot(l, i).state.load(std::memory_order_acquire));
      count(s, state);
      there += is_there(state) ? 1 : 0;
    }
  }
  s.waiting = std::min(s.waiting, s.capacity);  // as queue_core::size()
  s.got = s.put - std::min(s.put, there);  // others put after their positions were summed
  return s;
}

broadcast_sight see_broadcast(const region& held) {
  const broadcast_memory m(held, false);
  broadcast_sight s{.capacity = m.shape.items, .closed = (m.flags() & flag_closed) != 0};
  for (std::uint64_t n = 0; n < m.shape.places(); ++n) s.kept += m.at(n).kind() == place_kind::queued ? 1 : 0;
  s.put = m.next_number();
  for (std::uint64_t n = 0; n < m.shape.subscriptions; ++n) {
    const broadcast_subscription& sub = m.subscription(n);
    const std::uint64_t id = sub.region.load(std::memory_order_acquire);
    if (id == 0 || !is_held_by_somebody(id)) continue;
    const std::uint64_t next = m.number_in(sub.cursor.load(std::memory_order_acquire));
    s.subscribers.push_back({.region = id,
                             .behind = s.put > next ? s.put - next : 0,
                             .missed = sub.missed.load(std::memory_order_relaxed)});
  }
  return s;
}

}  // namespace

std::optional<queue_sight> inspect_queue(std::uint64_t region_id) try {
  const region held = region::hold_if_counted(region_id);
  if (held && (held.kind() == region_kind::queue || held.kind() == region_kind::ordered_queue)) return see_lanes(held);
  return std::nullopt;
} catch (const std::exception&) {
  return std::nullopt;
}

std::optional<broadcast_sight> inspect_broadcast(std::uint64_t region_id) try {
  const region held = region::hold_if_counted(region_id);
  if (!held || held.kind() != region_kind::broadcast) return std::nullopt;
  return see_broadcast(held);
} catch (const std::exception&) {
  return std::nullopt;
}

}  // namespace covey::detail
