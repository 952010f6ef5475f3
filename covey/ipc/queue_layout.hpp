/// @file
/// The shared memory of a queue: header, lanes, slots. Used by the queue's own files alone; docs/design/queue.md draws
/// it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <covey/ipc/queue_core.hpp>
#include <covey/memory/lock_word.hpp>
#include <covey/memory/waitable.hpp>
#include <cstring>

namespace covey::detail {

// ---- the state of a slot -------------------------------------------------------------------------------------------

/// In bits 22..24 of a state; a name and a position both leave them free. `fresh` is a slot that was never used;
/// `being_put` there is only in queues that go by rank.
enum class slot_kind : std::uint64_t { fresh, free, queued, in_flight, failed, being_put };

/// What one 64-bit word says of a slot: its kind, how often its message was delivered before, and, in flight or being
/// put, who has it, else which position it has or last had.
struct slot_state {
  std::uint64_t word = 0;

  static constexpr std::uint64_t kind_mask = 7ULL << 22;
  static constexpr std::uint64_t deliveries_mask = 127ULL << 25;
  static constexpr std::uint64_t deliveries_of_done = 127;
  static constexpr std::uint64_t deliveries_max = deliveries_of_done - 1;

  static constexpr slot_state at(slot_kind kind, std::uint64_t position, std::uint64_t deliveries = 0) {
    return {static_cast<std::uint64_t>(kind) << 22 | deliveries << 25 | (position & 0x3fffff) | (position >> 22) << 32};
  }
  static constexpr slot_state in_hand_of(participant name, std::uint64_t deliveries) {
    return {name | static_cast<std::uint64_t>(slot_kind::in_flight) << 22 | deliveries << 25};
  }
  static constexpr slot_state put_by(participant name) {
    return {name | static_cast<std::uint64_t>(slot_kind::being_put) << 22};
  }
  /// In flight, and done with: nobody gets it again. Its references are being given back.
  static constexpr slot_state done_by(participant name) { return in_hand_of(name, deliveries_of_done); }
  [[nodiscard]] constexpr bool is_done() const {
    return kind() == slot_kind::in_flight && deliveries() == deliveries_of_done;
  }
  [[nodiscard]] constexpr slot_kind kind() const { return static_cast<slot_kind>((word & kind_mask) >> 22); }
  [[nodiscard]] constexpr std::uint64_t deliveries() const { return (word & deliveries_mask) >> 25; }
  [[nodiscard]] constexpr std::uint64_t position() const { return (word & 0x3fffff) | (word >> 32) << 22; }
  [[nodiscard]] constexpr participant hand() const { return word & ~(kind_mask | deliveries_mask); }
  /// One more delivery than before; the count saturates.
  [[nodiscard]] constexpr std::uint64_t delivered_again() const { return std::min(deliveries() + 1, deliveries_max); }
  constexpr bool operator==(const slot_state&) const = default;
};

inline constexpr std::size_t inline_bytes_max = 72;

/// One message. All but the states is written by the lane's owner before it commits, and stays until the slot is free.
/// Who moves quota (bytes_waiting()) may look at a size while it is written: the head tells afterwards whether it was.
struct alignas(128) message_slot {
  std::atomic<std::uint64_t> state;      // slot_state ^ key; 0 is fresh. Release: pairs with the acquire of takers
  std::atomic<std::uint64_t> skipped;    // the owner passed over position `skipped - 1`: the slot was taken then
  std::atomic<std::uint64_t> position;
  std::atomic<std::uint64_t> bytes_end;  // of all messages of the lane up to this one; by rank: sum_of_order()
  std::atomic<std::uint64_t>
      size_and_attachments;  // bytes of payload; in the upper 24 bits: it begins with so many region ids
  std::uint64_t extent;                  // where the payload lies in the lane's own region, when it is not here
  std::uint64_t checksum;                // of all above but the states, and of the payload: see checksum_of_large()
  std::byte inlined[inline_bytes_max];
};
static_assert(sizeof(message_slot) == 128);

/// Calls f with the address of every 64th byte, a cache line's, of so many bytes; four in a row, for the loop costs
/// more than what it does.
template <class F>
[[gnu::always_inline]] inline void for_each_line(const void* begin, std::size_t bytes, const F& f) noexcept {
  constexpr std::size_t line = 64;
  const auto* p = static_cast<const std::byte*>(begin);
  const std::byte* const end = p + bytes;
  for (; end - p > static_cast<std::ptrdiff_t>(3 * line); p += 4 * line)
    f(p), f(p + line), f(p + 2 * line), f(p + 3 * line);
  for (; p < end; p += line) f(p);
}

/// Asks for cache lines that will be written soon, while something else is done: so that they are this processor's
/// alone by then. (What __builtin_prefetch(p, 1) asks for on x86-64 is a copy to read, and the store waits all the
/// same.)
inline void fetch_for_writing(const void* begin, std::size_t bytes) noexcept {
  for_each_line(begin, bytes, [](const std::byte* line) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*line));
#else
    __builtin_prefetch(line, 1);
#endif
  });
}

