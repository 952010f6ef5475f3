// How a lane gets more room: quota, how many items and bytes may wait in it, moves here from other lanes. Read
// docs/design/queue.md first.
#include <algorithm>
#include <chrono>
#include <covey/ipc/lane_owner.hpp>
#include <covey/ipc/ordered_lanes.hpp>
#include <thread>
#include <utility>

namespace covey::detail {

namespace {

constexpr std::chrono::milliseconds quota_hold_max{10};  // it takes microseconds

}  // namespace

quota_mover::quota_mover(const queue_view& q) : q_(q), holder_(q.header().quota_holder) {
  participant seen = 0;
  deadline until;
  for (int tries = 0;; ++tries) {
    participant now = holder_.load(std::memory_order_acquire);
    if (std::exchange(seen, now) != now) until = deadline_in(quota_hold_max);
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

// How many bytes wait in lane `l`, or more.
std::uint64_t bytes_waiting(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank()) return load_of(q, l).bytes;
  const lane_control& lane = q.lane(l);
  for (int tries = 0; tries < 8; ++tries) {
    const std::uint64_t head = settle_head(q, l);
    const std::uint64_t tail = tail_of(q, l, head);
    if (head == tail) return 0;
    const message_slot& s = q.slot(l, head);
    const std::uint64_t before = s.bytes_end.load(std::memory_order_acquire) -
                                 (s.size_and_attachments.load(std::memory_order_acquire) & size_mask);
    if (s.position.load(std::memory_order_acquire) != head) continue;
    const std::uint64_t waiting = lane.bytes_tail.load(std::memory_order_seq_cst) - before;
    if (waiting <= q.shape.bytes && lane.head.load(std::memory_order_acquire) == head) return waiting;
  }
  return q.shape.bytes;
}

struct quota_sums {
  std::uint64_t items = 0, bytes = 0;
};

// Nothing when it is not our turn any more. A lane may have more bytes than its quota: who lowered it came at the same
// time as a message, see take_bytes(). `own` has at most `own_bytes` waiting.
std::optional<quota_sums> granted(const queue_view& q, std::size_t own, std::uint64_t own_bytes) {
  quota_sums sums;
  std::uint64_t quotas = 0;
  for (std::size_t l = 0; l < q.lanes_used(); ++l) {
    const std::uint64_t quota = quota_in_bytes(q.lane(l).bytes_quota.load(std::memory_order_seq_cst));
    sums.items += gate_quota(q.lane(l).gate.load(std::memory_order_seq_cst));
    quotas += quota;
    sums.bytes += std::max(quota, l == own ? own_bytes : bytes_waiting(q, l));
  }
  if (!is_my_turn(q)) return std::nullopt;
  if (sums.items > q.shape.items || quotas > q.shape.bytes) q.damaged();
  sums.bytes = std::min(sums.bytes, q.shape.bytes);
  return sums;
}

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

bool lane_owner::gather_quota(std::uint64_t gate, std::uint64_t bytes_word, const need& wanted, std::uint64_t size) {
  lane_control& lane = q_.lane(lane_);
  const auto sums = granted(q_, lane_, wanted.bytes - size);
  if (!sums) return false;
  const std::uint64_t quota = gate_quota(gate);
  const std::uint64_t bytes_quota = quota_in_bytes(bytes_word);
  const std::uint64_t items_short = wanted.items > quota ? wanted.items - quota : 0;
  const std::uint64_t bytes_short = wanted.bytes > bytes_quota ? wanted.bytes - bytes_quota : 0;
  std::uint64_t more = std::min(q_.shape.items - sums->items, std::max(items_short, q_.shape.items / 8));
  std::uint64_t more_bytes = std::min(q_.shape.bytes - sums->bytes, std::max(bytes_short, q_.shape.bytes / 8));
  for (std::size_t l = 0; l < q_.lanes_used() && more < items_short; ++l)
    if (l != lane_) more += take_items(q_, l, items_short - more);
  for (std::size_t l = 0; l < q_.lanes_used() && more_bytes < bytes_short; ++l)
    if (l != lane_) more_bytes += take_bytes(q_, l, bytes_short - more_bytes);
  if (items_short != 0 && !lane.gate.compare_exchange_strong(gate, gate + more * one_more_waits)) return false;
  if (bytes_short != 0 && !lane.bytes_quota.compare_exchange_strong(bytes_word, bytes_word + more_bytes)) return false;
  return more >= items_short && more_bytes >= bytes_short;
}

}  // namespace covey::detail
