/// @file
/// block_chains: payloads of any size in blocks of one size, under the lock of who has them.
#pragma once

#include <atomic>
#include <covey/memory/family.hpp>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace covey::detail {

inline constexpr std::uint32_t nothing = ~0U;  // no block, no descriptor
inline constexpr std::size_t block_bytes = 256;
inline constexpr std::size_t block_payload = block_bytes - 8;  // after the index of the next block

inline constexpr std::uint64_t blocks_for(std::uint64_t bytes) { return (bytes + block_payload - 1) / block_payload; }

/// In shared memory.
struct block_books {
  std::uint32_t used;       // ever handed out: beyond it nothing is in a chain or on the free list
  std::uint32_t committed;  // have memory
  std::uint32_t free, free_count;  // an index: a list, through the blocks
};

/// Blocks in shared memory, each in one chain or free. A chain is a first block, kept by its owner.
///
/// Death: of who had the lock: the chains of what is not free are walked by mark(), and the rest is free after
///        sweep_unmarked(). A chain that was cut while it was built or given back is short.
class block_chains {
 public:
  /// `begin` is the first of `count`; `id` the region that is damaged when they make no sense.
  block_chains(std::byte* begin, std::uint64_t count, block_books& books, std::uint64_t id)
      : begin_(begin), count_(count), books_(books), id_(id) {}

  /// Whether `wanted` are to be had; gives them memory. Throws std::system_error when there is none.
  [[nodiscard]] bool provide(std::uint64_t wanted) const;
  /// Makes a chain, block after block, each at once part of `first`. They were provided.
  void take(std::uint64_t wanted, std::uint32_t& first) const;
  void give(std::uint32_t first) const;

  void copy_in(std::uint32_t first, std::initializer_list<std::span<const std::byte>> parts) const;
  void copy_out(std::uint32_t first, std::span<std::byte> out) const;

  /// As copy_in, for chains that others read without the lock.
  void copy_in_raced(std::uint32_t first, std::initializer_list<std::span<const std::byte>> parts) const;
  /// As copy_out, without the lock: the blocks may become another chain's meanwhile. False when it led nowhere; else a
  /// checksum must tell what was copied.
  [[nodiscard]] bool copy_out_racing(std::uint32_t first, std::span<std::byte> out) const noexcept;

  /// Repair: all marks are off, then each chain is marked, then what has no mark is free.
  [[nodiscard]] std::vector<bool> no_marks() const;
  void mark(std::uint32_t first, std::vector<bool>& marks) const;
  void free_unmarked(const std::vector<bool>& marks) const;

 private:
  [[nodiscard]] std::byte* block(std::uint64_t b) const;
  [[nodiscard]] std::atomic_ref<std::uint32_t> link(std::uint64_t b) const;
  [[nodiscard]] std::uint32_t next(std::uint64_t b) const;
  void set_next(std::uint64_t b, std::uint32_t after) const;
  void give_one(std::uint32_t b) const;

  std::byte* begin_;
  std::uint64_t count_;
  block_books& books_;
  std::uint64_t id_;
};

/// Tells the family that region `id`, a queue or a broadcast, was overwritten, and throws queue_damaged.
[[noreturn]] void throw_damaged(std::uint64_t id);

}  // namespace covey::detail
