/// @file
/// The shared memory of a broadcast: header, subscriptions, descriptors, blocks. docs/design/broadcast.md draws it.
#pragma once

#include <algorithm>
#include <covey/ipc/block_chains.hpp>
#include <covey/ipc/book_lock.hpp>
#include <covey/ipc/broadcast_core.hpp>

namespace covey::detail {

/// The place of every message whose number has the same rest when divided by the number of places.
struct alignas(64) broadcast_place {
  std::atomic<std::uint64_t> state;  // slot_state ^ key: fresh; queued: message `position` is here; free: it was here
  std::atomic<std::uint64_t> size_and_attachments;  // bytes; in the upper 24 bits: it begins with so many region ids
  std::atomic<std::uint64_t> first_block;  // of a chain
  std::atomic<std::uint64_t> checksum;  // of its number, the two above, and the payload
  std::atomic<std::uint64_t> references;  // reference_number() of the message that has some, or 0
};
static_assert(sizeof(broadcast_place) == 64);

/// By which the keeper knows the references of message `number` (detail::attach). The number of one that was not
/// committed is used again, but not with the same count of `rebuilds` (but for multiples of 1,024): what is still said
/// of the former is not taken for the latter.
inline constexpr std::uint64_t reference_number(std::uint64_t number, std::uint64_t rebuilds) {
  return (number + 1) | rebuilds << 54;
}
inline constexpr std::uint64_t number_of_reference(std::uint64_t reference) {
  return (reference & ((1ULL << 54) - 1)) - 1;
}

/// In use as long as its region is held by anybody.
struct alignas(64) broadcast_subscription {
  std::atomic<std::uint64_t> region;  // its id, or 0
  std::atomic<std::uint64_t> cursor;  // number of the next message, as a slot_state ^ key
  std::atomic<std::uint64_t> missed;
  std::atomic<std::uint64_t> ready;  // as `region`, once the cursor is its own; subscribe() pairs with least_cursor()
};

/// Constant after construction; copied and checked at each use.
struct broadcast_shape {
  std::uint64_t items = 0, bytes = 0;  // that are kept
  std::uint64_t subscriptions = 0, blocks = 0;
  slow_subscriber when_slow = slow_subscriber::lag;
};

/// What those who put know under their lock: all but the blocks' bounds are indexes, rebuilt from the places.
struct broadcast_books {
  std::uint64_t head, tail;  // messages [head, tail) are queued
  std::uint64_t bytes_kept;
  std::uint64_t rebuilds;  // true by itself
  block_books blocks;
};

struct broadcast_header {
  broadcast_shape shape;
  std::uint64_t shape_check;
  alignas(64) std::atomic<std::uint32_t> flags;  // checked_flags()
  std::atomic<std::uint32_t> swept_deaths;
  std::atomic<std::uint64_t> with_references;  // at least so many messages hold some
  poll_word readers, writers;
  alignas(64) locked_books<broadcast_books> locked;
};

/// The broadcast's memory, by a checked copy of its shape: no index or length from shared memory is followed unchecked.
class broadcast_memory {
 public:
  /// Throws queue_damaged. `tells` the family, when it finds it overwritten.
  explicit broadcast_memory(const region& r, bool tells = true);

  [[nodiscard]] broadcast_header& header() const { return *reinterpret_cast<broadcast_header*>(base); }
  [[nodiscard]] broadcast_subscription& subscription(std::uint64_t s) const {
    if (s >= shape.subscriptions) damaged();
    return reinterpret_cast<broadcast_subscription*>(base + subscriptions_at())[s];
  }
  [[nodiscard]] broadcast_place& place(std::uint64_t number) const {
    return reinterpret_cast<broadcast_place*>(base + places_at())[number % shape.items];
  }
  [[nodiscard]] block_chains blocks() const {
    return {base + blocks_at(), shape.blocks, header().locked.books.blocks, id};
  }

  // ---- words that say when they were written over ----

  [[nodiscard]] slot_state state(const broadcast_place& p) const {
    const slot_state s{p.state.load(std::memory_order_seq_cst) ^ key};
    if (s != slot_state::at(s.kind(), s.position()) || s.kind() > slot_kind::queued) damaged();
    return s;
  }
  void set_state(broadcast_place& p, slot_kind kind, std::uint64_t number) const {
    p.state.store(slot_state::at(kind, number).word ^ key, std::memory_order_seq_cst);
  }
  [[nodiscard]] std::uint64_t cursor_word(std::uint64_t number) const {
    return slot_state::at(slot_kind::queued, number).word ^ key;
  }
  [[nodiscard]] std::uint64_t number_in(std::uint64_t cursor) const {
    const slot_state s{cursor ^ key};
    if (s != slot_state::at(slot_kind::queued, s.position())) damaged();
    return s.position();
  }
  [[nodiscard]] std::uint32_t flags() const {
    const std::uint32_t stored = header().flags.load(std::memory_order_seq_cst);
    if (stored != checked_flags(key, stored & 0xff)) damaged();
    return stored & 0xff;
  }

  // ---- messages, without the lock ----

  /// Whether a message is where it belongs, has left, or has not come; and, when it left, a later number that may be
  /// the next one there is.
  enum class presence { here, gone, not_yet };
  struct found {
    presence is;
    std::uint64_t next = 0;
  };
  [[nodiscard]] found look(std::uint64_t number) const;

  /// A private copy of message `number`: references first. False when it left meanwhile.
  bool copy_out(std::uint64_t number, std::vector<std::byte>& out, std::size_t& attachments) const;

  /// The number that the next message has, or one that it had while this looked.
  [[nodiscard]] std::uint64_t next_number() const;

  /// Gives back what message `number` holds, if it still does. It stays readable; what it names may be gone.
  void release_references(std::uint64_t number) const;

  [[nodiscard]] std::uint64_t check_of(std::uint64_t number, std::uint64_t size_and_attachments,
                                       std::uint64_t first_block, std::uint64_t payload_sum) const;
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
  /// Messages that all have got hold no references any more.
  void release_passed() const;

  [[nodiscard]] std::uint64_t subscriptions_at() const { return (sizeof(broadcast_header) + 63) / 64 * 64; }
  [[nodiscard]] std::uint64_t places_at() const {
    return subscriptions_at() + shape.subscriptions * sizeof(broadcast_subscription);
  }
  [[nodiscard]] std::uint64_t blocks_at() const {
    return (places_at() + shape.items * sizeof(broadcast_place) + page_bytes - 1) / page_bytes * page_bytes;
  }
  [[nodiscard]] std::uint64_t bytes() const { return blocks_at() + shape.blocks * block_bytes; }

  [[noreturn]] void damaged() const {
    if (!tells) throw queue_damaged();
    throw_damaged(id);
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
