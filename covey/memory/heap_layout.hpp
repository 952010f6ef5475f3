/// @file
/// What lies where in a heap: for heap.cpp, and for who reads a copy.
///
/// Offsets count from the region's first byte. Two levels:
///
/// Runs of granules (512 bytes), for blocks above 4 KiB and for chunks: first fit in a list sorted by address,
/// neighbours joined. A free run is told by one word in its first bytes, so that every change of the list is one store:
///
///     63      32 31       0
///     | granules | next   |      next: first granule of the next free run, 0 is none; runs_ is such a word without
///     size
///
/// Small blocks: 28 sizes, a stack of free blocks each (linked through their first word), filled by carving a chunk:
///
///     chunk_:  63          24 23       0
///              | offset / 16 | left / 16 |
///
/// Where blocks begin is told in a word of 32 bits for each granule of the region, from limit_ on: a bit for each 16
/// bytes. A bit is set before the block, or what will become one, leaves the lists for the first time; small blocks
/// stay for ever; those within a run are cleared before it is taken. Between two of them lies one block, or free
/// memory.
///
/// used_, in bytes, rises after a block has left the lists and falls before it returns to them: what is neither used
/// nor free is what the dead had in hand.
#pragma once

#include <algorithm>
#include <bit>
#include <covey/memory/heap.hpp>
#include <covey/memory/region.hpp>

namespace covey::detail::heap_layout {

inline constexpr std::uint64_t granule = 512;
inline constexpr std::uint64_t unit = 16;
inline constexpr std::uint64_t small_align_max = 64;
inline constexpr std::uint64_t small_max = 4096;
inline constexpr std::uint64_t chunk_max = 64 << 10;

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }
constexpr std::uint64_t round_down(std::uint64_t n, std::uint64_t to) { return n / to * to; }

// 16, 32 … 128, then four to each doubling.
constexpr std::size_t class_of(std::uint64_t bytes) {
  if (bytes <= 128) return bytes <= unit ? 0 : static_cast<std::size_t>((bytes - 1) / unit);
  const auto width = static_cast<std::size_t>(std::bit_width(bytes - 1));
  return 8 + (width - 8) * 4 + static_cast<std::size_t>((bytes - 1 - (1ULL << (width - 1))) >> (width - 3));
}

constexpr std::uint64_t bytes_of(std::size_t size_class) {
  if (size_class < 8) return unit * (size_class + 1);
  const std::size_t width = 8 + (size_class - 8) / 4;
  return (1ULL << (width - 1)) + ((size_class - 8) % 4 + 1) * (1ULL << (width - 3));
}

// Blocks of a class lie at multiples of this.
constexpr std::uint64_t align_of(std::size_t size_class) {
  const std::uint64_t bytes = bytes_of(size_class);
  return std::min(bytes & (~bytes + 1), small_align_max);
}

/// What tells where the blocks of a heap begin takes so many bytes, in whole pages; nothing if it can have none.
constexpr std::uint64_t starts_bytes(std::uint64_t first, std::uint64_t limit) {
  if (limit < first + granule) return 0;
  return round_up((limit - first) / granule * sizeof(std::uint32_t), page_bytes);
}

constexpr std::uint64_t run_word(std::uint64_t granules, std::uint64_t next) { return granules << 32 | next; }
constexpr std::uint64_t run_size(std::uint64_t word) { return word >> 32; }
constexpr std::uint64_t run_next(std::uint64_t word) { return word & 0xffff'ffff; }

constexpr std::uint64_t chunk_word(std::uint64_t offset, std::uint64_t left) {
  return offset / unit << 24 | left / unit;
}
constexpr std::uint64_t chunk_at(std::uint64_t word) { return (word >> 24) * unit; }
constexpr std::uint64_t chunk_left(std::uint64_t word) { return (word & 0xff'ffff) * unit; }

inline constexpr std::uint64_t heap_is_sound = 0x5011'd4ea'9c0f'fee5;

/// The words of a heap, as heap has them.
struct image {
  std::uint64_t lock, sound, first, limit, committed, starts_committed, frontier, runs, chunk, used;
  std::array<std::uint64_t, heap::class_count> free;
  bool operator==(const image&) const = default;
};
static_assert(sizeof(image) == sizeof(heap));

}  // namespace covey::detail::heap_layout
