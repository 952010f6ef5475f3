/// @file
/// The owner's side of a lane. docs/design/queue.md.
#pragma once

#include <covey/ipc/extent_ring.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <deque>
#include <memory>
#include <optional>

namespace covey::detail {

/// Puts into a lane that one thread owns from its first put to its end.
///
/// Safety: the thread's own.
/// Death:  see docs/design/queue.md.
class lane_writer {
 public:
  /// Makes this thread the owner of a lane. Throws std::length_error when all have one.
  explicit lane_writer(const queue_view& q);
  lane_writer(const lane_writer&) = delete;
  lane_writer& operator=(const lane_writer&) = delete;
  ~lane_writer() = default;

  /// The lane is nobody's from now on.
  void leave() noexcept;

  /// A message to be published: its payload is at `here`, or in the lane's region at `extent`.
  struct parcel {
    std::uint64_t size = 0;
    std::span<const std::uint64_t> references{};  // its payload begins with them
    const std::byte* here = nullptr;
    std::uint64_t extent = 0;
  };

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

  /// As publish, but first takes from other lanes what they may hold and do not use. One at a time does
  /// so: with `wait` false not at all when somebody is at it, else it takes the place of who takes too long.
  std::optional<std::uint64_t> publish_with_more(const parcel& p, bool wait);

  /// Takes back what was just published; false when somebody has got it.
  bool retract(std::uint64_t position);

  /// Room for a large payload; nullopt when there is none now. Throws std::system_error when no memory can be had.
  std::optional<std::uint64_t> reserve(std::uint64_t bytes);
  [[nodiscard]] std::byte* payload(std::uint64_t extent) const { return data_.data() + extent; }
  void give_back(std::uint64_t extent) { extents_->give_back(extent); }
  [[nodiscard]] bool has_reserved(std::uint64_t extent) const { return extents_ && extents_->has_reserved(extent); }

  /// Asks for what the next publish() will need: the slot, which who waits for it looks at again and again, and what is
  /// cold after a rest.
  void fetch_ahead() const noexcept {
    fetch_for_writing(&q_.slot(lane_, tail_), sizeof(message_slot));
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
  void claim();
  void adopt();
  void have_data();
  [[nodiscard]] bool room_for_one(std::uint64_t gate) noexcept;
  [[nodiscard]] bool room_for_bytes(std::uint64_t bytes, std::uint64_t quota) const noexcept;
  void see_head(std::uint64_t head);
  [[nodiscard]] bool has_room(const parcel& p, std::uint64_t gate);
  [[nodiscard]] std::uint64_t bytes_before(std::uint64_t position) const noexcept;
  [[nodiscard]] bool is_taken(std::uint64_t position) const;
  [[nodiscard]] bool reserve_positions(std::uint64_t gate, std::uint64_t count, std::uint64_t bytes);
  void pass_over();
  void attach_to_next(std::span<const std::uint64_t> references);
  void fill(message_slot& s, const parcel& p);
  void advance(std::uint64_t bytes) noexcept;
  std::uint64_t checked_gate() const;
  void commit_slots(std::uint64_t count);
  void commit_data(std::uint64_t end);
  bool gather_quota(const parcel& p);

  queue_view q_;
  std::uint32_t lane_ = 0;
  std::uint64_t tail_ = 0;  // the next position
  std::uint64_t head_ = 0;  // as last seen
  std::uint64_t bytes_ = 0;  // as lane_control::bytes_tail
  std::uint64_t slots_committed_ = 0;
  std::uint64_t data_committed_ = 0;
  std::unique_ptr<std::uint64_t[]> bytes_end_;  // of the positions from the head on, by slot
  std::uint64_t bytes_at_head_ = 0;  // before position `adopted_at_`
  std::uint64_t adopted_at_ = 0;
  std::deque<std::uint64_t> skipped_;  // positions passed over, not before head_
  region data_;
  std::optional<extent_ring> extents_;
};

}  // namespace covey::detail
