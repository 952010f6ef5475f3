/// @file
/// Which blocks of a heap nothing points to. docs/design/memory.md.
#pragma once

#include <covey/memory/heap_layout.hpp>
#include <cstdint>
#include <span>
#include <vector>

namespace covey::detail {

/// Is told where blocks begin and what is free, and which blocks are looked for, and then follows the region's words: a
/// word that is the address of a byte of a block links it, if it lies before the heap's memory, in a block that is not
/// looked for, or in one that is itself linked.
class heap_survey {
 public:
  /// `base`: the region's address in every process. Of `h` only first and frontier count; first is not above the
  /// frontier. `starts`: a word for each granule below it, see heap_layout.hpp.
  heap_survey(const heap_layout::image& h, std::uint64_t base, std::vector<std::uint32_t> starts);

  /// `bytes` from `offset` on are free.
  void is_free(std::uint64_t offset, std::uint64_t bytes);

  /// After what is free: all blocks are looked for, or none. What is not looked for counts as linked.
  void look_for_all(bool all = true);
  /// The one that begins at `offset`, if one does.
  void look_for(std::uint64_t offset, bool wanted);

  /// The region's words, from its first byte on: as many as there are below end(), or less. Whether that finds the same
  /// as the time before; nothing is found before the first time.
  bool follow(std::span<const std::uint64_t> words);

  /// Whether nothing links the block that begins at `offset`, and it was looked for.
  [[nodiscard]] bool is_unlinked(std::uint64_t offset) const { return is_set(unlinked_, offset); }
  /// Of the block that begins there; 0: none does, or it is free.
  [[nodiscard]] std::uint64_t bytes_of(std::uint64_t offset) const;
  /// Where the heap's memory ends, of which blocks can be: the words before it are told.
  [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
  /// How many bytes those have.
  [[nodiscard]] std::uint64_t unlinked_bytes() const;

 private:
  using bits = std::vector<std::uint32_t>;  // one for each unit, a word for each granule
  static constexpr std::uint32_t none = ~0U;
  [[nodiscard]] bool is_within(std::uint64_t offset, std::uint64_t bytes) const {
    return offset >= first_ && bytes <= end_ && offset <= end_ - bytes;
  }
  [[nodiscard]] static bool is_set(const bits& all, std::uint64_t unit_offset);
  [[nodiscard]] std::uint32_t start_of(std::uint64_t offset) const;
  void find_last_starts();
  template <class F>
  void each_block(const F& f) const;
  [[nodiscard]] std::uint64_t end_of_block(std::uint64_t offset) const;
  void scan(std::span<const std::uint64_t> words, std::uint64_t from, std::uint64_t to);

  std::uint64_t base_, first_, end_;
  bits starts_, free_, wanted_, linked_, unlinked_;  // all but the first: of blocks, told at their first unit
  std::vector<std::uint32_t> last_start_;  // before each granule: in units, or none
  std::vector<std::uint32_t> to_scan_;  // what was found to be linked: in units
};

}  // namespace covey::detail