/// Asks for cache lines that will be read soon.
inline void fetch_for_reading(const void* begin, std::size_t bytes) noexcept {
  for_each_line(begin, bytes, [](const std::byte* line) { __builtin_prefetch(line); });
}

/// The next payload lies behind this one, mostly. Of larger ones the processor finds the way by itself.
inline constexpr std::size_t fetched_payload_max = 4096;

inline constexpr std::uint64_t size_mask = (1ULL << 40) - 1;

/// By which the keeper knows the references of a message (detail::attach). Never used for another one: positions rise.
inline constexpr std::uint64_t message_number(std::size_t lane, std::uint64_t position) {
  return (std::uint64_t{lane} + 1) << 54 | position;
}

/// The same of the region with a lane's larger payloads, which the queue holds as long as it lives: no position is so
/// large.
inline constexpr std::uint64_t lane_data_number(std::size_t lane) { return message_number(lane, (1ULL << 54) - 1); }

// ---- lanes ---------------------------------------------------------------------------------------------------------

/// A ring of slots with one owner, who puts. Who gets takes slots by compare-and-swap.
struct lane_control {
  // Written by the owner; lowered, and given another turn, by who holds `quota_holder`.
  alignas(128) std::atomic<std::uint64_t> gate;  // next position, 32 bits | how many may wait, 25 | turn, 7
  std::atomic<std::uint64_t> bytes_tail;         // of all messages ever put here
  std::atomic<std::uint64_t> last_skipped;       // 1 + the last position that was passed over
  std::atomic<std::uint64_t> first;              // by rank: link_word() to the first of the list
  std::atomic<std::uint64_t> slots_used;         // by rank: all others are fresh

  // Written by takers.
  alignas(128) std::atomic<std::uint64_t> head;  // all positions before it have been taken or passed over
  std::atomic<std::uint64_t> begin;              // by rank: list_begin; nothing waits before it

  // Seldom written.
  alignas(128) std::atomic<participant> owner;
  std::atomic<std::uint64_t> bytes_quota;        // how many bytes may wait, 40 bits | turn, 24
  std::atomic<std::uint64_t> data;               // id of the region with the larger payloads, or 0
};

inline constexpr std::uint64_t one_more_waits = 1ULL << 32;  // in a gate
inline constexpr std::uint64_t next_turn_of_gate = 1ULL << 57;
inline constexpr std::uint64_t next_turn_of_bytes = 1ULL << 40;
inline constexpr std::uint32_t gate_tail(std::uint64_t gate) { return static_cast<std::uint32_t>(gate); }
inline constexpr std::uint32_t gate_quota(std::uint64_t gate) {
  return static_cast<std::uint32_t>(gate >> 32) & 0x1ffffff;
}
inline constexpr std::uint64_t gate_with_tail(std::uint64_t gate, std::uint32_t tail) {
  return (gate & ~0xffffffffULL) | tail;
}
inline constexpr std::uint64_t quota_in_bytes(std::uint64_t word) { return word & (next_turn_of_bytes - 1); }

