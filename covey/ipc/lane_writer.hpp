/// @file
/// lane_writer: puts into a lane whose messages go in the order in which they were put. docs/design/queue.md.
#pragma once

#include <covey/ipc/lane_owner.hpp>
#include <deque>
#include <memory>

namespace covey::detail {

/// Puts into a lane that one thread owns from its first put to its end.
///
/// Safety: the thread's own.
/// Death:  see docs/design/queue.md.
class lane_writer : public lane_owner {
 public:
  /// Makes this thread the owner of a lane. Throws std::length_error when all have one.
  explicit lane_writer(const queue_view& q);

  /// Commits it, if there is room; its references are the message's by then. Its position, or nullopt. Throws
  /// queue_damaged, std::system_error.
  std::optional<std::uint64_t> publish(const parcel& p);

  /// Commits the first of `parcels`, all of which are small: as many as there is room for in consecutive slots, perhaps
  /// none.
  static constexpr std::size_t several_max = 16;
  struct published {
    std::uint64_t first;
    std::size_t count;
  };
  published publish_several(std::span<const parcel> parcels);

  /// As publish, with room that other lanes have and do not use: lane_owner::publish_with_more().
  std::optional<std::uint64_t> publish_with_more(const parcel& p) { return lane_owner::publish_with_more(*this, p); }

  /// Whether publish_with_more() would commit such a message. Throws queue_damaged.
  [[nodiscard]] bool has_room_for(const parcel& p) { return lane_owner::has_room_for(*this, p); }

  /// Asks for what the next publish() will need: the slot, which who waits for it looks at again and again, and what is
  /// cold after a rest.
  void fetch_ahead() const noexcept {
    fetch_for_writing(&slot(tail_), sizeof(message_slot));
    fetch_for_writing(&q_.lane(lane_).gate, 1);
    fetch_for_reading(&q_.lane(lane_).owner, 1);
    fetch_for_reading(&q_.header().flags, 1);
    fetch_for_writing(&bytes_end_[tail_ & (q_.shape.slots - 1)], 1);
  }

  /// Whether something was taken from this lane since the last publish, or nothing waits in it.
  [[nodiscard]] bool might_have_room() const noexcept {
    return q_.lane(lane_).head.load(std::memory_order_relaxed) != head_;
  }

 private:
  friend lane_owner;
  void adopt();
  [[nodiscard]] message_slot& slot(std::uint64_t position) const { return slots_[position & (q_.shape.slots - 1)]; }
  [[nodiscard]] bool room_for_one(std::uint64_t gate) const noexcept {
    return tail_ - head_ + 2 < q_.shape.slots && waiting_ < gate_quota(gate);
  }
  [[nodiscard]] bool room_for_bytes(std::uint64_t bytes, std::uint64_t quota) const noexcept {
    return bytes_ + bytes - bytes_gone_ <= quota;
  }
  void see_head(std::uint64_t head);
  [[nodiscard]] bool has_room(const parcel& p, std::uint64_t gate) {
    const std::uint64_t quota = quota_in_bytes(q_.lane(lane_).bytes_quota.load(std::memory_order_relaxed));
    return (room_for_one(gate) && room_for_bytes(p.size, quota)) || find_room(p, gate);
  }
  [[nodiscard]] bool has_room_anywhere(const parcel& p, std::uint64_t gate) { return has_room(p, gate); }
  [[nodiscard]] bool has_slot();
  [[nodiscard]] bool find_room(const parcel& p, std::uint64_t gate);
  [[nodiscard]] inline bool is_taken(std::uint64_t position) const;
  [[nodiscard]] bool has_older(const message_slot& s, std::uint64_t raw, std::uint64_t position) const;
  [[nodiscard]] inline bool reserve_positions(std::uint64_t gate, std::uint64_t count, std::uint64_t bytes);
  void pass_over() noexcept;
  void attach_to_next(std::span<const std::uint64_t> references);
  inline void advance(std::uint64_t bytes) noexcept;
  [[nodiscard]] need need_for(const parcel& p) const noexcept { return {waiting_ + 1, bytes_ + p.size - bytes_gone_}; }
  void commit_slots(std::uint64_t count);

  message_slot* slots_ = nullptr;  // the lane's
  std::uint64_t tail_ = 0;  // the next position
  std::uint64_t head_ = 0;  // as last seen
  std::uint64_t waiting_ = 0;  // positions from there on, without those passed over
  std::uint64_t bytes_ = 0;  // as lane_control::bytes_tail
  std::uint64_t bytes_gone_ = 0;  // of those before head_
  std::uint64_t slots_committed_ = 0;
  std::unique_ptr<std::uint64_t[]> bytes_end_;  // of the positions from the head on, by slot
  std::deque<std::uint64_t> skipped_;  // positions passed over, not before head_, in order
};

}  // namespace covey::detail
