/// @file
/// Which blocks of a heap nothing points to. docs/design/memory.md.
#pragma once

#include <covey/memory/heap_layout.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace covey::detail {

/// Is told where blocks begin and what is free, and then follows the region's words: a word that is the address of a
/// byte of a block links it, if it lies before the heap's memory, or in a block that is itself linked.
class heap_survey {
 public:
  /// The region's address in every process; and where in it the heap's memory lies, as far as it was handed out: the
  /// end is a whole granule, and not before the first.
  struct extent {
    std::uint64_t base, first, end;
  };

  /// `starts`: a word for each granule below the end, see heap_layout.hpp; what is missing is 0.
  heap_survey(const extent& where, std::vector<std::uint32_t> starts);

  /// `bytes` from `offset` on are free. Before follow().
  void is_free(std::uint64_t offset, std::uint64_t bytes);

  /// The region's words, from its first byte on: as many as there are below end(), or less. Whether that finds the same
  /// as the time before; nothing is found before the first time.
  bool follow(std::span<const std::uint64_t> words);

  /// Where the heap's memory ends.
  [[nodiscard]] std::uint64_t end() const noexcept { return end_; }

  /// How many bytes the blocks have that nothing links; and the others.
  [[nodiscard]] std::uint64_t unlinked_bytes() const;
  [[nodiscard]] std::uint64_t linked_bytes() const;

  /// Calls f(offset, bytes) for each that nothing links, by address.
  void each_unlinked(const std::function<void(std::uint64_t, std::uint64_t)>& f) const;

 private:
  using bits = std::vector<std::uint32_t>;  // one for each unit, a word for each granule
  static constexpr std::uint32_t none = ~0U;
  enum class state { free, linked, unlinked };
  [[nodiscard]] state state_of(std::uint64_t offset) const;
  [[nodiscard]] std::uint64_t bytes_in(state s) const;
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
  bits starts_, free_, linked_;  // the others: of blocks, told at their first unit
  std::vector<std::uint32_t> last_start_;  // before each granule: in units, or none
  std::vector<std::uint32_t> to_scan_;  // what was found to be linked: in units
};

/// Follows the words of the region at `offset` of the arena, from the arena's file: what was never written gives zeros,
/// and takes no page. Twice, for others may change who points to what while they are copied. False when they do, or
/// when they cannot be read. Throws std::bad_alloc: it takes as much memory as the heap.
bool look_for_unlinked(heap_survey& s, std::uint64_t offset);

}  // namespace covey::detail