// ---- lanes of queues that go by rank -------------------------------------------------------------------------------

/// Of each slot, in an array of their own. Written by the lane's owner alone.
struct alignas(32) order_node {
  std::atomic<std::uint64_t> next;    // link_word()
  std::atomic<std::uint64_t> rank;    // the smallest goes first, and of equal ones
  std::atomic<std::uint64_t> number;  // the smallest
};
static_assert(sizeof(order_node) == 32);

/// 1 + the index of a slot, or 0: the end; stored with the place where it stands (1 + an index, or 0 for `first`), and
/// xored with the key: a word that was written over leads nowhere.
inline constexpr std::uint64_t link_word(std::uint64_t key, std::uint64_t at, std::uint64_t to) {
  return (at << 32 | to) ^ key;
}

/// Where walks along a list begin: how often that was set anew, 38 bits | 1 + the index of a slot, or 0: at `first`.
struct list_begin {
  static constexpr std::uint64_t index_bits = 26;
  std::uint64_t version, index;

  static constexpr list_begin of(std::uint64_t key, std::uint64_t word) {
    if (word == 0) return {0, 0};  // of a lane that nobody had yet
    return {(word ^ key) >> index_bits, (word ^ key) & ((1ULL << index_bits) - 1)};
  }
  [[nodiscard]] constexpr std::uint64_t word(std::uint64_t key) const { return (version << index_bits | index) ^ key; }
};

/// A slot is used again only after so many puts to its lane: who walks a list may still stand on it.
inline constexpr std::uint32_t puts_before_reuse = 32;

// ---- the header ----------------------------------------------------------------------------------------------------

/// Constant after construction; every process has a private copy, made when it got its first handle.
struct queue_shape {
  std::uint64_t items = 0, bytes = 0;  // that may wait
  std::uint64_t slots = 0;             // of a lane; a power of two
  std::uint64_t lanes = 0;
  std::uint64_t slots_at = 0;          // offset in the region
  std::uint64_t nodes_at = 0;          // the same, of a queue that goes by rank
  std::uint64_t deliveries_max = 0;    // 0: no end
  in_flight_policy on_death = in_flight_policy::redeliver;
  queue_order order = queue_order::first_in;

  [[nodiscard]] bool by_rank() const { return order != queue_order::first_in; }
};

enum queue_flag : std::uint32_t {
  flag_closed = 1,
  flag_discarded = 2,
  flag_readers_lost = 4,  // a role was taken and its last holder is gone
  flag_writers_lost = 8,
  flag_writer_died = 16,
  flag_readers_taken = 32,  // a role was taken by somebody, ever
  flag_writers_taken = 64,
};

/// Flags as they are stored: in the upper 24 bits something that only they have in this queue.
inline constexpr std::uint32_t checked_flags(std::uint64_t key, std::uint32_t flags) {
  constexpr std::uint32_t spread = 0x9e377901;  // leaves them where they are
  return flags * spread ^ (static_cast<std::uint32_t>(key >> 32) & 0xffffff00);
}

inline constexpr std::size_t role_holders_max = 512;

struct queue_header {
  queue_shape shape;
  std::uint64_t shape_check;

  // Read by everybody at each step, seldom written.
  alignas(128) std::atomic<std::uint32_t> flags;  // checked_flags()
  std::atomic<std::uint32_t> lanes_used;         // a bound for scans
  std::atomic<std::uint32_t> late, late_done;    // different: a message may wait behind its lane's head
  std::atomic<std::uint32_t> swept_deaths;
  std::atomic<std::uint32_t> keepers_told;       // how many there had been when all that is done was said again
  std::atomic<participant> counting;             // who wants others to pause
  std::atomic<std::uint32_t> sleeping_readers, sleeping_writers, sleeping_joiners;  // at least so many; hints
  poll_word pollers;                             // who waits for messages, or the end, among other things
  poll_word room_pollers;                        // the same, for room

