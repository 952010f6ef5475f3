/// @file
/// lane_owner: what the owner of a lane does in queues of every order: its claim, the memory of its larger payloads,
/// more room from other lanes. docs/design/queue.md.
#pragma once

#include <array>
#include <covey/ipc/extent_ring.hpp>
#include <covey/ipc/lane_quota.hpp>
#include <covey/ipc/queue_lanes.hpp>
#include <cstring>
#include <optional>

namespace covey::detail {

/// A message to be published: its payload is at `here`, or in the lane's region at `extent`.
struct parcel {
  std::uint64_t size = 0;
  std::span<const std::uint64_t> references{};  // its payload begins with them
  const std::byte* here = nullptr;
  std::uint64_t extent = 0;
  std::uint64_t rank = 0;  // in a queue that goes by rank
};

/// Pages are had for so many bytes at a time.
inline constexpr std::uint64_t commit_step = 256 * 1024;

/// Of one thread, from its first put to its end.
///
/// Safety: the thread's own.
/// Death:  see docs/design/queue.md.
class lane_owner {
 public:
  lane_owner(const lane_owner&) = delete;
  lane_owner& operator=(const lane_owner&) = delete;

  /// The lane is nobody's from now on.
  void leave() noexcept;

  /// Takes back what was just published; false when somebody has got it.
  bool retract(std::uint64_t position);

  /// Room for a large payload; nullopt when there is none now. Throws std::system_error when no memory can be had.
  std::optional<std::uint64_t> reserve(std::uint64_t bytes);
  [[nodiscard]] std::byte* payload(std::uint64_t extent) const { return data_begin_ + extent; }
  void give_back(std::uint64_t extent) { extents_->give_back(extent); }
  [[nodiscard]] bool has_reserved(std::uint64_t extent) const { return extents_ && extents_->has_reserved(extent); }

 protected:
  /// Makes this thread the owner of a lane. Throws std::length_error when all have one.
  explicit lane_owner(const queue_view& q);
  ~lane_owner() = default;

  /// What waits in the lane once `p` does.
  struct need {
    std::uint64_t items, bytes;
  };

  /// The gate, if it is what its owner left: `tail` are the lower 32 bits.
  [[nodiscard]] std::uint64_t checked_gate(std::uint64_t tail) const {
    const std::uint64_t gate = control_->gate.load(std::memory_order_seq_cst);
    if (gate_tail(gate) != static_cast<std::uint32_t>(tail)) [[unlikely]]
      q_.damaged();
    expect_to_own();
    return gate;
  }
  void expect_to_own() const {
    if (control_->owner.load(std::memory_order_relaxed) != this_name()) [[unlikely]]
      q_.damaged();
  }
  /// All of a slot but its state. `bytes_end`: message_slot's. Nothing is computed between the first store and the
  /// commit: who waits for this slot looks at it again and again, and each look takes the line away.
  void fill(message_slot& s, std::uint64_t position, std::uint64_t bytes_end, const parcel& p) const;
  /// Tells the keeper once more that the former message of a free slot holds nothing: who told it before may have been
  /// killed, and the keeper too before it was read, and from now on nobody knows of it.
  void forget_former(const message_slot& s) const {
    if (with_references_ && s.size_and_attachments.load(std::memory_order_relaxed) >> 40 != 0)
      detach_again(q_, lane_, s);
  }
  /// The message with that position has `p`'s extent.
  void extent_has(const parcel& p, std::uint64_t position) {
    if (p.extent != 0) extents_->publish(p.extent, position);
  }
  /// As `writer.publish(p)`, but looks everywhere for room, and takes from other lanes what they may hold and do not
  /// use. One at a time does so, for microseconds: it waits for him, or takes his place.
  template <class Writer>
  static std::optional<std::uint64_t> publish_with_more(Writer& writer, const parcel& p);
  /// Whether that would publish such a message now. What it takes from other lanes stays here.
  template <class Writer>
  static bool has_room_for(Writer& writer, const parcel& p);

  queue_view q_;
  std::uint32_t lane_ = 0;
  lane_control* control_ = nullptr;  // the lane's
  bool with_references_ = false;  // messages of this lane may have had some

 private:
  void claim();
  void have_data();
  void commit_data(std::uint64_t extent, std::uint64_t bytes);
  /// Whether there is room for `p`, perhaps from other lanes. The caller may move quota.
  template <class Writer>
  static bool get_room(Writer& writer, const parcel& p);
  /// Raises this lane's quotas to what is `wanted`, if the whole queue has room.
  bool gather_quota(std::uint64_t gate, std::uint64_t bytes_word, const need& wanted);

  region data_;
  std::byte* data_begin_ = nullptr;
  std::uint64_t data_committed_ = 0;
  std::optional<extent_ring> extents_;
};

/// Without a call, which would be cold after a rest.
inline void copy_small(std::byte* to, const std::byte* from, std::size_t n) noexcept {
  constexpr std::size_t step = 16;
  if (n < step) {
    for (std::size_t i = 0; i < n; ++i) to[i] = from[i];
    return;
  }
  for (std::size_t i = 0; i + step < n; i += step) std::memcpy(to + i, from + i, step);
  std::memcpy(to + n - step, from + n - step, step);
}

[[gnu::always_inline]] inline void lane_owner::fill(message_slot& s, std::uint64_t position, std::uint64_t bytes_end,
                                                    const parcel& p) const {
  const std::uint64_t size_and_attachments = p.size | std::uint64_t{p.references.size()} << 40;
  const std::array<std::uint64_t, 4> words{position, bytes_end, size_and_attachments, p.extent};
  const std::size_t here = p.extent == 0 ? p.size : 0;
  const std::uint64_t checksum = p.extent == 0 ? checksum_of(q_.key, words, std::span(p.here, here))
                                               : checksum_of_large(q_, words, {payload(p.extent), p.size});
  copy_small(s.inlined, p.here, here);
  s.position.store(words[0], std::memory_order_relaxed);
  s.bytes_end.store(words[1], std::memory_order_relaxed);
  s.size_and_attachments.store(words[2], std::memory_order_relaxed);
  s.extent = words[3];
  s.checksum = checksum;
}

template <class Writer>
bool lane_owner::get_room(Writer& writer, const parcel& p) {
  // As they are in our turn: granted() looks whether it still is. Nobody else raises them, and who takes our place
  // changes them first.
  const lane_control& lane = *writer.control_;
  const std::uint64_t gate = writer.gate_now();
  const std::uint64_t bytes_word = lane.bytes_quota.load(std::memory_order_seq_cst);
  return writer.has_room_anywhere(p, gate) || writer.gather_quota(gate, bytes_word, writer.need_for(p));
}

template <class Writer>
std::optional<std::uint64_t> lane_owner::publish_with_more(Writer& writer, const parcel& p) {
  const quota_mover mover(writer.q_);
  if (!get_room(writer, p)) return std::nullopt;
  return writer.publish(p);
}

template <class Writer>
bool lane_owner::has_room_for(Writer& writer, const parcel& p) {
  const quota_mover mover(writer.q_);
  return get_room(writer, p) && writer.has_slot();
}

}  // namespace covey::detail
