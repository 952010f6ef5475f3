/// @file
/// The shared memory of a queue under one lock: header, descriptors, blocks. docs/design/ordered_queue.md draws it.
#pragma once

#include <covey/ipc/block_chains.hpp>
#include <covey/ipc/book_lock.hpp>
#include <covey/ipc/ordered_core.hpp>
#include <covey/ipc/queue_roles.hpp>

namespace covey::detail {

/// One message. Its state is a slot_state, of free, queued, failed (with the number of the message as its position) or
/// in_flight; in flight with no delivery is a message that is still being put, and done one that nobody gets again.
struct alignas(64) message_descriptor {
  std::atomic<std::uint64_t> state;    // slot_state ^ key. The truth; release: pairs with the acquire of rebuild
  std::uint64_t rank;                  // the smallest goes first, and of equal ones
  std::uint64_t number;                // the smallest: messages are counted when they are committed
  std::uint64_t size_and_attachments;  // bytes of payload; in the upper 24 bits: it begins with so many region ids
  std::uint64_t checksum;              // of the above but the state, of the chain's beginning, and of the payload
  std::uint64_t references;            // by which number the keeper knows those of this message, or 0: it has none
  std::uint32_t first_block;           // of a chain
};
static_assert(sizeof(message_descriptor) == 64);

/// Constant after construction; copied and checked at each use.
struct ordered_shape {
  std::uint64_t items = 0, bytes = 0;  // that may wait
  std::uint64_t descriptors = 0, blocks = 0;
  std::uint64_t deliveries_max = 0;  // 0: no end
  in_flight_policy on_death = in_flight_policy::redeliver;
  queue_order order = queue_order::by_rank;
};

/// What is read and changed under the lock.
struct ordered_books {
  // True by themselves.
  std::uint64_t next_number;  // of messages, and of the references of messages
  block_books blocks;

  // Indexes, rebuilt from the descriptors.
  std::uint64_t bytes_waiting;  // of all that is queued or being put
  std::uint32_t queued;         // changed and, outside the lock, read as an atomic
  std::uint32_t held;           // in flight, or being put
  std::uint32_t being_put;
  std::uint32_t failed;
  std::uint32_t free_descriptors;
  std::uint32_t swept_deaths;

  // At least so many sleep.
  std::uint32_t sleeping_readers, sleeping_writers, sleeping_joiners, zero;
};

struct ordered_header {
  ordered_shape shape;
  std::uint64_t shape_check;
  std::atomic<std::uint32_t> flags;  // checked_flags()
  poll_word pollers;
  std::atomic<std::uint32_t> readable, writable, idle;  // futexes, raised under the lock when somebody sleeps
  locked_books<ordered_books> locked;
  std::atomic<std::uint64_t> roles[role_holders_max];
};

/// The queue's memory, by a checked copy of its shape: no index or length from shared memory is followed unchecked.
class ordered_memory {
 public:
  /// Throws queue_damaged. `tells` the family, when it finds it overwritten.
  explicit ordered_memory(const region& r, bool tells = true);

  [[nodiscard]] ordered_header& header() const { return *reinterpret_cast<ordered_header*>(base); }
  [[nodiscard]] message_descriptor& descriptor(std::uint64_t i) const {
    if (i >= shape.descriptors) damaged();
    return reinterpret_cast<message_descriptor*>(base + descriptors_at())[i];
  }
  /// Descriptors in the order in which they go, as a heap, from the front; free ones, as a stack, from the back.
  [[nodiscard]] std::uint32_t& index(std::uint64_t n) const {
    if (n >= shape.descriptors) damaged();
    return reinterpret_cast<std::uint32_t*>(base + index_at())[n];
  }
  [[nodiscard]] block_chains blocks() const {
    return {base + blocks_at(), shape.blocks, header().locked.books.blocks, id};
  }
  [[nodiscard]] slot_state state(const message_descriptor& d) const {
    return {d.state.load(std::memory_order_acquire) ^ key};
  }
  void set_state(message_descriptor& d, slot_state s) const { d.state.store(s.word ^ key, std::memory_order_release); }
  [[nodiscard]] std::uint32_t flags() const {
    const std::uint32_t stored = header().flags.load(std::memory_order_seq_cst);
    if (stored != checked_flags(key, stored & 0xff)) damaged();
    return stored & 0xff;
  }
  [[nodiscard]] role_table roles() const { return {header().flags, header().roles, id}; }

  [[nodiscard]] std::uint64_t descriptors_at() const { return (sizeof(ordered_header) + 63) / 64 * 64; }
  [[nodiscard]] std::uint64_t index_at() const {
    return descriptors_at() + shape.descriptors * sizeof(message_descriptor);
  }
  [[nodiscard]] std::uint64_t blocks_at() const {
    return (index_at() + shape.descriptors * sizeof(std::uint32_t) + page_bytes - 1) / page_bytes * page_bytes;
  }
  [[nodiscard]] std::uint64_t bytes() const { return blocks_at() + shape.blocks * block_bytes; }

  [[noreturn]] void damaged() const {
    if (!tells) throw queue_damaged();
    throw_damaged(id);
  }

  /// Makes a new one, in memory that is all zero.
  static region make(const ordered_shape& shape);

  std::byte* base = nullptr;
  ordered_shape shape;
  std::uint64_t key = 0;  // states are stored xored with it
  std::uint64_t id = 0;
  bool tells = true;

 private:
  ordered_memory() = default;
};

}  // namespace covey::detail
