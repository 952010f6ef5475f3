// How a lane gets more room: quota, how many items and bytes may wait in it, moves here from other lanes. Read
// docs/design/queue.md first.
#include <covey/ipc/lane_quota.hpp>
#include <algorithm>
#include <chrono>
#include <covey/ipc/lane_owner.hpp>
#include <thread>
#include <utility>

namespace covey::detail {

namespace {

// How long who moves quota may be at it: it takes microseconds, or, while messages that came back wait, a look at each
// slot.
std::chrono::nanoseconds hold_max(const queue_view& q) {
  using namespace std::chrono_literals;
  return 10ms + 1us * (q.lanes_used() * q.shape.slots / 4);
}

}  // namespace

quota_mover::quota_mover(const queue_view& q) : q_(q), holder_(q.header().quota_holder) {
  participant seen = 0;
  deadline until;
  for (int tries = 0;; ++tries) {
    participant now = holder_.load(std::memory_order_acquire);
    if (std::exchange(seen, now) != now) until = deadline_in(hold_max(q_));
    if (now == 0 || !alive(now) || *until <= std::chrono::steady_clock::now()) {
      if (!holder_.compare_exchange_strong(now, this_name(), std::memory_order_seq_cst)) continue;
      if (now != 0) next_turn();
      return;
    }
    if (tries < 100)
      yield_cpu();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

quota_mover::~quota_mover() {
  participant me = this_name();
  holder_.compare_exchange_strong(me, 0, std::memory_order_seq_cst);
}

void quota_mover::next_turn() {
  for (std::size_t l = 0; l < q_.lanes_used(); ++l) {
    q_.lane(l).gate.fetch_add(next_turn_of_gate, std::memory_order_seq_cst);
    q_.lane(l).bytes_quota.fetch_add(next_turn_of_bytes, std::memory_order_seq_cst);
  }
}

namespace {

bool is_my_turn(const queue_view& q) { return q.header().quota_holder.load(std::memory_order_seq_cst) == this_name(); }

// How many bytes were put into lane `l` before the message at `head`; nothing when that changes, or cannot be told. A
// slot there may be reserved and not filled, perhaps for ever: then what lies before it tells.
std::optional<std::uint64_t> bytes_before(const queue_view& q, std::size_t l, std::uint64_t head) {
  const message_slot& first = q.slot(l, head);
  const std::uint64_t before = first.bytes_end.load(std::memory_order_acquire) -
                               (first.size_and_attachments.load(std::memory_order_acquire) & size_mask);
  if (first.position.load(std::memory_order_acquire) == head) return before;
  for (std::uint64_t p = head; p != 0 && head - p < q.shape.slots; --p) {
    const message_slot& s = q.slot(l, p - 1);
    const std::uint64_t end = s.bytes_end.load(std::memory_order_acquire);
    if (s.position.load(std::memory_order_acquire) == p - 1) return end;
  }
  return head < q.shape.slots ? std::optional<std::uint64_t>(0) : std::nullopt;
}

// How many bytes wait in lane `l`, or more.
std::uint64_t bytes_waiting(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank()) return load_of(q, l).bytes;
  const lane_control& lane = q.lane(l);
  for (int tries = 0; tries < 8; ++tries) {
    const std::uint64_t head = settle_head(q, l);
    if (head == tail_of(q, l, head)) return 0;
    const auto before = bytes_before(q, l, head);
    if (!before) continue;
    const std::uint64_t waiting = lane.bytes_tail.load(std::memory_order_seq_cst) - *before;
    if (waiting <= q.shape.bytes && lane.head.load(std::memory_order_acquire) == head) return waiting;
  }
  return q.shape.bytes;
}

// How many items wait in lane `l`, or more.
std::uint64_t items_waiting(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank()) return load_of(q, l).items;
  const std::uint64_t head = settle_head(q, l);
  return tail_of(q, l, head) - head;
}

// What waits in lane `l` and is not counted above, nor by its owner: messages in dead hands, for they come back before
// anybody hears of it, wherever the head is then; and those that did, but where they do not go by rank not those that
// lie from the head on.
lane_load returned_to(const queue_view& q, std::size_t l) {
  lane_load sum;
  const bool by_rank = q.shape.by_rank();
  const std::uint64_t head = by_rank ? 0 : settle_head(q, l);
  for (std::uint64_t i = 0; i < slots_touched(q, l); ++i) {
    const message_slot& s = q.slot(l, i);
    for (std::uint64_t raw = s.state.load(std::memory_order_acquire);;) {
      const slot_state state = q.state_of(raw);
      if (!is_late(state) && !(comes_back(q, state) && !alive(state.hand()))) break;
      const std::uint64_t position = s.position.load(std::memory_order_relaxed);
      const std::uint64_t size = s.size_and_attachments.load(std::memory_order_relaxed) & size_mask;
      std::atomic_thread_fence(std::memory_order_acquire);
      const std::uint64_t now = s.state.load(std::memory_order_relaxed);
      if (std::exchange(raw, now) != now) continue;  // from a dead hand it may just have come back
      if (!by_rank && is_late(state) && position >= head) break;
      ++sum.items;
      sum.bytes += std::min(size, q.shape.bytes);
      break;
    }
  }
  return sum;
}

// By rank all slots are looked at anyway. What nobody has made room for yet needs none: who makes it lowers the quotas.
bool may_have_returned(const queue_view& q) { return q.shape.by_rank() || something_came_back(q); }

// What waits in all lanes but `own` or may be put there; and what came back to any. A lane counts for its quota, or for
// what waits in it if that is more: so it is when quotas were lowered for what came back, or at the same time as a
// message came, see take_bytes(). Nothing when it is not our turn any more.
std::optional<lane_load> granted(const queue_view& q, std::size_t own) {
  const bool returned = may_have_returned(q);
  lane_load sum, quotas;
  for (std::size_t l = 0; l < q.lanes_used(); ++l) {
    const std::uint64_t items = gate_quota(q.lane(l).gate.load(std::memory_order_seq_cst));
    const std::uint64_t bytes = quota_in_bytes(q.lane(l).bytes_quota.load(std::memory_order_seq_cst));
    quotas += {items, bytes};
    if (l != own) sum += {std::max(items, items_waiting(q, l)), std::max(bytes, bytes_waiting(q, l))};
    if (returned) sum += returned_to(q, l);
  }
  if (!is_my_turn(q)) return std::nullopt;
  if (quotas.items > q.shape.items || quotas.bytes > q.shape.bytes) q.damaged();
  return sum;
}

std::uint64_t less(std::uint64_t all, std::uint64_t taken) { return all - std::min(all, taken); }

// Of `unused`, whose owner may rest: half of it, or it would be asked again for every message.
std::uint64_t share_of(std::uint64_t unused, std::uint64_t wanted) {
  return std::min(std::max(wanted, unused / 2), unused);
}

// Takes `wanted` or more, or as much as there is, from what lane `l` may have waiting and does not.
std::uint64_t take_items(const queue_view& q, std::size_t l, std::uint64_t wanted) {
  lane_control& lane = q.lane(l);
  for (;;) {
    // The head before the gate, and messages that go by rank after it: what comes meanwhile counts, or changes the
    // gate.
    const std::uint64_t head = q.shape.by_rank() ? 0 : settle_head(q, l);
    std::uint64_t gate = lane.gate.load(std::memory_order_seq_cst);
    const std::uint64_t waiting = q.shape.by_rank()
                                      ? load_of(q, l).items
                                      : static_cast<std::uint32_t>(gate_tail(gate) - static_cast<std::uint32_t>(head));
    if (waiting >= gate_quota(gate)) return 0;
    const std::uint64_t taken = share_of(gate_quota(gate) - waiting, wanted);
    if (lane.gate.compare_exchange_strong(gate, gate - taken * one_more_waits, std::memory_order_seq_cst)) return taken;
  }
}

// The owner may put meanwhile, by the quota that it had. It stores its new total before it looks at its quota again
// (publish()), we lower its quota before we look at its total again: one of us sees the other and gives way.
std::uint64_t take_bytes(const queue_view& q, std::size_t l, std::uint64_t wanted) {
  std::atomic<std::uint64_t>& quota = q.lane(l).bytes_quota;
  std::uint64_t word = quota.load(std::memory_order_relaxed);
  const std::uint64_t had = quota_in_bytes(word);
  const std::uint64_t waiting = bytes_waiting(q, l);
  if (waiting >= had) return 0;
  const std::uint64_t taken = share_of(had - waiting, wanted);
  if (!quota.compare_exchange_strong(word, word - taken, std::memory_order_seq_cst)) return 0;  // not our turn any more
  return bytes_waiting(q, l) <= had - taken ? taken : 0;
}

}  // namespace

bool lane_owner::gather_quota(std::uint64_t gate, std::uint64_t bytes_word, const need& wanted) {
  lane_control& lane = q_.lane(lane_);
  const auto others = granted(q_, lane_);
  if (!others) return false;
  const std::uint64_t quota = gate_quota(gate);
  const std::uint64_t bytes_quota = quota_in_bytes(bytes_word);
  const std::uint64_t items_short = less(wanted.items, quota);
  const std::uint64_t bytes_short = less(wanted.bytes, bytes_quota);
  // When messages came back there may be more than the queue may hold: then others have nothing to give.
  if (items_short != 0 && others->items + quota > q_.shape.items) return false;
  if (bytes_short != 0 && others->bytes + bytes_quota > q_.shape.bytes) return false;
  const std::uint64_t items_left = less(q_.shape.items, others->items + quota);
  const std::uint64_t bytes_left = less(q_.shape.bytes, others->bytes + bytes_quota);
  std::uint64_t more = std::min(items_left, std::max(items_short, q_.shape.items / 8));
  std::uint64_t more_bytes = std::min(bytes_left, std::max(bytes_short, q_.shape.bytes / 8));
  for (std::size_t l = 0; l < q_.lanes_used() && more < items_short; ++l)
    if (l != lane_) more += take_items(q_, l, items_short - more);
  for (std::size_t l = 0; l < q_.lanes_used() && more_bytes < bytes_short; ++l)
    if (l != lane_) more_bytes += take_bytes(q_, l, bytes_short - more_bytes);
  if (items_short != 0 && !lane.gate.compare_exchange_strong(gate, gate + more * one_more_waits)) return false;
  if (bytes_short != 0 && !lane.bytes_quota.compare_exchange_strong(bytes_word, bytes_word + more_bytes)) return false;
  return more >= items_short && more_bytes >= bytes_short;
}

void room_for_returned::have() {
  if (mover_ && is_my_turn(q_)) return;
  mover_.reset();
  mover_.emplace(q_);
  for (std::size_t l = 0; l < q_.lanes_used(); ++l) {
    lane_control& lane = q_.lane(l);
    std::uint64_t gate = lane.gate.load(std::memory_order_seq_cst);
    while (
        !lane.gate.compare_exchange_weak(gate, gate - gate_quota(gate) * one_more_waits, std::memory_order_seq_cst)) {
    }
    std::uint64_t word = lane.bytes_quota.load(std::memory_order_seq_cst);
    while (!lane.bytes_quota.compare_exchange_weak(word, word - quota_in_bytes(word), std::memory_order_seq_cst)) {
    }
  }
}

}  // namespace covey::detail
