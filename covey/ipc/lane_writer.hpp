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

  /// Commits the first of `payloads`, all of which are small: as many as there is room for in consecutive slots,
  /// perhaps none.
  static constexpr std::size_t several_max = 16;
  struct published {
    std::uint64_t first;
    std::size_t count;
  };
  published publish_several(std::span<const std::span<const std::byte>> payloads);

  /// As publish, with room that other lanes have and do not use: lane_owner::publish_with_more().
  std::optional<std::uint64_t> publish_with_more(const parcel& p) { return lane_owner::publish_with_more(*this, p); }

  /// Whether publish_with_more() would commit such a message. Throws queue_damaged.
  [[nodiscard]] bool has_room_for(const parcel& p) { return lane_owner::has_room_for(*this, p); }

  /// Asks for what the next publish() will need and may be cold after a rest. Not for the slot's first line: who waits
  /// for it looks there again and again, and would have taken it away before it is filled.
  void fetch_ahead() const noexcept {
    fetch_for_writing(slot(tail_).inlined + inline_bytes_max - 1, 1);
    fetch_for_writing(&control_->gate, 1);
    fetch_for_reading(&control_->owner, 1);
    fetch_for_reading(&q_.header().flags, 1);
    fetch_for_writing(&bytes_end_[tail_ & (q_.shape.slots - 1)], 1);
  }

  /// Whether something was taken from this lane since the last publish, or nothing waits in it.
  [[nodiscard]] bool might_have_room() const noexcept {
    return control_->head.load(std::memory_order_relaxed) != head_;
  }

 private:
  friend lane_owner;
  void adopt();
  [[nodiscard]] message_slot& slot(std::uint64_t position) const { return slots_[position & (q_.shape.slots - 1)]; }
  /// Whether it fits between what was last seen of the head and of the quotas.
  [[nodiscard]] bool fits(const parcel& p) const noexcept {
    return tail_ < tail_limit_ && bytes_ + p.size <= bytes_limit_;
  }
  [[nodiscard]] bool has_room(const parcel& p) { return fits(p) || find_room(p, gate_now()); }
  [[nodiscard]] bool has_room_anywhere(const parcel& p, std::uint64_t gate) { return find_room(p, gate); }
  [[nodiscard]] bool find_room(const parcel& p, std::uint64_t gate);
  [[nodiscard]] bool has_slot();
  [[nodiscard]] std::uint64_t gate_now() const { return checked_gate(tail_); }
  [[nodiscard]] std::uint64_t waiting() const noexcept { return tail_ - head_ - skipped_.size(); }
  void see_head(std::uint64_t head);
  void see_quotas(std::uint64_t gate);
  void set_limits() noexcept;
  [[nodiscard]] inline bool is_taken(const message_slot& s, std::uint64_t position) const;
  [[nodiscard]] bool has_older(const message_slot& s, std::uint64_t raw, std::uint64_t position) const;
  [[nodiscard]] inline bool reserve_positions(std::uint64_t count, std::uint64_t bytes);
  [[nodiscard]] inline bool may_have_bytes(std::uint64_t bytes);
  void pass_over() noexcept;
  void attach_to_next(std::span<const std::uint64_t> references);
  inline void advance(std::uint64_t bytes) noexcept;
  [[nodiscard]] need need_for(const parcel& p) const noexcept { return {waiting() + 1, bytes_ + p.size - bytes_gone_}; }
  void commit_slots();

  message_slot* slots_ = nullptr;  // the lane's
  std::uint64_t tail_ = 0;  // the next position
  std::uint64_t bytes_ = 0;  // as lane_control::bytes_tail
  // As last seen, and what follows from it: so far, and no further, may tail_ and bytes_ go without another look.
  std::uint64_t gate_ = 0, bytes_quota_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t bytes_gone_ = 0;  // of those before head_
  std::uint64_t tail_limit_ = 0, bytes_limit_ = 0;
  std::uint64_t slots_ready_ = 0;  // positions whose slots have memory
  std::unique_ptr<std::uint64_t[]> bytes_end_;  // of the positions from the head on, by slot
  std::deque<std::uint64_t> skipped_;  // positions passed over, not before head_, in order
};

}  // namespace covey::detail
