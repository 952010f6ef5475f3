/// @file
/// heap: the memory of one shared root. docs/design/memory.md draws its states.
#pragma once

#include <array>
#include <covey/memory/errors.hpp>
#include <covey/memory/lock_word.hpp>
#include <cstddef>
#include <cstdint>

namespace covey::detail {

/// Where the bytes of a heap are. `stranded`: a process was killed while it had them in hand inside allocate or
/// deallocate, and they are neither used nor free; or, once a holder of the region died, nothing in the region points
/// to them.
struct heap_usage {
  std::uint64_t used = 0;  // what is stranded because nothing points to it included
  std::uint64_t free = 0;
  std::uint64_t stranded = 0;
  std::uint64_t committed = 0;  // of all, reserved pages, the root's own included
};

/// Allocates inside the region of kind object in whose first page it lies; the same address in every process.
///
/// Safety: process-safe. Blocks; not signal-safe.
/// Death:  a process killed at any instruction inside leaves a valid heap: each change of its lists is one store.
///         What the dead had in hand, or nothing links, is stranded until reclaim(), or until the region goes.
/// Damage: what is read is checked before it is used. Whoever finds nonsense marks the heap, tells the family
///         (report_damage) and throws memory_damaged, as do all from then on.
class heap {
 public:
  /// `first`: where in the region its memory begins; `limit`: where it ends, a whole page. From there on the heap has
  /// starts_bytes(limit) for itself, if it has memory. `committed`: what of all that is reserved, from the beginning
  /// on.
  heap(std::uint64_t first, std::uint64_t committed, std::uint64_t limit) noexcept;

  /// Throws std::bad_alloc when the region is full, the system has no memory, or `align` is above a page;
  /// memory_damaged.
  void* allocate(std::size_t bytes, std::size_t align);

  /// What allocate(bytes, align) gave. Does nothing when the heap is damaged.
  void deallocate(void* p, std::size_t bytes, std::size_t align) noexcept;

  /// Counts, under the lock: as slow as the lists of free blocks are long, and if somebody who held the region died, as
  /// the region is large. Throws memory_damaged; std::bad_alloc.
  [[nodiscard]] heap_usage usage();

  /// Frees what nothing in the region points to, whoever was given it. Nobody else uses what lies in the heap
  /// meanwhile. Returns how many bytes. Throws memory_damaged; std::bad_alloc.
  std::uint64_t reclaim();

  /// Whether nobody has found damage yet.
  [[nodiscard]] bool sound_approx() const noexcept;

  /// Whether `p` lies in the region of this heap.
  [[nodiscard]] bool contains(const void* p) const noexcept;

  static constexpr std::size_t class_count = 28;

 private:
  class opened;

  template <class Use>
  auto open(const Use& use);

  [[nodiscard]] std::byte* base() const noexcept;

  // Each of the atomics is changed under lock_ only, and is atomic because each store must be whole, and in order,
  // for whoever comes after a death.
  lock_word lock_;
  std::atomic<std::uint64_t> sound_;  // heap_is_sound, or damaged
  std::uint64_t first_;  // constant: where the first granule lies
  std::uint64_t limit_;  // constant: where the last one ends, and what tells where blocks begin lies
  std::atomic<std::uint64_t> committed_;
  std::atomic<std::uint64_t> starts_committed_{0};  // bytes, from limit_ on
  std::atomic<std::uint64_t> frontier_;  // granules below it were handed out at some time
  std::atomic<std::uint64_t> runs_{0};  // head of the free runs
  std::atomic<std::uint64_t> chunk_{0};  // what small blocks are carved from
  std::atomic<std::uint64_t> used_{0};
  std::array<std::atomic<std::uint64_t>, class_count>
      free_{};  // heads: offset of the first free block of a class, or 0
};

}  // namespace covey::detail
