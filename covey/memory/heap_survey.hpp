/// @file
/// Which blocks of a heap nothing points to. docs/design/memory.md.
#pragma once

#include <covey/memory/heap_layout.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace covey::detail {

/// Is told where blocks begin and what is free, and then follows the region's words: a word that is the address of a
/// byte of a block links it, if it lies before the heap's memory, or in a block that is itself linked.
class heap_survey {
 public:
  /// The region's address in every process; and where in it the heap's memory lies, as far as it was handed out: whole
  /// granules, the end not before the first.
  struct extent {
    std::uint64_t base, first, end;
  };

  /// `starts`: a word for each granule between them, see heap_layout.hpp; what is missing is 0.
  heap_survey(const extent& where, std::vector<std::uint32_t> starts);

  /// `bytes` from `offset` on are free. Before follow().
  void is_free(std::uint64_t offset, std::uint64_t bytes);

  /// Copies so many words, from an offset in the region on; false when it cannot.
  using read_words = std::function<bool(std::uint64_t offset, std::span<std::uint64_t> to)>;

  /// Follows the pointers, in a copy of the heap's memory. Whether that finds the same as the time before; at first,
  /// all are unlinked. Nothing when the words cannot be read. Throws std::bad_alloc.
  std::optional<bool> follow(const read_words& read);

  /// How many bytes the blocks have that nothing links; and the others.
  [[nodiscard]] std::uint64_t unlinked_bytes() const;
  [[nodiscard]] std::uint64_t linked_bytes() const;

  /// Calls f(offset, bytes) for each that nothing links, by address.
  void each_unlinked(const std::function<void(std::uint64_t, std::uint64_t)>& f) const;

 private:
  using bits = std::vector<std::uint32_t>;  // one for each unit, a word for each granule
  static constexpr std::size_t words_of_a_unit = heap_layout::unit / sizeof(std::uint64_t);
  enum class state { free, linked, unlinked };
  [[nodiscard]] state state_of(std::uint64_t at) const;
  [[nodiscard]] std::uint64_t bytes_in(state s) const;
  void find_last_starts();
  [[nodiscard]] std::uint32_t start_of(std::uint64_t at) const;
  [[nodiscard]] std::uint64_t end_of_block(std::uint64_t at) const;
  template <class F>
  void each_block(const F& f) const;
  void scan(std::span<const std::uint64_t> words, std::span<const std::uint64_t> all);

  std::uint64_t base_, first_, end_;
  bits starts_, free_, linked_;  // the others: of blocks, told at their first unit
  std::vector<std::uint32_t> last_start_;  // before each granule
  std::vector<std::uint32_t> to_scan_;  // blocks that were found to be linked
};

/// Follows the words of the region at `offset` of the arena, from the arena's file: what was never written gives zeros,
/// and takes no page. Twice, for others may change who points to what while they are copied. False when they do, or
/// when they cannot be read. Throws std::bad_alloc: it takes as much memory as the heap.
bool look_for_unlinked(heap_survey& s, std::uint64_t offset);

}  // namespace covey::detail
