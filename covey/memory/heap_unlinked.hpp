/// @file
/// Blocks of a heap that the dead had been given, and that nothing points to. docs/design/memory.md.
#pragma once

#include <array>
#include <bitset>
#include <covey/memory/heap_layout.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace covey::detail {

/// Looks for them among what was handed out and given back last. Is told what is free, and then each word of the
/// region; a word that is the address of a byte of a block links it, unless it lies in free memory or in a block that
/// nothing links.
class unlinked_search {
 public:
  /// A block of the dead. `used`: it counts as used; otherwise it was in hand.
  struct block {
    std::uint64_t offset, bytes;
    bool large, used;
    bool operator==(const block&) const = default;
  };

  /// `base`: the region's address in every process. Of `h` only first, frontier, used and recent count; first is not
  /// above the frontier, and what is said of blocks is checked against both.
  unlinked_search(const heap_layout::image& h, std::uint64_t base);

  /// Whether there is nothing to look for.
  [[nodiscard]] bool none() const noexcept { return count_ == 0; }

  /// `bytes` from `offset` on are free.
  void is_free(std::uint64_t offset, std::uint64_t bytes);

  /// The region's words from `offset` on.
  void has_words(std::uint64_t offset, std::span<const std::uint64_t> words);

  /// When all was told. First what was in hand when its operation was cut short, then from the oldest to the newest: so
  /// who gives them back in this order tells over none that he has not given back yet.
  [[nodiscard]] std::vector<block> found() const;

 private:
  static constexpr std::size_t root = heap_layout::recent_max;  // as a source of links
  [[nodiscard]] std::optional<std::size_t> block_at(std::uint64_t offset) const noexcept;
  void put_in_order();

  std::uint64_t base_, first_, end_;
  std::array<block, heap_layout::recent_max> blocks_{};  // the newest first; no two overlap
  std::size_t count_ = 0;
  std::size_t cut_ = 0;  // how many of them, at the front, are of an operation that was not done
  std::array<std::size_t, heap_layout::recent_max> by_offset_{};
  std::uint64_t lowest_ = 0, span_ = 0;  // where all of them lie
  std::array<std::bitset<heap_layout::recent_max>, heap_layout::recent_max + 1> links_{};
  std::bitset<heap_layout::recent_max> free_{};
  std::vector<bool> free_units_{};  // from first_ on, by heap_layout::unit
};

/// Tells `search` the first `bytes` of the region that begins at `offset` of the arena. Reads the arena's file: what
/// was never written gives zeros, and takes no page. False when it cannot be read.
bool tell_words(unlinked_search& search, std::uint64_t offset, std::uint64_t bytes);

}  // namespace covey::detail
