/// @file
/// The shared memory of a broadcast: header, lanes, subscriptions, places; and of its lanes: headers, payloads.
/// docs/design/broadcast.md draws it.
#pragma once

#include <algorithm>
#include <covey/ipc/broadcast_core.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/memory/errors.hpp>

namespace covey::detail {

// ---- places --------------------------------------------------------------------------------------------------------

/// `free`: message `number` was here. `end`: no message ever has that number, or a greater one.
enum class place_kind : std::uint64_t { fresh, free, queued, end };

/// All that is said of a place, in one word that only compare-and-swap changes.
struct place_word {
  std::uint64_t word = 0;

  static constexpr std::uint64_t number_bits = 53;
  static constexpr std::uint64_t holds_bit = 1ULL << 61;

  /// `holds`: the message's references are still held for it.
  static constexpr place_word at(place_kind kind, std::uint64_t number, std::uint64_t lane = 0, bool holds = false) {
    return {static_cast<std::uint64_t>(kind) << 62 | (holds ? holds_bit : 0) | lane << number_bits | number};
  }
  [[nodiscard]] constexpr place_kind kind() const { return static_cast<place_kind>(word >> 62); }
  [[nodiscard]] constexpr bool holds() const { return (word & holds_bit) != 0; }
  [[nodiscard]] constexpr std::uint64_t lane() const { return (word >> number_bits) & 0xff; }
  [[nodiscard]] constexpr std::uint64_t number() const { return word & ((1ULL << number_bits) - 1); }
  [[nodiscard]] constexpr bool is(place_kind k, std::uint64_t n) const { return kind() == k && number() == n; }
  [[nodiscard]] constexpr place_word evicted() const { return at(place_kind::free, number(), lane(), holds()); }
  [[nodiscard]] constexpr place_word without_references() const { return {word & ~holds_bit}; }
  /// Whether the same message is meant, whatever has become of it.
  [[nodiscard]] constexpr bool same_message(place_word other) const {
    return number() == other.number() && lane() == other.lane() &&
           (kind() == place_kind::fresh) == (other.kind() == place_kind::fresh);
  }
  constexpr bool operator==(const place_word&) const = default;
};

/// Of every message whose number has the same rest when divided by the number of places.
struct alignas(64) broadcast_place {
  std::atomic<std::uint64_t> word;  // place_word ^ key
};

// ---- lanes ---------------------------------------------------------------------------------------------------------

inline constexpr std::size_t broadcast_lanes_max = 256;

/// Owned by one publishing thread.
struct broadcast_lane {
  std::atomic<participant> owner;
  std::atomic<std::uint64_t> data;  // id of its region, or 0
};

/// The first page of a lane's own region.
struct lane_page {
  std::atomic<std::uint64_t> whose;  // lane_check()
  std::atomic<std::uint64_t> last_reference;  // message_number() of the last message that was given references, or 0
};

/// All that is said of a message by who puts it. It counts while its place names the lane and the number.
struct alignas(64) message_header {
  std::atomic<std::uint64_t> number;
  std::atomic<std::uint64_t> bytes_end;  // of all messages of the broadcast up to this one
  std::atomic<std::uint64_t> size_and_attachments;  // bytes; in the upper 24 bits: it begins with so many region ids
  std::atomic<std::uint64_t> extent;  // where its payload lies in this region
  std::atomic<std::uint64_t> reference;  // number by which the keeper knows its references, or 0
  std::atomic<std::uint64_t> payload_sum;
  std::atomic<std::uint64_t> check;  // of all above
};
static_assert(sizeof(message_header) == 64);

/// A private copy of one, checked.
struct known_header {
  std::uint64_t bytes_end = 0, size = 0, attachments = 0, extent = 0, reference = 0, payload_sum = 0;
  [[nodiscard]] std::uint64_t bytes_begin() const { return bytes_end - size; }
};

// ---- the broadcast's region ----------------------------------------------------------------------------------------

/// In use as long as its region is held by anybody.
struct alignas(64) broadcast_subscription {
  std::atomic<std::uint64_t> region;  // its id, or 0
  std::atomic<std::uint64_t> cursor;  // number of the next message, as a slot_state ^ key
  std::atomic<std::uint64_t> missed;
  std::atomic<std::uint64_t> ready;  // as `region`, once the cursor is its own; subscribe() pairs with least_cursor()
};

/// Constant after construction.
struct broadcast_shape {
  std::uint64_t items = 0, bytes = 0;  // that are kept
  std::uint64_t subscriptions = 0;
  slow_subscriber when_slow = slow_subscriber::lag;

