// Everything here counts from where the heap's memory begins: units of 16 bytes, granules of 32 of these.
#include <covey/memory/heap_survey.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <covey/memory/family.hpp>
#include <covey/memory/memory_left.hpp>
#include <new>
#include <utility>

namespace covey::detail {

using namespace heap_layout;

namespace {

constexpr std::uint64_t word_bits = granule / unit;

constexpr std::uint32_t bit_of(std::uint64_t at) { return 1U << at % word_bits; }

bool is_set(const std::vector<std::uint32_t>& all, std::uint64_t at) { return (all[at / word_bits] & bit_of(at)) != 0; }

// Of a granule's units, those up to `at`.
constexpr std::uint32_t bits_to(std::uint64_t at) { return 2 * bit_of(at) - 1; }

constexpr std::uint32_t highest_unit(std::uint64_t n, std::uint32_t word) {
  return static_cast<std::uint32_t>(n * word_bits + static_cast<std::uint64_t>(std::bit_width(word)) - 1);
}

constexpr std::uint64_t lowest_unit(std::uint64_t n, std::uint32_t word) {
  return n * word_bits + static_cast<std::uint64_t>(std::countr_zero(word));
}

}  // namespace

heap_survey::heap_survey(const extent& where, std::vector<std::uint32_t> starts)
    : base_(where.base), first_(where.first), end_(where.end), starts_(std::move(starts)) {
  starts_.resize((end_ - first_) / granule);
  free_.resize(starts_.size());
  if (!starts_.empty()) starts_[0] |= 1;
}

void heap_survey::is_free(std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0 || offset < first_ || bytes > end_ || offset > end_ - bytes) return;
  const std::uint64_t from = (offset - first_) / unit, to = from + bytes / unit;
  for (std::uint64_t at = from + 1; at < to;) {
    const bool is_whole = at % word_bits == 0 && to - at >= word_bits;
    starts_[at / word_bits] &= is_whole ? 0 : ~bit_of(at);
    at += is_whole ? word_bits : 1;
  }
  starts_[from / word_bits] |= bit_of(from);
  free_[from / word_bits] |= bit_of(from);
  if (to / word_bits < starts_.size()) starts_[to / word_bits] |= bit_of(to);
}

void heap_survey::find_last_starts() {
  last_start_.resize(starts_.size());
  std::uint32_t last = 0;
  for (std::size_t n = 0; n < starts_.size(); ++n) {
    last_start_[n] = last;
    if (starts_[n] != 0) last = highest_unit(n, starts_[n]);
  }
}

// The first unit of the block in which unit `at` lies.
std::uint32_t heap_survey::start_of(std::uint64_t at) const {
  const std::uint32_t here = starts_[at / word_bits] & bits_to(at);
  return here != 0 ? highest_unit(at / word_bits, here) : last_start_[at / word_bits];
}

std::uint64_t heap_survey::end_of_block(std::uint64_t at) const {
  std::uint64_t n = at / word_bits;
  std::uint32_t later = starts_[n] & ~bits_to(at);
  while (later == 0 && ++n < starts_.size()) later = starts_[n];
  return later != 0 ? lowest_unit(n, later) : starts_.size() * word_bits;
}

// Free ones, too.
template <class F>
void heap_survey::each_block(const F& f) const {
  for (std::size_t n = 0; n < starts_.size(); ++n)
    for (std::uint32_t left = starts_[n]; left != 0; left &= left - 1) {
      const std::uint64_t from = lowest_unit(n, left);
      f(from, end_of_block(from));
    }
}

// What `words` point to is linked.
void heap_survey::scan(std::span<const std::uint64_t> words, std::span<const std::uint64_t> all) {
  const std::uint64_t first = base_ + first_, span = end_ - first_;
  for (const std::uint64_t word : words) {
    if (word - first >= span) continue;
    const std::uint32_t block = start_of((word - first) / unit);
    if (is_set(free_, block) || is_set(linked_, block)) continue;
    linked_[block / word_bits] |= bit_of(block);
    to_scan_.push_back(block);
    __builtin_prefetch(&all[block * words_of_a_unit]);
  }
}

std::optional<bool> heap_survey::follow(const read_words& read) {
  if (!expect_memory(end_ - first_)) throw std::bad_alloc();
  std::vector<std::uint64_t> all((end_ - first_) / sizeof(std::uint64_t));
  if (!read(first_, all)) return std::nullopt;
  find_last_starts();
  const bits before = std::exchange(linked_, bits(starts_.size()));
  std::array<std::uint64_t, 512> some;
  for (std::uint64_t at = 0; at < first_; at += sizeof some) {
    const auto words = std::span(some).first(std::min(sizeof some, first_ - at) / sizeof some[0]);
    if (!read(at, words)) return std::nullopt;
    scan(words, all);
  }
  while (!to_scan_.empty()) {
    const std::uint64_t from = to_scan_.back();
    to_scan_.pop_back();
    const std::uint64_t count = end_of_block(from) - from;
    scan(std::span(all).subspan(from * words_of_a_unit, count * words_of_a_unit), all);
  }
  return linked_ == before;
}

heap_survey::state heap_survey::state_of(std::uint64_t at) const {
  if (is_set(free_, at)) return state::free;
  return !linked_.empty() && is_set(linked_, at) ? state::linked : state::unlinked;
}

std::uint64_t heap_survey::bytes_in(state s) const {
  std::uint64_t sum = 0;
  each_block([&](std::uint64_t from, std::uint64_t to) { sum += state_of(from) == s ? to - from : 0; });
  return sum * unit;
}

std::uint64_t heap_survey::unlinked_bytes() const { return bytes_in(state::unlinked); }
std::uint64_t heap_survey::linked_bytes() const { return bytes_in(state::linked); }

void heap_survey::each_unlinked(const std::function<void(std::uint64_t, std::uint64_t)>& f) const {
  each_block([&](std::uint64_t from, std::uint64_t to) {
    if (state_of(from) == state::unlinked) f(first_ + from * unit, (to - from) * unit);
  });
}

bool look_for_unlinked(heap_survey& s, std::uint64_t offset) {
  const auto read = [offset](std::uint64_t at, std::span<std::uint64_t> to) {
    auto left = std::as_writable_bytes(to);
    for (std::uint64_t from = offset + at; !left.empty();) {
      const ssize_t got = ::pread(family.arena_fd, left.data(), left.size(), static_cast<off_t>(from));
      if (got <= 0) return false;
      from += static_cast<std::uint64_t>(got);
      left = left.subspan(static_cast<std::size_t>(got));
    }
    return true;
  };
  return s.follow(read).has_value() && (s.unlinked_bytes() == 0 || s.follow(read) == true);
}

}  // namespace covey::detail
