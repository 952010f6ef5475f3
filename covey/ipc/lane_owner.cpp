// Read docs/design/queue.md first.
#include <covey/ipc/lane_owner.hpp>

#include <algorithm>
#include <array>
#include <covey/ipc/queue_taking.hpp>
#include <stdexcept>

namespace covey::detail {
namespace {

// Where messages go by rank, they leave in another order than they came, and what is free is in more pieces.
std::uint64_t data_bytes(const queue_shape& shape) {
  return shape.bytes + (shape.by_rank() ? shape.bytes : shape.bytes / 4) + (1U << 20);
}

}  // namespace

lane_owner::lane_owner(const queue_view& q) : q_(q) {
  claim();
  with_references_ = slots_touched(q_, lane_) != 0;
}

void lane_owner::claim() {
  const participant me = this_name();
  queue_header& h = q_.header();
  for (lane_ = 0; lane_ < q_.shape.lanes; ++lane_) {
    control_ = &q_.lane(lane_);
    participant owner = control_->owner.load(std::memory_order_acquire);
    if (owner != 0 && alive(owner)) continue;
    // Counted first: a lane that is in use must be seen.
    std::uint32_t used = h.lanes_used.load(std::memory_order_relaxed);
    while (used <= lane_ && !h.lanes_used.compare_exchange_weak(used, lane_ + 1, std::memory_order_seq_cst)) {
    }
    if (control_->owner.compare_exchange_strong(owner, me, std::memory_order_seq_cst)) return;
  }
  throw std::length_error("covey: more than " + std::to_string(q_.shape.lanes) + " threads put into one queue");
}

void lane_owner::leave() noexcept { control_->owner.store(0, std::memory_order_release); }

bool lane_owner::retract(std::uint64_t position) {
  message_slot& s = q_.slot(lane_, position);
  std::uint64_t raw = q_.raw(slot_state::at(slot_kind::queued, position));
  if (!s.state.compare_exchange_strong(raw, q_.raw(slot_state::in_hand_of(this_name(), 0)), std::memory_order_seq_cst))
    return false;
  release(q_, held_message::of(q_, lane_, position, 0));
  return true;
}

void lane_owner::have_data() {
  data_ = {};  // a try that failed in the middle is made again
  lane_control& lane = *control_;
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
  data_begin_ = data_.data();
  std::vector<extent_ring::extent> live;
  for (std::uint64_t i = 0; i < slots_touched(q_, lane_); ++i) {
    const message_slot& s = q_.slot(lane_, i);
    const slot_kind kind = q_.state_of(s.state.load(std::memory_order_acquire)).kind();
    const std::uint64_t size = s.size_and_attachments.load(std::memory_order_relaxed) & size_mask;
    const std::uint64_t extent = s.extent;
    if (kind == slot_kind::fresh || kind == slot_kind::free || extent == 0) continue;
    if (extent > data_.size() || size > data_.size() - extent) q_.damaged();
    live.push_back({extent, extent_ring::rounded(size), s.position.load(std::memory_order_relaxed)});
  }
  extents_.emplace(data_.size()).adopt(std::move(live));
}

std::optional<std::uint64_t> lane_owner::reserve(std::uint64_t bytes) {
  if (!extents_) [[unlikely]]
    have_data();
  const auto is_free = [&](std::uint64_t position) {
    const message_slot& s = q_.slot(lane_, position);
    const slot_state state = q_.state_of(s.state.load(std::memory_order_acquire));
    switch (state.kind()) {
      case slot_kind::free: return state.position() >= position;
      case slot_kind::being_put:
      case slot_kind::in_flight: return s.position.load(std::memory_order_relaxed) > position;
      default: return state.position() > position;
    }
  };
  const auto offset = extents_->reserve(std::max<std::uint64_t>(bytes, 1), is_free);
  if (!offset) return std::nullopt;
  if (*offset + bytes > data_committed_) [[unlikely]]
    commit_data(*offset, bytes);
  if (bytes <= fetched_payload_max)  // where the next one will lie
    fetch_for_writing(payload(*offset) + extent_ring::rounded(bytes), bytes);
  return offset;
}

void lane_owner::commit_data(std::uint64_t extent, std::uint64_t bytes) {
  const std::uint64_t end = extent + bytes;
  const std::uint64_t wanted = std::min(data_.size(), std::max(end, data_committed_ + commit_step) + page_bytes);
  const std::uint64_t until = wanted / page_bytes * page_bytes;
  try {
    commit_pages(data_.data() + data_committed_, std::max(until, std::min(data_.size(), end)) - data_committed_)
        .value();
  } catch (...) {
    give_back(extent);
    throw;
  }
  data_committed_ = until;
}

}  // namespace covey::detail
