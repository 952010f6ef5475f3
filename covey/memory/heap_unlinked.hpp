/// @file
/// Blocks of a heap that somebody died with, and that nothing points to. docs/design/memory.md.
#pragma once

#include <covey/memory/heap_layout.hpp>
#include <covey/memory/heap_survey.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace covey::detail {

/// The blocks that the last operations of a heap tell of.
class told_blocks {
 public:
  /// `used`: it counts as used; otherwise it was in hand.
  struct block {
    std::uint64_t offset, bytes;
    bool large, used;
    bool operator==(const block&) const = default;
  };

  /// Of `h` only first, frontier, used and recent count; first is not above the frontier, and what is said of blocks is
  /// checked against both.
  explicit told_blocks(const heap_layout::image& h);

  [[nodiscard]] bool any_of_the_dead() const noexcept { return !of_the_dead_.empty(); }

  /// First what was in hand when its operation was cut short, then from the oldest to the newest: so who gives them
  /// back in this order tells over none that he has not given back yet. No two overlap.
  [[nodiscard]] const std::vector<block>& of_the_dead() const noexcept { return of_the_dead_; }

 private:
  std::vector<block> of_the_dead_;
};

/// The first words of a region; nothing when they cannot be read.
using read_words = std::function<std::optional<std::vector<std::uint64_t>>(std::uint64_t bytes)>;

/// Copies them from the arena's file, where the region begins at `offset`: what was never written gives zeros, and
/// takes no page. Throws std::bad_alloc.
read_words words_of_region(std::uint64_t offset);

/// Of those of the dead the ones that nothing points to, in that order. Whatever they do not tell of counts as pointed
/// to. `s` was told what is free. None when its words cannot
/// be read.
std::vector<told_blocks::block> unlinked_blocks(heap_survey s, const told_blocks& told, const read_words& read);

/// How much nothing points to; and `in_hand`: what is neither used nor free. Nothing when the words cannot be read, or
/// others change who points to what meanwhile.
std::optional<std::uint64_t> stranded_bytes(heap_survey s, const told_blocks& told, std::uint64_t in_hand,
                                            const read_words& read);

}  // namespace covey::detail
