/// @file
/// What takers and sweepers do with the lanes of a queue: every change is one compare-and-swap. docs/design/queue.md.
#pragma once

#include <covey/ipc/queue_layout.hpp>
#include <optional>
#include <vector>

namespace covey::detail {

/// A message in somebody's hand.
struct held_message {
  message_slot* slot;
  std::uint64_t position;
  std::uint32_t lane;
  std::uint32_t deliveries;  // with this one

  static held_message of(const queue_view& q, std::size_t lane, std::uint64_t position, std::uint64_t deliveries) {
    return {&q.slot(lane, position), position, static_cast<std::uint32_t>(lane),
            static_cast<std::uint32_t>(deliveries)};
  }
};

/// So many messages, and bytes of theirs.
struct lane_load {
  std::uint64_t items = 0, bytes = 0;
  lane_load& operator+=(const lane_load& other) {
    items += other.items;
    bytes += other.bytes;
    return *this;
  }
};

/// How far one taker has come in a lane: it took all before `next`, or found that they had been taken. It lets the
/// lane's head lag behind a little, because to move it costs as much as to take; whoever needs the head moves it.
struct lane_cursor {
  message_slot* slots = nullptr;  // the lane's; nullptr: in none yet
  std::size_t lane = 0;
  std::uint64_t next = 0;
  std::uint64_t ahead = 0;  // of the head, at most
};

/// Slots of lane `l` that were ever used, the first ones.
std::uint64_t slots_touched(const queue_view& q, std::size_t l);

/// queued or failed → in flight in this thread's hand; from `raw`, the stored state. False: it is no longer so.
bool take_slot(const queue_view& q, message_slot& s, std::uint64_t raw);

/// The oldest message of lane `cursor.lane`, found by the lane's own head; the cursor follows. It is appended to `out`.
/// How many: one, or none. Throws queue_damaged.
std::size_t take_at_head(const queue_view& q, lane_cursor& cursor, std::vector<held_message>& out);

/// Whether a message may wait behind its lane's head.
inline bool something_came_back(const queue_view& q) {
  const queue_header& h = q.header();
  return h.late.load(std::memory_order_acquire) != h.late_done.load(std::memory_order_acquire);
}

/// Whether it came back from a consumer, and waits.
inline bool is_late(slot_state s) { return s.kind() == slot_kind::queued && s.deliveries() != 0; }

/// Whether it is in a hand and will wait again if that dies.
inline bool comes_back(const queue_view& q, slot_state s) {
  return s.kind() == slot_kind::in_flight && !s.is_done() && q.shape.on_death == in_flight_policy::redeliver &&
         (q.flags() & flag_discarded) == 0;
}

/// Takes the oldest message that waits behind its lane's head because it came back from a consumer.
std::optional<held_message> take_late(const queue_view& q);

/// Whether take_oldest or take_late would find one; by rank: take_first.
bool anything_to_take(const queue_view& q);

/// Takes a message that failed: its consumer died, and the queue does not deliver such messages again.
std::optional<held_message> take_failed(const queue_view& q);

/// How many failed messages wait for take_failed().
std::size_t count_failed(const queue_view& q);

/// Moves the head over what has been taken or passed over, and returns it.
std::uint64_t settle_head(const queue_view& q, std::size_t l);

/// The position that follows the last that was ever reserved in lane `l`.
std::uint64_t tail_of(const queue_view& q, std::size_t l, std::uint64_t head);

/// Of a message in hand. From the first store on it is delivered to nobody: then the references may go. Who dies after
/// that leaves them to the sweeper, who need not know whether they have gone.
void give_back_references(const queue_view& q, std::size_t l, message_slot& s, std::uint64_t position);

/// in flight → queued again.
void put_back(const queue_view& q, const held_message& m);

/// Whether the payload and the slot of a message in hand, which lies in a lane's own region, still belong together.
/// Its producer may write there at any time, so this tells of what was read before it. Throws queue_damaged.
void check_large(const queue_view& q, const message_slot& s, std::span<const std::byte> payload);

/// Says again that the message that was last in a free slot of lane `l` holds no references.
void detach_again(const queue_view& q, std::size_t l, const message_slot& s);

/// Queued or failed → free, all of them: the queue is closed and its messages are to be dropped.
void discard_all(const queue_view& q);

/// Whether nothing waits and nothing is in flight, at one instant during the call; false also while a put is under way.
bool idle(const queue_view& q);

/// Messages that wait, exact at one instant during the call. Others may be asked to pause for some microseconds.
std::size_t count_waiting(const queue_view& q);

/// Messages that wait, from what is nearest at hand: also those that are being put. By rank: looks at each slot.
std::size_t count_waiting_approx(const queue_view& q);

/// Somebody counts: wait until that is done, but never long.
void pause_for_counting(const queue_view& q) noexcept;

/// What a lane's dead owner had reserved and not committed is passed over, or free again where messages go by rank; and
/// its account of bytes is made whole. The caller has made itself the owner.
void recover_lane(const queue_view& q, std::size_t l);

/// What is in dead hands goes where docs/design/queue.md draws it; lanes of the dead are freed. Any number of
/// processes may do so at once, and each may die.
void sweep_lanes(const queue_view& q);

}  // namespace covey::detail
