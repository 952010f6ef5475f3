/// @file
/// heap: the memory of one shared root. docs/design/memory.md draws its states.
#pragma once

#include <array>
#include <covey/memory/lock_word.hpp>
#include <cstddef>
#include <cstdint>

namespace covey::detail {

/// Where the bytes of a heap are. `stranded`: neither used nor free, because a process was killed while it had them in
/// hand inside allocate or deallocate.
struct heap_usage {
  std::uint64_t used = 0;
  std::uint64_t free = 0;
  std::uint64_t stranded = 0;
  std::uint64_t committed = 0;  // of all, reserved pages, the root's own included
};

/// Allocates inside the region at whose first page it lies; the same address in every process.
///
/// Safety: process-safe. Blocks; not signal-safe.
/// Death:  a process killed at any instruction inside leaves a valid heap: each change of its lists is one store.
///         What the dead had in hand is stranded until the region goes.
class heap {
 public:
  /// `first`: where in the region its memory begins; `committed`: what of the region is reserved; `end`: the region's
  /// size.
  heap(std::uint64_t first, std::uint64_t committed, std::uint64_t end) noexcept;

  /// Throws std::bad_alloc when the region is full, the system has no memory, or `align` is above a page.
  void* allocate(std::size_t bytes, std::size_t align);

  /// What allocate(bytes, align) gave.
  void deallocate(void* p, std::size_t bytes, std::size_t align) noexcept;

  /// Counts, under the lock: as slow as the lists of free blocks are long.
  [[nodiscard]] heap_usage usage();

  /// Whether `p` lies in the region of this heap.
  [[nodiscard]] bool contains(const void* p) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - base()) < end_;
  }

  static constexpr std::size_t class_count = 28;

 private:
  class held;

  [[nodiscard]] std::byte* base() const noexcept;
  [[nodiscard]] std::atomic<std::uint64_t>& word_at(std::uint64_t offset) const noexcept;

  std::uint64_t take_small(std::size_t size_class);
  std::uint64_t carve(std::uint64_t bytes, std::uint64_t align);
  void refill(std::uint64_t least);
  void push(std::size_t size_class, std::uint64_t offset) noexcept;
  void donate(std::uint64_t offset, std::uint64_t bytes) noexcept;

  std::uint64_t take_run(std::uint64_t granules, std::uint64_t align);
  std::uint64_t extend(std::uint64_t granules, std::uint64_t align);
  void free_run(std::uint64_t first, std::uint64_t granules) noexcept;
  void commit(std::uint64_t bytes);

  // Each of the atomics is changed under lock_ only, and is atomic because each store must be whole, and in order,
  // for whoever comes after a death.
  lock_word lock_;
  std::uint64_t first_;  // constant: where the first granule lies
  std::uint64_t end_;  // constant
  std::atomic<std::uint64_t> committed_;
  std::atomic<std::uint64_t> frontier_;  // granules below it were handed out at some time
  std::atomic<std::uint64_t> runs_{0};  // head of the free runs
  std::atomic<std::uint64_t> chunk_{0};  // what small blocks are carved from
  std::atomic<std::uint64_t> used_{0};  // bytes
  std::array<std::atomic<std::uint64_t>, class_count>
      free_{};  // heads: offset of the first free block of a class, or 0
};

}  // namespace covey::detail
