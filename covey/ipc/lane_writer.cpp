// The owner's thread alone runs what is here; others see what it stores. Read docs/design/queue.md first.
#include <covey/ipc/lane_writer.hpp>

#include <algorithm>
#include <array>
#include <covey/ipc/queue_lanes.hpp>
#include <cstring>
#include <new>
#include <stdexcept>

namespace covey::detail {

// ---- owning a lane -------------------------------------------------------------------------------------------------

lane_writer::lane_writer(const queue_view& q) : lane_owner(q) { adopt(); }

void lane_writer::adopt() {
  const lane_control& lane = q_.lane(lane_);
  slots_ = &q_.slot(lane_, 0);
  recover_lane(q_, lane_);
  head_ = settle_head(q_, lane_);
  tail_ = tail_of(q_, lane_, head_);
  bytes_ = lane.bytes_tail.load(std::memory_order_relaxed);
  bytes_end_ = std::unique_ptr<std::uint64_t[]>(new std::uint64_t[q_.shape.slots]);
  bool first = true;
  std::uint64_t so_far = bytes_gone_ = bytes_;
  for (std::uint64_t p = head_; p < tail_; ++p) {
    const message_slot& s = slot(p);
    const bool passed_over = s.skipped.load(std::memory_order_acquire) == p + 1;
    if (passed_over) skipped_.push_back(p);
    const std::uint64_t end = s.bytes_end.load(std::memory_order_relaxed);
    if (!passed_over && s.position.load(std::memory_order_relaxed) == p && end <= bytes_) {
      if (std::exchange(first, false))
        bytes_gone_ = end - std::min(end, s.size_and_attachments.load(std::memory_order_relaxed) & size_mask);
      so_far = end;
    }
    bytes_end_[p & (q_.shape.slots - 1)] = first ? bytes_gone_ : so_far;
  }
  // Once all are gone all bytes are, whatever the slots say.
  if (head_ != tail_) bytes_end_[(tail_ - 1) & (q_.shape.slots - 1)] = bytes_;
  waiting_ = tail_ - head_ - skipped_.size();
}

// ---- room ----------------------------------------------------------------------------------------------------------

void lane_writer::see_head(std::uint64_t head) {
  if (head > tail_) q_.damaged();
  if (head <= head_) return;
  head_ = head;
  bytes_gone_ = bytes_end_[(head - 1) & (q_.shape.slots - 1)];
  while (!skipped_.empty() && skipped_.front() < head) skipped_.pop_front();
  waiting_ = tail_ - head_ - skipped_.size();
}

// As has_room(), after a look at where the head is now.
bool lane_writer::find_room(const parcel& p, std::uint64_t gate) {
  const std::uint64_t quota = quota_in_bytes(q_.lane(lane_).bytes_quota.load(std::memory_order_relaxed));
  see_head(q_.lane(lane_).head.load(std::memory_order_acquire));
  if (room_for_one(gate) && room_for_bytes(p.size, quota)) return true;
  see_head(settle_head(q_, lane_));  // takers let it lag behind
  return room_for_one(gate) && room_for_bytes(p.size, quota);
}

// Whether the slot of `position` still has an older message: that one keeps it. Mostly it was free since the last
// round.
inline bool lane_writer::is_taken(std::uint64_t position) const {
  const message_slot& s = slot(position);
  const std::uint64_t raw = s.state.load(std::memory_order_acquire);  // pairs with release()
  if (raw == q_.raw(slot_state::at(slot_kind::free, position - q_.shape.slots))) [[likely]]
    return false;
  return has_older(s, raw, position);
}

bool lane_writer::has_older(const message_slot& s, std::uint64_t raw, std::uint64_t position) const {
  const slot_state state = q_.state_of(raw);
  const auto older = [&](std::uint64_t p) { return p < position && ((p ^ position) & (q_.shape.slots - 1)) == 0; };
  switch (state.kind()) {
    case slot_kind::fresh:
      if (!q_.may_be_fresh(s, raw, position)) q_.damaged();
      return false;
    case slot_kind::free:
      if (!older(state.position())) q_.damaged();
      return false;
    case slot_kind::queued:
    case slot_kind::failed:
      if (!older(state.position())) q_.damaged();
      return true;
    case slot_kind::in_flight: return true;
    case slot_kind::being_put: break;  // there is none in such a lane
  }
  q_.damaged();
}

// Whether publish() would come to a slot that is free. Where nothing waits, the head follows over what is passed over.
bool lane_writer::has_slot() {
  const std::uint64_t touched = slots_touched(q_, lane_);
  see_head(settle_head(q_, lane_));
  const std::uint64_t end = head_ == tail_ ? tail_ + q_.shape.slots : head_ + q_.shape.slots - 2;
  for (std::uint64_t p = tail_; p < end; ++p)
    if ((p & (q_.shape.slots - 1)) >= touched || !is_taken(p)) return true;
  return false;
}

// ---- publishing ----------------------------------------------------------------------------------------------------

// The next `count` positions, for so many bytes. False: `gate` is no longer so.
inline bool lane_writer::reserve_positions(std::uint64_t gate, std::uint64_t count, std::uint64_t bytes) {
  lane_control& lane = q_.lane(lane_);
  // Before the look at the quotas: who takes quota away lowers it first and then looks here.
  if (bytes != 0) lane.bytes_tail.store(bytes_ + bytes, std::memory_order_release);
  const std::uint64_t next = gate_with_tail(gate, static_cast<std::uint32_t>(tail_ + count));
  return lane.gate.compare_exchange_strong(gate, next, std::memory_order_seq_cst, std::memory_order_relaxed);
}

// The next position, which is reserved, is not used.
void lane_writer::pass_over() noexcept {
  lane_control& lane = q_.lane(lane_);
  lane.last_skipped.store(tail_ + 1, std::memory_order_release);
  slot(tail_).skipped.store(tail_ + 1, std::memory_order_release);
  try {
    skipped_.push_back(tail_);
    --waiting_;
  } catch (const std::bad_alloc&) {
    // Then it counts for a message until the head has passed it.
  }
  advance(0);
}

// The next position is used, with so many bytes.
inline void lane_writer::advance(std::uint64_t bytes) noexcept {
  bytes_ += bytes;
  bytes_end_[tail_ & (q_.shape.slots - 1)] = bytes_;
  ++waiting_;
  ++tail_;
}

// Once the position is reserved: who finds it without a message then knows what to detach.
void lane_writer::attach_to_next(std::span<const std::uint64_t> references) {
  with_references_ = true;
  const std::uint64_t number = message_number(lane_, tail_);
  try {
    attach(q_.id, number, references);
  } catch (...) {
    detach(q_.id, number);
    q_.lane(lane_).bytes_tail.store(bytes_, std::memory_order_relaxed);
    pass_over();
    throw;
  }
}

std::optional<std::uint64_t> lane_writer::publish(const parcel& p) {
  lane_control& lane = q_.lane(lane_);
  // When every slot has a message that is in somebody's hand, there is none to come to.
  const std::uint64_t last = tail_ + q_.shape.slots;
  for (;;) {
    const std::uint64_t gate = checked_gate(tail_);
    if (tail_ == last || !has_room(p, gate)) return std::nullopt;
    if ((tail_ + 1) * sizeof(message_slot) > slots_committed_) commit_slots(1);
    const bool taken = is_taken(tail_);
    if (!reserve_positions(gate, 1, taken ? 0 : p.size)) continue;
    if (taken || !room_for_bytes(p.size, quota_in_bytes(lane.bytes_quota.load(std::memory_order_seq_cst)))) {
      lane.bytes_tail.store(bytes_, std::memory_order_relaxed);
      pass_over();
      continue;
    }
    message_slot& s = slot(tail_);
    forget_former(s);
    if (!p.references.empty()) attach_to_next(p.references);
    fill(s, tail_, bytes_ + p.size, p);
    const std::uint64_t position = tail_;
    advance(p.size);
    extent_has(p, position);
    // The commit. An exchange, so that the look for sleepers that follows comes after it.
    s.state.exchange(q_.raw(slot_state::at(slot_kind::queued, position)), std::memory_order_seq_cst);
    fetch_for_writing(&slot(tail_ + 3), sizeof(message_slot));
    return position;
  }
}

lane_writer::published lane_writer::publish_several(std::span<const parcel> parcels) {
  lane_control& lane = q_.lane(lane_);
  const std::uint64_t gate = checked_gate(tail_);
  if (parcels.empty() || !has_room(parcels.back(), gate)) return {tail_, 0};
  const auto room_now = [&] { return std::min(gate_quota(gate) - waiting_, q_.shape.slots - 2 - (tail_ - head_)); };
  if (room_now() < parcels.size()) see_head(settle_head(q_, lane_));
  const std::uint64_t room = room_now();
  const std::uint64_t bytes_used = bytes_ - bytes_gone_;
  const std::uint64_t bytes_quota =
      std::max(bytes_used, quota_in_bytes(lane.bytes_quota.load(std::memory_order_relaxed)));
  if ((tail_ + parcels.size()) * sizeof(message_slot) > slots_committed_) commit_slots(parcels.size());
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  while (count < std::min<std::uint64_t>(parcels.size(), room) &&
         bytes + parcels[count].size <= bytes_quota - bytes_used && !is_taken(tail_ + count))
    bytes += parcels[count++].size;
  if (count == 0 || !reserve_positions(gate, count, bytes)) return {tail_, 0};
  const std::uint64_t first = tail_;
  if (!room_for_bytes(bytes, quota_in_bytes(lane.bytes_quota.load(std::memory_order_seq_cst)))) {
    lane.bytes_tail.store(bytes_, std::memory_order_relaxed);
    for (std::size_t i = 0; i < count; ++i) pass_over();
    return {tail_, 0};
  }
  for (std::size_t i = 0; i < count; ++i) {
    message_slot& s = slot(tail_);
    forget_former(s);
    fill(s, tail_, bytes_ + parcels[i].size, parcels[i]);
    s.state.store(q_.raw(slot_state::at(slot_kind::queued, tail_)), std::memory_order_release);
    advance(parcels[i].size);
    fetch_for_writing(&slot(tail_ + 4), sizeof(message_slot));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // as the exchange in publish()
  return {first, count};
}

// ---- memory --------------------------------------------------------------------------------------------------------

void lane_writer::commit_slots(std::uint64_t count) {
  const std::uint64_t all = q_.shape.slots * sizeof(message_slot);
  const std::byte* const begin = reinterpret_cast<const std::byte*>(slots_);
  if (tail_ >= q_.shape.slots) slots_committed_ = all;
  while (slots_committed_ < std::min(all, (tail_ + count) * sizeof(message_slot))) {
    const std::uint64_t more = std::min(commit_step, all - slots_committed_);
    commit_pages(begin + slots_committed_, more).value();
    slots_committed_ += more;
  }
  if (slots_committed_ == all) slots_committed_ = ~0ULL;
}

}  // namespace covey::detail
