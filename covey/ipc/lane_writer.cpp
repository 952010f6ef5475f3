// The owner's thread alone runs what is here; others see what it stores. Read docs/design/queue.md first.
#include <covey/ipc/lane_writer.hpp>

#include <algorithm>
#include <array>
#include <covey/ipc/queue_lanes.hpp>
#include <cstring>
#include <stdexcept>

namespace covey::detail {
namespace {

constexpr std::uint64_t commit_step = 256 * 1024;

// Without a call, which would be cold after a rest.
void copy_small(std::byte* to, const std::byte* from, std::size_t n) {
  if (n < 8) {
    for (std::size_t i = 0; i < n; ++i) to[i] = from[i];
    return;
  }
  for (std::size_t i = 0; i + 8 < n; i += 8) std::memcpy(to + i, from + i, 8);
  std::memcpy(to + n - 8, from + n - 8, 8);
}

std::uint64_t data_bytes(const queue_shape& shape) { return shape.bytes + shape.bytes / 4 + (1U << 20); }

}  // namespace

// ---- owning a lane -------------------------------------------------------------------------------------------------

lane_writer::lane_writer(const queue_view& q) : q_(q) {
  claim();
  adopt();
}

void lane_writer::claim() {
  const participant me = this_name();
  queue_header& h = q_.header();
  for (lane_ = 0; lane_ < q_.shape.lanes; ++lane_) {
    participant owner = q_.lane(lane_).owner.load(std::memory_order_acquire);
    if (owner != 0 && alive(owner)) continue;
    // Counted first: a lane that is in use must be seen.
    std::uint32_t used = h.lanes_used.load(std::memory_order_relaxed);
    while (used <= lane_ && !h.lanes_used.compare_exchange_weak(used, lane_ + 1, std::memory_order_seq_cst)) {
    }
    if (q_.lane(lane_).owner.compare_exchange_strong(owner, me, std::memory_order_seq_cst)) return;
  }
  throw std::length_error("covey: more than " + std::to_string(q_.shape.lanes) + " threads put into one queue");
}

void lane_writer::adopt() {
  lane_control& lane = q_.lane(lane_);
  recover_lane(q_, lane_);
  head_ = adopted_at_ = settle_head(q_, lane_);
  tail_ = tail_of(q_, lane_, head_);
  bytes_ = bytes_at_head_ = lane.bytes_tail.load(std::memory_order_relaxed);
  bytes_end_ = std::unique_ptr<std::uint64_t[]>(new std::uint64_t[q_.shape.slots]);
  bool first = true;
  std::uint64_t so_far = bytes_;
  for (std::uint64_t p = head_; p < tail_; ++p) {
    const message_slot& s = q_.slot(lane_, p);
    const bool passed_over = s.skipped.load(std::memory_order_acquire) == p + 1;
    if (passed_over) skipped_.push_back(p);
    const std::uint64_t end = s.bytes_end.load(std::memory_order_relaxed);
    if (!passed_over && s.position.load(std::memory_order_relaxed) == p && end <= bytes_) {
      if (std::exchange(first, false))
        bytes_at_head_ = end - std::min(end, s.size_and_attachments.load(std::memory_order_relaxed) & size_mask);
      so_far = end;
    }
    bytes_end_[p & (q_.shape.slots - 1)] = first ? bytes_at_head_ : so_far;
  }
  if (first) bytes_at_head_ = bytes_;
}

void lane_writer::leave() noexcept { q_.lane(lane_).owner.store(0, std::memory_order_release); }

// ---- room ----------------------------------------------------------------------------------------------------------

std::uint64_t lane_writer::bytes_before(std::uint64_t position) const noexcept {
  if (position >= tail_) return bytes_;
  return position <= adopted_at_ ? bytes_at_head_ : bytes_end_[(position - 1) & (q_.shape.slots - 1)];
}

bool lane_writer::room_for_one(std::uint64_t gate) noexcept {
  const std::uint64_t ahead = tail_ - head_;
  return ahead + 2 < q_.shape.slots && ahead - skipped_.size() < gate_quota(gate);
}

bool lane_writer::room_for_bytes(std::uint64_t bytes, std::uint64_t quota) const noexcept {
  return bytes_ + bytes - bytes_before(head_) <= quota;
}

void lane_writer::see_head(std::uint64_t head) {
  if (head > tail_) q_.damaged();
  head_ = std::max(head_, head);
  while (!skipped_.empty() && skipped_.front() < head_) skipped_.pop_front();
}

bool lane_writer::has_room(const parcel& p, std::uint64_t gate) {
  const std::uint64_t quota = quota_in_bytes(q_.lane(lane_).bytes_quota.load(std::memory_order_relaxed));
  if (room_for_one(gate) && room_for_bytes(p.size, quota)) return true;
  see_head(q_.lane(lane_).head.load(std::memory_order_acquire));
  if (room_for_one(gate) && room_for_bytes(p.size, quota)) return true;
  see_head(settle_head(q_, lane_));  // takers let it lag behind
  return room_for_one(gate) && room_for_bytes(p.size, quota);
}

// Whether the slot of `position` still has an older message: that one keeps it.
bool lane_writer::is_taken(std::uint64_t position) const {
  const message_slot& s = q_.slot(lane_, position);
  const std::uint64_t raw = s.state.load(std::memory_order_acquire);  // pairs with release()
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
  }
  q_.damaged();
}

