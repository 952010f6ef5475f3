/// @file
/// The shared memory of a queue: header, descriptors, blocks. Used by queue_core.cpp alone.
#pragma once

#include <covey/ipc/queue_core.hpp>
#include <covey/memory/lock_word.hpp>

namespace covey::detail {

inline constexpr std::uint32_t nothing = ~0U;  // no descriptor, no block
inline constexpr std::size_t block_bytes = 256;
inline constexpr std::size_t block_payload = block_bytes - 8;  // after the index of the next block
inline constexpr std::size_t role_holders_max = 512;

/// In bits 22..29 of a participant's name, which alive() ignores.
enum class message_kind : std::uint64_t { free, reserved, queued, in_flight };
inline constexpr std::uint64_t kind_shift = 22;
inline constexpr std::uint64_t kind_mask = 0xffULL << kind_shift;
inline constexpr message_kind kind_of(std::uint64_t state) {
  return static_cast<message_kind>((state & kind_mask) >> kind_shift);
}
inline constexpr participant hand_of(std::uint64_t state) { return state & ~kind_mask; }
inline constexpr std::uint64_t message_state(message_kind kind, participant hand) {
  return hand | static_cast<std::uint64_t>(kind) << kind_shift;
}

struct alignas(64) message_descriptor {
  std::atomic<std::uint64_t> state;  // the truth; release, pairs with acquire where the lock does not order it
  std::uint64_t sequence;
  std::uint64_t size;         // bytes of payload, attachments included
  std::uint32_t first_block;  // of a chain
  std::uint32_t attachments;  // the payload begins with so many region ids
  std::uint32_t deliveries;
  std::uint32_t next;         // index: FIFO or free list
};

struct role_holder {
  process_id who;
  queue_role role;
  std::uint32_t count;
};

struct queue_header {
  lock_word lock;

  // Futex words, raised under the lock when somebody counted below sleeps.
  std::atomic<std::uint32_t> readable, writable, idle;
  std::uint32_t sleeping_readers, sleeping_writers, sleeping_joiners;

  // Constant after construction.
  std::uint32_t items_max, descriptor_count, block_count;
  in_flight_policy on_death;
  std::uint64_t descriptors_at, blocks_at;  // offsets in the region

  // Under the lock; true by themselves.
  std::uint32_t closed;
  std::uint32_t readers_lost, writers_lost;  // a role was taken and its last holder is gone
  std::uint32_t writer_died;
  std::uint64_t next_sequence;
  std::uint32_t blocks_used;       // ever handed out: beyond it nothing is in a chain or on the free list
  std::uint32_t blocks_committed;  // have memory

  // Under the lock; indexes, rebuilt from the descriptors.
  std::atomic<std::uint32_t> queued;  // relaxed outside the lock: an approximation
  std::uint32_t reserved, in_flight;
  std::uint32_t oldest, newest;  // FIFO of queued descriptors
  std::uint32_t free_descriptors, free_blocks, free_block_count;
  std::uint32_t swept_deaths;

  role_holder roles[role_holders_max];
};

/// The queue's memory with every index checked: what a participant may have scribbled is refused, not followed.
struct queue_memory {
  explicit queue_memory(const region& r)
      : header(*reinterpret_cast<queue_header*>(r.data())), base(r.data()), bytes(r.size()) {}

  message_descriptor& descriptor(std::uint32_t i) const {
    if (i >= header.descriptor_count) throw queue_damaged();
    return *at<message_descriptor>(header.descriptors_at, i);
  }
  std::uint32_t& next_block(std::uint32_t i) const {
    if (i >= header.block_count) throw queue_damaged();
    return *reinterpret_cast<std::uint32_t*>(at<std::byte[block_bytes]>(header.blocks_at, i));
  }
  std::byte* block(std::uint32_t i) const {
    if (i >= header.block_count) throw queue_damaged();
    return reinterpret_cast<std::byte*>(at<std::byte[block_bytes]>(header.blocks_at, i)) + 8;
  }

  queue_header& header;
  std::byte* base;
  std::uint64_t bytes;

 private:
  template <class T>
  T* at(std::uint64_t offset, std::uint64_t index) const {
    if (offset > bytes || index >= (bytes - offset) / sizeof(T)) throw queue_damaged();
    return reinterpret_cast<T*>(base + offset) + index;
  }
};

}  // namespace covey::detail
