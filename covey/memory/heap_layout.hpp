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
/// used_ rises after a block has left the lists and falls before it returns to them: what is neither used nor free is
/// what the dead had in hand.
///
///     used_:   63         24 23               0
///              | used / 16  | operations so far |
///
/// recent_ tells the last operations. Operation n writes recent_[n % 64] before its block leaves the lists, or counts
/// no more as used:
///
///     63     62    49 48      47      46            26 25          0
///     | turn | who    | freed | large | size           | offset / 16 |     turn: n / 64 % 2; who: slot, and two bits
///                                                                          of the generation; size: in granules when
///                                                                          large, else / 16. A block of 1 GiB or more
///                                                                          is 0; one that lies beyond 1 GiB has no
///                                                                          size
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

/// What tells where the blocks below `limit` begin takes so many bytes, in whole pages.
constexpr std::uint64_t starts_bytes(std::uint64_t limit) {
  return round_up(limit / granule * sizeof(std::uint32_t), page_bytes);
}
/// The highest limit for a heap in a region of so many bytes, whole pages.
constexpr std::uint64_t limit_in(std::uint64_t bytes) { return bytes - starts_bytes(bytes); }
/// Whether a heap with that limit can have blocks, and so has what tells where they begin.
constexpr bool has_starts(std::uint64_t first, std::uint64_t limit) { return limit >= first + granule; }

constexpr std::uint64_t run_word(std::uint64_t granules, std::uint64_t next) { return granules << 32 | next; }
constexpr std::uint64_t run_size(std::uint64_t word) { return word >> 32; }
constexpr std::uint64_t run_next(std::uint64_t word) { return word & 0xffff'ffff; }

constexpr std::uint64_t chunk_word(std::uint64_t offset, std::uint64_t left) {
  return offset / unit << 24 | left / unit;
}
constexpr std::uint64_t chunk_at(std::uint64_t word) { return (word >> 24) * unit; }
constexpr std::uint64_t chunk_left(std::uint64_t word) { return (word & 0xff'ffff) * unit; }

inline constexpr std::uint64_t recent_max = heap::recent_max;

constexpr std::uint64_t used_word(std::uint64_t bytes, std::uint64_t operations) {
  return bytes / unit << 24 | (operations & 0xff'ffff);
}
constexpr std::uint64_t used_bytes(std::uint64_t word) { return (word >> 24) * unit; }
constexpr std::uint64_t operations_of(std::uint64_t word) { return word & 0xff'ffff; }

constexpr std::uint64_t turn_of(std::uint64_t operation) { return operation / recent_max % 2; }
constexpr std::uint64_t teller(std::uint32_t slot, std::uint64_t generation) { return slot | (generation & 3) << 12; }
inline constexpr std::uint64_t recent_offset_max = (1ULL << 26) - 1;  // in units
inline constexpr std::uint64_t recent_size_max = (1ULL << 21) - 1;
constexpr std::uint64_t recent_word(std::uint64_t turn, std::uint64_t who, bool freed, bool large, std::uint64_t offset,
                                    std::uint64_t bytes) {
  const std::uint64_t size = bytes / (large ? granule : unit);
  if (offset / unit > recent_offset_max) return recent_offset_max;
  if (size > recent_size_max) return 0;
  return turn << 63 | who << 49 | std::uint64_t{freed} << 48 | std::uint64_t{large} << 47 | size << 26 | offset / unit;
}
constexpr std::uint64_t recent_turn(std::uint64_t word) { return word >> 63; }
constexpr std::uint64_t recent_who(std::uint64_t word) { return word >> 49 & 0x3fff; }
constexpr bool recent_freed(std::uint64_t word) { return (word >> 48 & 1) != 0; }
constexpr bool recent_large(std::uint64_t word) { return (word >> 47 & 1) != 0; }
constexpr std::uint64_t recent_bytes(std::uint64_t word) {
  return (word >> 26 & recent_size_max) * (recent_large(word) ? granule : unit);
}
constexpr std::uint64_t recent_offset(std::uint64_t word) { return (word & recent_offset_max) * unit; }

inline constexpr std::uint64_t heap_is_sound = 0x5011'd4ea'9c0f'fee5;

/// The words of a heap, as heap has them.
struct image {
  std::uint64_t lock, sound, first, limit, committed, starts_committed, frontier, runs, chunk, used;
  std::array<std::uint64_t, heap::class_count> free;
  std::array<std::uint64_t, heap::recent_max> recent;
  bool operator==(const image&) const = default;
};
static_assert(sizeof(image) == sizeof(heap));

}  // namespace covey::detail::heap_layout
