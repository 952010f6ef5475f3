/// @file
/// What a taker does for each message: takes it, reads its slot, releases it. Inlined, for it is all on the way of a
/// message; what is seldom is in queue_lanes.cpp. docs/design/queue.md.
#pragma once

#include <covey/ipc/queue_lanes.hpp>
#include <utility>

namespace covey::detail {

/// Moves the lane's head to where `cursor` stands.
inline void move_head(const queue_view& q, lane_cursor& cursor) {
  if (std::exchange(cursor.ahead, 0) == 0) return;
  std::atomic<std::uint64_t>& head = q.lane(cursor.lane).head;
  std::uint64_t now = head.load(std::memory_order_acquire);
  while (now < cursor.next && !head.compare_exchange_weak(now, cursor.next, std::memory_order_seq_cst)) {
  }
}

/// As take_oldest(), where `cursor` stands, as far as they lie there one after another and came the first time.
[[gnu::always_inline]] inline std::size_t take_in_a_row(const queue_view& q, participant me, std::size_t n,
                                                        lane_cursor& cursor, std::vector<held_message>& out) {
  const std::uint64_t mask = q.shape.slots - 1, taken_by_me = q.raw(slot_state::in_hand_of(me, 0));
  const std::uint64_t first = cursor.next;
  std::uint64_t position = first;
  for (; position - first < n; ++position) {
    message_slot& s = cursor.slots[position & mask];
    std::uint64_t raw = q.raw(slot_state::at(slot_kind::queued, position));
    if (s.state.load(std::memory_order_relaxed) != raw) break;
    fetch_for_reading(s.inlined + sizeof s.inlined - 1, 1);  // comes while the state is swapped
    if (!s.state.compare_exchange_strong(raw, taken_by_me, std::memory_order_seq_cst, std::memory_order_relaxed)) break;
    out.push_back({&s, position, static_cast<std::uint32_t>(cursor.lane), 1});
  }
  cursor.next = position;
  cursor.ahead += position - first;
  if (cursor.ahead > std::min<std::uint64_t>(q.shape.items / 4, 8) || position == first) move_head(q, cursor);
  return position - first;
}

/// Takes the oldest messages of lane `l`, up to `n`; they are appended to `out`. How many. Throws queue_damaged.
inline std::size_t take_oldest(const queue_view& q, std::size_t l, std::size_t n, lane_cursor& cursor,
                               std::vector<held_message>& out) {
  if (cursor.lane != l || cursor.slots == nullptr) {
    move_head(q, cursor);
    cursor = {.slots = &q.slot(l, 0), .lane = l, .next = q.lane(l).head.load(std::memory_order_acquire)};
  }
  const std::size_t taken = take_in_a_row(q, this_name(), n, cursor, out);
  // Nothing: or others were here, or it was passed over, or came back to the head.
  return taken != 0 ? taken : take_at_head(q, cursor, out);
}

/// Whether a slot whose stored state is `raw` has the message of `position`, in that hand. A fresh slot, whose word is
/// 0, looks like one of a kind that there is none of: see queue_key().
inline bool is_in_hand(const queue_view& q, const message_slot& s, std::uint64_t raw, std::uint64_t position,
                       participant hand) {
  return ((raw ^ q.key) & ~slot_state::deliveries_mask) == slot_state::in_hand_of(hand, 0).word &&
         s.position.load(std::memory_order_relaxed) == position;
}

/// in flight → free, by way of *done* when it has references, which are given back. Does nothing when it is no longer
/// in that hand (0: this thread's): somebody took it for dead. No fence.
inline void release(const queue_view& q, const held_message& m, participant hand = 0) {
  message_slot& s = *m.slot;
  const std::uint64_t raw = s.state.load(std::memory_order_relaxed);
  const participant me = this_name();
  if (!is_in_hand(q, s, raw, m.position, hand != 0 ? hand : me)) return;
  // What another thread has, which may end meanwhile, comes into this one's hand first: or it is taken for left behind.
  if (hand != 0 && hand != me && !take_slot(q, s, raw)) return;
  if (s.size_and_attachments.load(std::memory_order_relaxed) >> 40 != 0) [[unlikely]]
    give_back_references(q, m.lane, s, m.position);
  s.state.store(q.raw(slot_state::at(slot_kind::free, m.position)), std::memory_order_release);
}

/// The payload of a message in hand. Large ones lie in memory that only their producer can write, and are not checked
/// yet, see check_large().
struct payload_view {
  std::span<const std::byte> bytes;  // inline ones are a copy in `copy`
  std::uint64_t attachments = 0;  // region ids at its beginning
};

/// What says of a slot which message it has.
inline std::array<std::uint64_t, 4> checked_words(const message_slot& s) {
  return {s.position.load(std::memory_order_relaxed), s.bytes_end.load(std::memory_order_relaxed),
          s.size_and_attachments.load(std::memory_order_relaxed), s.extent};
}

/// All that is read from the slot is copied, then checked. `data` is the lane's own region, mapped; asked for only when
/// the payload lies there.
template <class Data>
[[gnu::always_inline]] inline payload_view payload_of(const queue_view& q, const held_message& m,
                                                      std::span<std::byte, inline_bytes_max> copy, const Data& data) {
  const message_slot& s = *m.slot;
  const std::array<std::uint64_t, 4> words = checked_words(s);
  const std::uint64_t expected = s.checksum;
  const std::uint64_t size = words[2] & size_mask;
  const std::uint64_t attachments = words[2] >> 40;
  const std::uint64_t extent = words[3];
  if (attachments > size / sizeof(std::uint64_t) || words[0] != m.position) [[unlikely]]
    q.damaged();
  if (extent == 0) {
    if (size > inline_bytes_max) [[unlikely]]
      q.damaged();
    std::memcpy(copy.data(), s.inlined, inline_bytes_max);  // all: a known number is copied at once
    if (checksum_of(q.key, words, copy.first(size)) != expected) [[unlikely]]
      q.damaged();
    return {copy.first(size), attachments};
  }
  const std::span<const std::byte> all = data(m.lane);
  if (extent > all.size() || size > all.size() - extent) q.damaged();
  return {all.subspan(extent, size), attachments};
}

}  // namespace covey::detail