  // Futex words.
  alignas(128) std::atomic<std::uint32_t> readable;
  std::atomic<std::uint32_t> writable, idle;

  alignas(128) std::atomic<participant> quota_holder;  // who may move quota from lane to lane, or 0
  std::atomic<std::uint64_t> next_number;              // of messages that go by rank
  alignas(128) std::atomic<std::uint64_t> roles[role_holders_max];  // process | role bits; 0 is nobody
  alignas(128) lane_control lanes[1];  // shape.lanes of them
};

/// Of queue `id`. Throws queue_damaged.
void change_flags(std::atomic<std::uint32_t>& flags, std::uint64_t id, std::uint32_t add, std::uint32_t remove);

/// The queue's memory, by the private copy of its shape: no index or length that lies in shared memory is followed.
struct queue_view {
  std::byte* base = nullptr;
  queue_shape shape;
  std::uint64_t key = 0;  // states are stored xored with it, so that memory overwritten with anything has none
  std::uint64_t id = 0;
  bool tells = true;      // the family, when it finds the queue overwritten

  [[nodiscard]] queue_header& header() const { return *reinterpret_cast<queue_header*>(base); }
  [[nodiscard]] lane_control& lane(std::size_t l) const { return header().lanes[l]; }
  [[nodiscard]] message_slot& slot(std::size_t l, std::uint64_t position) const {
    return reinterpret_cast<message_slot*>(base + shape.slots_at)[l * shape.slots + (position & (shape.slots - 1))];
  }
  [[nodiscard]] order_node& node(std::size_t l, std::uint64_t index) const {
    return reinterpret_cast<order_node*>(base + shape.nodes_at)[l * shape.slots + index];
  }
  /// Throws queue_damaged.
  [[nodiscard]] std::uint32_t flags() const {
    const std::uint32_t stored = header().flags.load(std::memory_order_seq_cst);
    if (stored != checked_flags(key, stored & 0xff)) [[unlikely]]
      damaged();
    return stored & 0xff;
  }
  void change_flags(std::uint32_t add, std::uint32_t remove) const {
    detail::change_flags(header().flags, id, add, remove);
  }
  [[nodiscard]] std::uint64_t raw(slot_state s) const { return s.word ^ key; }
  [[nodiscard]] slot_state state_of(std::uint64_t raw_word) const {
    return raw_word == 0 ? slot_state{} : slot_state{raw_word ^ key};
  }
  /// Whether the slot of `position` may never have been used: in the first round, or passed over then.
  [[nodiscard]] bool may_be_fresh(const message_slot& s, std::uint64_t raw_word, std::uint64_t position) const {
    return raw_word == 0 && (position < shape.slots || s.skipped.load(std::memory_order_relaxed) != 0);
  }
  /// Lanes that were ever used.
  [[nodiscard]] std::size_t lanes_used() const {
    const std::size_t n = header().lanes_used.load(std::memory_order_acquire);
    if (n > shape.lanes) [[unlikely]]
      damaged();
    return n;
  }

  /// Tells the family that this queue was overwritten, if this view tells, and throws queue_damaged.
  [[noreturn]] void damaged() const;
};

/// Whether a queue of this shape lies within `bytes`.
inline bool fits(const queue_shape& s, std::uint64_t bytes) {
  const auto has = [&](std::uint64_t at, std::uint64_t of_each) {
    return at <= bytes && s.lanes <= (bytes - at) / of_each / s.slots;
  };
  return s.lanes != 0 && s.slots != 0 && (s.slots & (s.slots - 1)) == 0 && has(s.slots_at, sizeof(message_slot)) &&
         (!s.by_rank() || has(s.nodes_at, sizeof(order_node)));
}

/// queue_view::key of a queue. Of no kind of state: no state is 0 when it is stored.
inline constexpr std::uint64_t queue_key(std::uint64_t region_id) {
  const std::uint64_t mixed = (region_id + 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;
  return (mixed ^ (mixed >> 31)) | slot_state::kind_mask;
}

/// Offset of the slots.
inline constexpr std::uint64_t slots_offset(std::uint64_t lanes) {
  return (offsetof(queue_header, lanes) + lanes * sizeof(lane_control) + page_bytes - 1) / page_bytes * page_bytes;
}

/// Of memory that need not be aligned.
inline std::uint64_t word_at(const std::byte* p) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, p, sizeof word);
  return word;
}

