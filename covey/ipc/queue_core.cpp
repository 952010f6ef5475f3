// A queue as a whole: making, closing, counting, roles. Putting is in queue_put.cpp, getting in queue_get.cpp; what
// happens to slots in queue_lanes.cpp and lane_writer.cpp. Read docs/design/queue.md first.
#include <covey/ipc/queue_core.hpp>

#include <algorithm>
#include <bit>
#include <covey/ipc/queue_waits.hpp>
#include <new>
#include <stdexcept>

namespace covey::detail {
namespace {

constexpr std::uint64_t bytes_max = 990ULL << 30;
constexpr std::uint64_t lanes_max = 256;

// Address space for the slots of all lanes; they take memory as they are used.
std::uint64_t slots_bytes_wanted() { return std::max<std::uint64_t>(256ULL << 20, family.arena_bytes / 1024); }

std::uint64_t bytes_of_each_slot(const queue_shape& s) {
  return sizeof(message_slot) + (s.by_rank() ? sizeof(order_node) : 0);
}

queue_shape shape_for(const queue_options& options, queue_order order) {
  if (options.items == 0 || options.items > (1U << 24))
    throw std::invalid_argument("covey: a queue holds 1 to 16 million items");
  if (options.bytes == 0 || options.bytes > bytes_max)
    throw std::invalid_argument("covey: a queue holds 1 byte to 990 GiB");
  if (options.deliveries_max > 126) throw std::invalid_argument("covey: a queue counts at most 126 deliveries");
  queue_shape s;
  s.items = options.items;
  s.bytes = options.bytes;
  s.slots = std::bit_ceil(options.items + std::max<std::size_t>(64, options.items / 4));
  s.order = order;
  s.lanes = std::clamp<std::uint64_t>(slots_bytes_wanted() / (s.slots * bytes_of_each_slot(s)), 8, lanes_max);
  s.slots_at = slots_offset(s.lanes);
  s.nodes_at = s.by_rank() ? s.slots_at + s.lanes * s.slots * sizeof(message_slot) : 0;
  s.deliveries_max = options.deliveries_max;
  s.on_death = options.on_death;
  return s;
}

region_kind kind_for(queue_order order) {
  return order == queue_order::first_in ? region_kind::queue : region_kind::ordered_queue;
}

// The kind tells those apart that go by rank. Whether it is damaged, its verbs tell: what brought it here is not.
bool goes_by_another(const region& queue, queue_order order) {
  if (order == queue_order::first_in || is_damaged(queue.id())) return false;
  try {
    return view_of(queue).shape.order != order;
  } catch (const queue_damaged&) {
    return false;
  }
}

}  // namespace

queue_core::queue_core(const queue_options& options, queue_order order) {
  const queue_shape shape = shape_for(options, order);
  region_ = region({.bytes = shape.slots_at + shape.lanes * shape.slots * bytes_of_each_slot(shape),
                    .committed = shape.slots_at,
                    .kind = kind_for(order)});
  auto& h = *new (region_.data()) queue_header{};
  h.shape = shape;
  h.shape_check = shape_check_of(queue_key(region_.id()), shape);
  h.flags.store(checked_flags(queue_key(region_.id()), 0), std::memory_order_relaxed);
  h.swept_deaths.store(deaths_seen(), std::memory_order_relaxed);
  h.keepers_told.store(keepers_seen(), std::memory_order_relaxed);
}

queue_core queue_core::decode(decoder& in, queue_order order) {
  queue_core core(region::decode(in, kind_for(order)));
  if (core.region_ && goes_by_another(core.region_, order)) throw bad_message("covey: a queue of another order");
  return core;
}

bool queue_core::join(const deadline& until, const stop_word* stop) const {
  const queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  for (;;) {
    const std::uint32_t deaths = sweep_if_needed(side.q);
    if (idle(side.q)) return true;
    if ((side.q.flags() & flag_readers_lost) != 0) throw no_consumers();
    if (out_of_time(until, stop)) return false;
    sleep_unless(h.idle, h.sleeping_joiners, deaths, until, stop,
                 [&] { return idle(side.q) || (side.q.flags() & flag_readers_lost) != 0; });
  }
}

void queue_core::close(close_mode mode) const {
  const queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  sweep_if_needed(side.q);  // perhaps nobody comes after us
  const bool discard = mode == close_mode::discard;
  side.q.change_flags(discard ? flag_closed | flag_discarded : flag_closed, 0);
  if (discard) discard_all(side.q);
  wake_everybody(h);
}

bool queue_core::ready() const {
  try {
    const queue_side& side = side_of(region_);
    sweep_if_needed(side.q);
    const std::uint32_t flags = side.q.flags();
    if ((flags & flag_closed) != 0 || anything_to_take(side.q)) return true;
    return (flags & flag_writers_lost) != 0 && (!side.hand.empty() || idle(side.q));
  } catch (const queue_damaged&) {
    return true;  // get() says so
  }
}

wait_word queue_core::arm() const {
  try {
    return side_of(region_).q.header().pollers.arm();
  } catch (const queue_damaged&) {
    return {};
  }
}

wait_word queue_core::arm_room() const {
  try {
    return side_of(region_).q.header().room_pollers.arm();
  } catch (const queue_damaged&) {
    return {};
  }
}

bool queue_core::closed() const { return (side_of(region_).q.flags() & flag_closed) != 0; }

std::size_t queue_core::size() const {
  const queue_side& side = side_of(region_);
  sweep_if_needed(side.q);
  // What came back and is one too many still counts as in flight.
  return std::min<std::size_t>(count_waiting(side.q), side.q.shape.items);
}

std::size_t queue_core::size_approx() const noexcept {
  try {
    const queue_view& q = side_of(region_).q;
    return std::min<std::size_t>(count_waiting_approx(q), q.shape.items);
  } catch (...) {
    return 0;  // damaged: nothing can be got
  }
}

std::size_t queue_core::capacity() const noexcept {
  try {
    return side_of(region_).q.shape.items;
  } catch (...) {
    return 0;
  }
}

void queue_core::take_role(queue_role role) const { enter_role(roles_of(side_of(region_).q), role); }

void queue_core::leave_role(queue_role role) const noexcept {
  if (!family.takes_part) return;  // forked past covey: it is the parent's
  try {
    const queue_side& side = side_of(region_);
    if (leave_role_of(roles_of(side.q), role)) wake_everybody(side.q.header());
  } catch (...) {
    // The queue is damaged: there is nobody left to tell.
  }
}

}  // namespace covey::detail