// ---- publishing ----------------------------------------------------------------------------------------------------

std::uint64_t lane_writer::checked_gate() const {
  const lane_control& lane = q_.lane(lane_);
  const std::uint64_t gate = lane.gate.load(std::memory_order_relaxed);
  if (gate_tail(gate) != static_cast<std::uint32_t>(tail_) || lane.owner.load(std::memory_order_relaxed) != this_name())
    q_.damaged();
  return gate;
}

// The next `count` positions, for so many bytes. False: `gate` is no longer so.
bool lane_writer::reserve_positions(std::uint64_t gate, std::uint64_t count, std::uint64_t bytes) {
  lane_control& lane = q_.lane(lane_);
  // Before the look at the quotas: who takes quota away lowers it first and then looks here.
  if (bytes != 0) lane.bytes_tail.store(bytes_ + bytes, std::memory_order_release);
  const std::uint64_t next = (gate & ~0xffffffffULL) | static_cast<std::uint32_t>(tail_ + count);
  return lane.gate.compare_exchange_strong(gate, next, std::memory_order_seq_cst, std::memory_order_relaxed);
}

// The next position, which is reserved, is not used.
void lane_writer::pass_over() {
  lane_control& lane = q_.lane(lane_);
  lane.last_skipped.store(tail_ + 1, std::memory_order_release);
  q_.slot(lane_, tail_).skipped.store(tail_ + 1, std::memory_order_release);
  skipped_.push_back(tail_);
  advance(0);
}

// The next position is used, with so many bytes.
void lane_writer::advance(std::uint64_t bytes) noexcept {
  bytes_ += bytes;
  bytes_end_[tail_ & (q_.shape.slots - 1)] = bytes_;
  ++tail_;
}

// All but the state. Nothing is computed between the first store and the commit: who waits for this slot looks at it
// again and again, and each look takes the line away.
void lane_writer::fill(message_slot& s, const parcel& p) {
  const std::uint64_t size_and_attachments = p.size | std::uint64_t{p.references.size()} << 40;
  const std::array<std::uint64_t, 4> words{tail_, bytes_ + p.size, size_and_attachments, p.extent};
  const std::size_t here = p.extent == 0 ? p.size : 0;
  const std::uint64_t checksum = checksum_of(q_.key, words, {p.here, here});
  copy_small(s.inlined, p.here, here);
  s.position.store(words[0], std::memory_order_relaxed);
  s.bytes_end.store(words[1], std::memory_order_relaxed);
  s.size_and_attachments.store(words[2], std::memory_order_relaxed);
  s.extent = words[3];
  s.checksum = checksum;
}

// Once the position is reserved: who finds it without a message then knows what to detach.
void lane_writer::attach_to_next(std::span<const std::uint64_t> references) {
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
    const std::uint64_t gate = checked_gate();
    if (tail_ == last || !has_room(p, gate)) return std::nullopt;
    if ((tail_ + 1) * sizeof(message_slot) > slots_committed_) commit_slots(1);
    const bool taken = is_taken(tail_);
    if (!reserve_positions(gate, 1, taken ? 0 : p.size)) continue;
    if (taken || !room_for_bytes(p.size, quota_in_bytes(lane.bytes_quota.load(std::memory_order_seq_cst)))) {
      lane.bytes_tail.store(bytes_, std::memory_order_relaxed);
      pass_over();
      continue;
    }
    if (!p.references.empty()) attach_to_next(p.references);
    message_slot& s = q_.slot(lane_, tail_);
    fill(s, p);
    const std::uint64_t position = tail_;
    advance(p.size);
    if (p.extent != 0) extents_->publish(p.extent, position);
    // The commit. An exchange, so that the look for sleepers that follows comes after it.
    s.state.exchange(q_.raw(slot_state::at(slot_kind::queued, position)), std::memory_order_seq_cst);
    fetch_for_writing(&q_.slot(lane_, tail_ + 3), sizeof(message_slot));
    return position;
  }
}