/// A number that says whether `words` (and the bytes after them) are what was written. Detects overwriting, not malice:
/// each word is multiplied by an odd number and turned, from place to place by others, so a single one that changed is
/// always found, and several by all but very few chances. (Without the turns two upper bits would make up for one
/// another.) Inlined, and four words at a time, for every message is summed up at both ends, on the way from the one to
/// the other.
[[gnu::always_inline]] inline std::uint64_t checksum_of(std::uint64_t key, std::span<const std::uint64_t> words,
                                                        std::span<const std::byte> bytes) noexcept {
  constexpr std::uint64_t next = 0x2c1b3c6d, a = 0x297a2d39, b = 0x7ed558cd, c = 0x45d9f3b3, d = 0x1b873593;
  constexpr std::size_t word = sizeof(std::uint64_t);
  std::uint64_t sum = key + bytes.size();
  const std::uint64_t* w = words.data();
  std::size_t n = words.size();
  const auto four = [&](std::uint64_t w0, std::uint64_t w1, std::uint64_t w2, std::uint64_t w3) {
    sum = std::rotl(sum * next, 8) + w0 * a + std::rotl(w1 * b, 16) + std::rotl(w2 * c, 32) + std::rotl(w3 * d, 48);
  };
  const auto one = [&](std::uint64_t w0) { sum = std::rotl(sum * next, 8) + w0 * a; };
  for (; n >= 4; n -= 4, w += 4) four(w[0], w[1], w[2], w[3]);
  for (; n != 0; --n, ++w) one(*w);
  const std::byte* p = bytes.data();
  n = bytes.size();
  for (; n >= 4 * word; n -= 4 * word, p += 4 * word)
    four(word_at(p), word_at(p + word), word_at(p + 2 * word), word_at(p + 3 * word));
  for (; n >= word; n -= word, p += word) one(word_at(p));
  std::uint64_t rest = 0;
  for (; n != 0; --n, ++p) rest = rest << 8 | std::to_integer<std::uint64_t>(*p);
  return (sum + rest) * next;
}

/// As checksum_of(), for a message whose payload is not in its slot. Of the payload it takes eight words, spread from
/// the first to the last: who writes over all that he may write hits them, and no message costs more for it. By rank it
/// takes all, for there the other words do not tell whose payload it is.
inline std::uint64_t checksum_of_large(const queue_view& q, std::span<const std::uint64_t, 4> words,
                                       std::span<const std::byte> payload) noexcept {
  constexpr std::size_t steps = 7, word = sizeof(std::uint64_t);
  if (q.shape.by_rank() || payload.size() < (steps + 1) * word) [[unlikely]]
    return checksum_of(q.key, words, payload);
  // Each at a multiple of eight from the start, as it was just written: a load across two stores would wait for both.
  constexpr unsigned fraction = 8;
  const std::size_t last = payload.size() - word;
  const std::size_t step = (last / word << fraction) / steps;
  std::uint64_t seen = word_at(payload.data() + last);
  std::size_t at = 0;
  const auto look = [&] {
    seen = std::rotl(seen, 9) + word_at(payload.data() + (at >> fraction) * word);
    at += step;
  };
  look(), look(), look(), look(), look(), look(), look();  // `steps` times: a loop costs a third more
  return checksum_of(q.key + seen, words, {});
}

/// What a message's slot says of its rank and number.
inline std::uint64_t sum_of_order(std::uint64_t key, std::uint64_t rank, std::uint64_t number) noexcept {
  const std::array<std::uint64_t, 2> words{rank, number};
  return checksum_of(key, words, {});
}

std::uint64_t shape_check_of(std::uint64_t key, const queue_shape& shape) noexcept;

}  // namespace covey::detail