  /// One more than messages, so that there is always one for the end.
  [[nodiscard]] std::uint64_t places() const { return items + 1; }
  /// Of a lane. One more than places: its owner comes round to a header only when its place has a later message.
  [[nodiscard]] std::uint64_t headers() const { return places() + 1; }
  [[nodiscard]] std::uint64_t extents_at() const {
    return (page_bytes + headers() * sizeof(message_header) + page_bytes - 1) / page_bytes * page_bytes;
  }
  /// Of a lane's region. Twice what is kept: then there is room in one piece as long as what is oldest goes first.
  [[nodiscard]] std::uint64_t lane_bytes() const {
    const std::uint64_t extents = 2 * bytes + items * 64 + (1U << 20);
    return extents_at() + (extents + page_bytes - 1) / page_bytes * page_bytes;
  }
};

struct broadcast_header {
  broadcast_shape shape;
  std::uint64_t shape_check;
  alignas(64) std::atomic<std::uint32_t> flags;  // checked_flags()
  std::atomic<std::uint32_t> swept_deaths;
  std::atomic<std::uint32_t> with_references;  // a message ever had some
  std::atomic<std::uint32_t> keepers_told;  // how many there had been when all that was released was said again
  // Numbers as cursors are; they only rise.
  alignas(64) std::atomic<std::uint64_t> next;  // all before it were committed, and none behind it
  std::atomic<std::uint64_t> oldest;  // all before it have left
  alignas(64) poll_word readers, writers;
  alignas(64) broadcast_lane lanes[broadcast_lanes_max];
};

/// The broadcast's memory, by a checked copy of its shape: no index or length from shared memory is followed unchecked.
class broadcast_memory {
 public:
  /// Throws queue_damaged. `tells` the family, when it finds it overwritten.
  explicit broadcast_memory(const region& r, bool tells = true);

  [[nodiscard]] broadcast_header& header() const { return *reinterpret_cast<broadcast_header*>(base); }
  [[nodiscard]] broadcast_lane& lane(std::uint64_t l) const {
    if (l >= broadcast_lanes_max) damaged();
    return header().lanes[l];
  }
  [[nodiscard]] broadcast_subscription& subscription(std::uint64_t s) const {
    if (s >= shape.subscriptions) damaged();
    return reinterpret_cast<broadcast_subscription*>(base + subscriptions_at())[s];
  }
  [[nodiscard]] broadcast_place& place(std::uint64_t number) const {
    return reinterpret_cast<broadcast_place*>(base + places_at())[number % shape.places()];
  }

  // ---- words that say when they were written over ----

  /// What stands at the place of message `number`.
  [[nodiscard]] place_word at(std::uint64_t number) const {
    const place_word w{place(number).word.load(std::memory_order_seq_cst) ^ key};
    const bool sound = w.kind() == place_kind::fresh ? w.word == 0 && number < shape.places()
                                                     : w.number() % shape.places() == number % shape.places();
    if (!sound) damaged();
    return w;
  }
  bool swap(std::uint64_t number, place_word from, place_word to) const {
    from.word ^= key;
    return place(number).word.compare_exchange_strong(from.word, to.word ^ key, std::memory_order_seq_cst);
  }
  [[nodiscard]] std::uint64_t cursor_word(std::uint64_t number) const {
    return slot_state::at(slot_kind::queued, number).word ^ key;
  }
  [[nodiscard]] std::uint64_t number_in(std::uint64_t cursor) const {
    const slot_state s{cursor ^ key};
    if (s != slot_state::at(slot_kind::queued, s.position())) damaged();
    return s.position();
  }
  [[nodiscard]] std::uint64_t number_in(const std::atomic<std::uint64_t>& cursor) const {
    return number_in(cursor.load(std::memory_order_seq_cst));
  }
  void raise(std::atomic<std::uint64_t>& cursor, std::uint64_t number) const;
  [[nodiscard]] std::uint32_t flags() const {
    const std::uint32_t stored = header().flags.load(std::memory_order_seq_cst);
    if (stored != checked_flags(key, stored & 0xff)) damaged();
    return stored & 0xff;
  }

  // ---- messages ----

  /// Whether a message is where it belongs, has left, or has not come; and, when it left, a later number that may be
  /// the next one there is. At `end` there are no more.
  enum class presence { here, gone, not_yet, end };
  struct found {
    presence is;
    std::uint64_t next = 0;
  };
  [[nodiscard]] found look(std::uint64_t number) const;

  /// The number that the next message has, or one that it had while this looked.
  [[nodiscard]] std::uint64_t next_number() const;

  /// Of a payload in three parts, the one in the middle of 8 bytes, or all if there are fewer: the same for a message
  /// whose length was given apart and for one that is whole.
  [[nodiscard]] std::uint64_t sum_of(std::span<const std::byte> references, std::span<const std::byte> first_word,
                                     std::span<const std::byte> rest) const;
  [[nodiscard]] std::uint64_t sum_of(std::span<const std::byte> references, std::span<const std::byte> rest) const {
    const std::size_t n = std::min(rest.size(), sizeof(std::uint64_t));
    return sum_of(references, rest.first(n), rest.subspan(n));
  }

  // ---- subscriptions ----

  static constexpr std::uint64_t nobody = ~0ULL;
  /// The number of the first message that somebody has not got, or `nobody`. Forgets the dead.
  [[nodiscard]] std::uint64_t least_cursor() const;

  [[nodiscard]] std::uint64_t subscriptions_at() const { return (sizeof(broadcast_header) + 63) / 64 * 64; }
  [[nodiscard]] std::uint64_t places_at() const {
    return subscriptions_at() + shape.subscriptions * sizeof(broadcast_subscription);
  }
  [[nodiscard]] std::uint64_t bytes() const { return places_at() + shape.places() * sizeof(broadcast_place); }

  [[noreturn]] void damaged() const {
    if (tells) report_damage(id);
    throw queue_damaged();
  }

  /// Makes a new one.
  static region make(const broadcast_shape& shape);

  std::byte* base = nullptr;
  broadcast_shape shape;
  std::uint64_t key = 0;
  std::uint64_t id = 0;
  bool tells = true;

 private:
  broadcast_memory() = default;
};

}  // namespace covey::detail
