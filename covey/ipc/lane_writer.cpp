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
  const lane_control& lane = *control_;
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
}

// ---- room ----------------------------------------------------------------------------------------------------------

void lane_writer::see_head(std::uint64_t head) {
  if (head > tail_) q_.damaged();
  if (head <= head_) return;
  head_ = head;
  bytes_gone_ = bytes_end_[(head - 1) & (q_.shape.slots - 1)];
  while (!skipped_.empty() && skipped_.front() < head) skipped_.pop_front();
  set_limits();
}

void lane_writer::see_quotas(std::uint64_t gate) {
  gate_ = gate;
  bytes_quota_ = control_->bytes_quota.load(std::memory_order_relaxed);
  if (tail_ >= slots_ready_) commit_slots();
  set_limits();
}

void lane_writer::set_limits() noexcept {
  const std::uint64_t quota = gate_quota(gate_);
  tail_limit_ = std::min({head_ + q_.shape.slots - 2, tail_ + quota - std::min(quota, waiting()), slots_ready_});
  bytes_limit_ = bytes_gone_ + quota_in_bytes(bytes_quota_);
}

// As has_room(), after a look at the quotas and at where the head is now.
bool lane_writer::find_room(const parcel& p, std::uint64_t gate) {
  see_quotas(gate);
  if (fits(p)) return true;
  see_head(control_->head.load(std::memory_order_acquire));
  if (fits(p)) return true;
  see_head(settle_head(q_, lane_));  // takers let it lag behind
  return fits(p);
}

// Whether the slot of `position` still has an older message: that one keeps it. Mostly it was free since the last
// round.
inline bool lane_writer::is_taken(const message_slot& s, std::uint64_t position) const {
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
    if ((p & (q_.shape.slots - 1)) >= touched || !is_taken(slot(p), p)) return true;
  return false;
}

// ---- publishing ----------------------------------------------------------------------------------------------------

// The next `count` positions, for so many bytes. False: the gate is not what was last seen.
inline bool lane_writer::reserve_positions(std::uint64_t count, std::uint64_t bytes) {
  lane_control& lane = *control_;
  // Before the look at the quotas: who takes quota away lowers it first and then looks here.
  if (bytes != 0) lane.bytes_tail.store(bytes_ + bytes, std::memory_order_release);
  const std::uint64_t next = gate_with_tail(gate_, static_cast<std::uint32_t>(tail_ + count));
  if (!lane.gate.compare_exchange_strong(gate_, next, std::memory_order_seq_cst, std::memory_order_relaxed)) {
    if (bytes != 0) lane.bytes_tail.store(bytes_, std::memory_order_relaxed);  // they do not wait
    see_quotas(gate_now());
    return false;
  }
  gate_ = next;
  return true;
}

// After reserve_positions(): whether the quota in bytes still has room for them.
inline bool lane_writer::may_have_bytes(std::uint64_t bytes) {
  const std::uint64_t quota = control_->bytes_quota.load(std::memory_order_seq_cst);
  if (quota == bytes_quota_) [[likely]]
    return true;
  bytes_quota_ = quota;
  set_limits();
  return bytes_ + bytes <= bytes_limit_;
}

// The next position, which is reserved, is not used.
void lane_writer::pass_over() noexcept {
  lane_control& lane = *control_;
  lane.last_skipped.store(tail_ + 1, std::memory_order_release);
  slot(tail_).skipped.store(tail_ + 1, std::memory_order_release);
  try {
    skipped_.push_back(tail_);
  } catch (const std::bad_alloc&) {
    // Then it counts for a message until the head has passed it.
  }
  advance(0);
}

// The next position is used, with so many bytes.
inline void lane_writer::advance(std::uint64_t bytes) noexcept {
  bytes_ += bytes;
  bytes_end_[tail_ & (q_.shape.slots - 1)] = bytes_;
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
    control_->bytes_tail.store(bytes_, std::memory_order_relaxed);
    pass_over();
    throw;
  }
}

std::optional<std::uint64_t> lane_writer::publish(const parcel& p) {
  // When every slot has a message that is in somebody's hand, there is none to come to.
  const std::uint64_t last = tail_ + q_.shape.slots;
  while (has_room(p)) {
    expect_to_own();
    const std::uint64_t position = tail_;
    message_slot& s = slot(position);
    const bool taken = is_taken(s, position);
    if (!reserve_positions(1, taken ? 0 : p.size)) [[unlikely]]
      continue;
    if (taken || !may_have_bytes(p.size)) [[unlikely]] {
      control_->bytes_tail.store(bytes_, std::memory_order_relaxed);
      pass_over();
      if (tail_ == last) break;
      continue;
    }
    forget_former(s);
    if (!p.references.empty()) attach_to_next(p.references);
    fill(s, position, bytes_ + p.size, p);
    advance(p.size);
    extent_has(p, position);
    message_slot& soon = slot(position + 4);
    // The commit. An exchange, so that the look for sleepers that follows comes after it.
    s.state.exchange(q_.raw(slot_state::at(slot_kind::queued, position)), std::memory_order_seq_cst);
    fetch_for_writing(&soon, sizeof(message_slot));
    return position;
  }
  return std::nullopt;
}

lane_writer::published lane_writer::publish_several(std::span<const std::span<const std::byte>> payloads) {
  if (payloads.empty() || !has_room({.size = payloads.back().size()})) return {tail_, 0};
  expect_to_own();
  if (tail_limit_ - tail_ < payloads.size()) {
    see_quotas(gate_now());
    see_head(settle_head(q_, lane_));
  }
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  while (count < payloads.size() && tail_ + count < tail_limit_ &&
         bytes_ + bytes + payloads[count].size() <= bytes_limit_ && !is_taken(slot(tail_ + count), tail_ + count))
    bytes += payloads[count++].size();
  if (count == 0 || !reserve_positions(count, bytes)) return {tail_, 0};
  const std::uint64_t first = tail_;
  if (!may_have_bytes(bytes)) {
    control_->bytes_tail.store(bytes_, std::memory_order_relaxed);
    for (std::size_t i = 0; i < count; ++i) pass_over();
    return {tail_, 0};
  }
  for (const auto payload : payloads.first(count)) {
    message_slot& s = slot(tail_);
    forget_former(s);
    fill(s, tail_, bytes_ + payload.size(), {.size = payload.size(), .here = payload.data()});
    s.state.store(q_.raw(slot_state::at(slot_kind::queued, tail_)), std::memory_order_release);
    advance(payload.size());
    fetch_for_writing(&slot(tail_ + 4), sizeof(message_slot));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // as the exchange in publish()
  return {first, count};
}

// ---- memory --------------------------------------------------------------------------------------------------------

void lane_writer::commit_slots() {
  constexpr std::uint64_t step = commit_step / sizeof(message_slot);
  const std::uint64_t all = q_.shape.slots;
  if (tail_ >= all) slots_ready_ = all;
  while (slots_ready_ <= tail_ && slots_ready_ != all) {
    const std::uint64_t more = std::min(step, all - slots_ready_);
    commit_pages(reinterpret_cast<const std::byte*>(slots_ + slots_ready_), more * sizeof(message_slot)).value();
    slots_ready_ += more;
  }
  if (slots_ready_ == all) slots_ready_ = ~0ULL;
}

}  // namespace covey::detail
