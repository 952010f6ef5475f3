#include <covey/ipc/queue_inspection.hpp>

#include <algorithm>
#include <covey/ipc/queue_side.hpp>

namespace covey::detail {

// Words are copied, then judged: what is no state counts for nothing.
std::optional<queue_sight> inspect_queue(std::uint64_t region_id) try {
  const region held = region::hold_if_counted(region_id);
  if (!held || held.kind() != region_kind::queue) return std::nullopt;
  const queue_view q = view_of(held, false);
  queue_sight s;
  s.capacity = q.shape.items;
  s.closed = (q.flags() & flag_closed) != 0;
  const std::size_t lanes = q.lanes_used();
  for (std::size_t l = 0; l < lanes; ++l) {
    const std::uint64_t tail = tail_of(q, l, q.lane(l).head.load(std::memory_order_acquire));
    s.put += tail;
    for (std::uint64_t i = 0; i < std::min(tail, q.shape.slots); ++i) {
      const slot_state state = q.state_of(q.slot(l, i).state.load(std::memory_order_acquire));
      if (state.kind() == slot_kind::queued) ++s.waiting;
      if (state.kind() == slot_kind::in_flight && alive(state.hand())) s.hands.push_back(state.hand());
    }
  }
  return s;
} catch (const std::exception&) {
  return std::nullopt;  // damaged, or being made by another thread: so the family is told nothing
}

}  // namespace covey::detail