lane_writer::published lane_writer::publish_several(std::span<const parcel> parcels) {
  lane_control& lane = q_.lane(lane_);
  const std::uint64_t gate = checked_gate();
  if (parcels.empty() || !has_room(parcels.back(), gate)) return {tail_, 0};
  const auto room_now = [&] {
    return std::min(gate_quota(gate) - (tail_ - head_ - skipped_.size()), q_.shape.slots - 2 - (tail_ - head_));
  };
  if (room_now() < parcels.size()) see_head(settle_head(q_, lane_));
  const std::uint64_t room = room_now();
  const std::uint64_t bytes_used = bytes_ - bytes_before(head_);
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
    message_slot& s = q_.slot(lane_, tail_);
    fill(s, parcels[i]);
    s.state.store(q_.raw(slot_state::at(slot_kind::queued, tail_)), std::memory_order_release);
    advance(parcels[i].size);
    fetch_for_writing(&q_.slot(lane_, tail_ + 4), sizeof(message_slot));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // as the exchange in publish()
  return {first, count};
}

bool lane_writer::retract(std::uint64_t position) {
  message_slot& s = q_.slot(lane_, position);
  std::uint64_t raw = q_.raw(slot_state::at(slot_kind::queued, position));
  if (!s.state.compare_exchange_strong(raw, q_.raw(slot_state::in_hand_of(this_name(), 0)), std::memory_order_seq_cst))
    return false;
  release(q_, {lane_, position, 0});
  return true;
}

// ---- memory --------------------------------------------------------------------------------------------------------

void lane_writer::commit_slots(std::uint64_t count) {
  const std::uint64_t all = q_.shape.slots * sizeof(message_slot);
  const std::byte* const begin = reinterpret_cast<const std::byte*>(&q_.slot(lane_, 0));
  if (tail_ >= q_.shape.slots) slots_committed_ = all;
  while (slots_committed_ < std::min(all, (tail_ + count) * sizeof(message_slot))) {
    const std::uint64_t more = std::min(commit_step, all - slots_committed_);
    commit_pages(begin + slots_committed_, more).value();
    slots_committed_ += more;
  }
  if (slots_committed_ == all) slots_committed_ = ~0ULL;
}

void lane_writer::have_data() {
  if (extents_) return;
  data_ = {};  // a try that failed in the middle is made again
  lane_control& lane = q_.lane(lane_);
  const std::uint64_t id = lane.data.load(std::memory_order_acquire);
  if (id != 0) {
    try {
      data_ = region::hold(id);
    } catch (const std::system_error&) {
      // Its maker died before the queue held it: nothing lies there.
    }
  }
  if (!data_) {
    data_ = region({.bytes = data_bytes(q_.shape), .committed = 0, .kind = region_kind::lane});
    lane.data.store(data_.id(), std::memory_order_release);
  }
  // Said by every owner, before anything lies there: the one who made the region may have died before it said so.
  const std::array ids{data_.id()};
  attach(q_.id, lane_data_number(lane_), ids);
  allow_writing(data_).value();
  std::vector<extent_ring::extent> live;
  for (std::uint64_t i = 0; i < std::min(tail_, q_.shape.slots); ++i) {
    const message_slot& s = q_.slot(lane_, i);
    const slot_kind kind = q_.state_of(s.state.load(std::memory_order_acquire)).kind();
    const std::uint64_t size = s.size_and_attachments.load(std::memory_order_relaxed) & size_mask;
    if (kind == slot_kind::fresh || kind == slot_kind::free || s.extent == 0) continue;
    if (s.extent > data_.size() || size > data_.size() - s.extent) q_.damaged();
    live.push_back({s.extent, extent_ring::rounded(size), s.position.load(std::memory_order_relaxed)});
  }
  extents_.emplace(data_.size()).adopt(std::move(live));
}

std::optional<std::uint64_t> lane_writer::reserve(std::uint64_t bytes) {
  have_data();
  const auto is_free = [&](std::uint64_t position) {
    const message_slot& s = q_.slot(lane_, position);
    const slot_state state = q_.state_of(s.state.load(std::memory_order_acquire));
    switch (state.kind()) {
      case slot_kind::free: return state.position() >= position;
      case slot_kind::in_flight: return s.position.load(std::memory_order_relaxed) > position;
      default: return state.position() > position;
    }
  };
  const auto offset = extents_->reserve(std::max<std::uint64_t>(bytes, 1), is_free);
  if (!offset) return std::nullopt;
  commit_data(*offset + bytes);
  if (bytes <= fetched_payload_max)  // where the next one will lie
    fetch_for_writing(payload(*offset) + extent_ring::rounded(bytes), bytes);
  return offset;
}

void lane_writer::commit_data(std::uint64_t end) {
  if (end <= data_committed_) return;
  const std::uint64_t wanted = std::min(data_.size(), std::max(end, data_committed_ + commit_step) + page_bytes);
  const std::uint64_t until = wanted / page_bytes * page_bytes;
  commit_pages(data_.data() + data_committed_, std::max(until, std::min(data_.size(), end)) - data_committed_).value();
  data_committed_ = until;
}

}  // namespace covey::detail
