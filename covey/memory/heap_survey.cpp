#include <covey/memory/heap_survey.hpp>

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <covey/memory/family.hpp>
#include <optional>
#include <utility>

namespace covey::detail {

using namespace heap_layout;

namespace {

constexpr std::uint64_t units = granule / unit;  // of a granule: as many as a word has bits

constexpr std::uint32_t bit_of(std::uint64_t offset) { return 1U << (offset / unit % units); }

// Of a granule's units, those up to that of `offset`.
constexpr std::uint32_t bits_to(std::uint64_t offset) { return 2 * bit_of(offset) - 1; }

constexpr std::uint32_t highest_unit(std::uint64_t at_granule, std::uint32_t word) {
  return static_cast<std::uint32_t>(at_granule * units + static_cast<std::uint64_t>(std::bit_width(word)) - 1);
}

}  // namespace

heap_survey::heap_survey(const extent& where, std::vector<std::uint32_t> starts)
    : base_(where.base), first_(where.first), end_(where.end), starts_(std::move(starts)) {
  starts_.resize(end_ / granule);
  free_.resize(starts_.size());
  const std::uint64_t first = std::min<std::uint64_t>(first_ / granule, starts_.size());
  std::fill_n(starts_.begin(), first, 0);
  if (first_ < end_) starts_[first] |= bit_of(first_);
}

bool heap_survey::is_set(const bits& all, std::uint64_t offset) {
  return offset / granule < all.size() && offset % unit == 0 && (all[offset / granule] & bit_of(offset)) != 0;
}

void heap_survey::is_free(std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0 || !is_within(offset, bytes)) return;
  for (std::uint64_t at = offset + unit; at < offset + bytes;) {
    if (at % granule == 0 && offset + bytes - at >= granule) {
      starts_[at / granule] = 0;
      at += granule;
    } else {
      starts_[at / granule] &= ~bit_of(at);
      at += unit;
    }
  }
  starts_[offset / granule] |= bit_of(offset);
  free_[offset / granule] |= bit_of(offset);
  if (const std::uint64_t next = offset + bytes; next < end_) starts_[next / granule] |= bit_of(next);
}

void heap_survey::find_last_starts() {
  last_start_.resize(starts_.size());
  std::uint32_t last = none;
  for (std::size_t g = 0; g < starts_.size(); ++g) {
    last_start_[g] = last;
    if (starts_[g] != 0) last = highest_unit(g, starts_[g]);
  }
}

// The first unit of the block in which `offset` lies. There is one: a block begins where the heap's memory does.
std::uint32_t heap_survey::start_of(std::uint64_t offset) const {
  const std::uint64_t g = offset / granule;
  const std::uint32_t here = starts_[g] & bits_to(offset);
  return here != 0 ? highest_unit(g, here) : last_start_[g];
}

// Free ones, too.
template <class F>
void heap_survey::each_block(const F& f) const {
  for (std::size_t g = 0; g < starts_.size(); ++g)
    for (std::uint32_t left = starts_[g]; left != 0; left &= left - 1) {
      const std::uint64_t from = g * granule + static_cast<std::uint64_t>(std::countr_zero(left)) * unit;
      f(from, end_of_block(from));
    }
}

void heap_survey::scan(std::span<const std::uint64_t> words, std::uint64_t from, std::uint64_t to) {
  constexpr std::uint64_t word = sizeof(std::uint64_t);
  const std::uint64_t first = base_ + first_, span = end_ - first_;
  for (std::uint64_t i = from / word; i < std::min<std::uint64_t>(to / word, words.size()); ++i) {
    const std::uint64_t into = words[i] - first;
    if (into >= span) continue;
    const std::uint32_t block = start_of(into + first_);
    const std::uint64_t g = block / units;
    const std::uint32_t bit = 1U << block % units;
    if ((free_[g] & bit) != 0 || (linked_[g] & bit) != 0) continue;
    linked_[g] |= bit;
    to_scan_.push_back(block);
    __builtin_prefetch(&words[std::min<std::uint64_t>(block * unit / word, words.size() - 1)]);
  }
}

bool heap_survey::follow(std::span<const std::uint64_t> words) {
  if (last_start_.empty()) find_last_starts();
  const bits before = std::exchange(linked_, bits(starts_.size()));
  scan(words, 0, first_);
  while (!to_scan_.empty()) {
    const std::uint64_t from = to_scan_.back() * unit;
    to_scan_.pop_back();
    scan(words, from, end_of_block(from));
  }
  return linked_ == before;
}

std::uint64_t heap_survey::end_of_block(std::uint64_t offset) const {
  std::uint64_t g = offset / granule;
  std::uint32_t later = starts_[g] & ~bits_to(offset);
  while (later == 0 && ++g < starts_.size()) later = starts_[g];
  return g * granule + (later != 0 ? static_cast<std::uint64_t>(std::countr_zero(later)) * unit : 0);
}

heap_survey::state heap_survey::state_of(std::uint64_t offset) const {
  return is_set(free_, offset) ? state::free : is_set(linked_, offset) ? state::linked : state::unlinked;
}

std::uint64_t heap_survey::bytes_in(state s) const {
  std::uint64_t sum = 0;
  each_block([&](std::uint64_t from, std::uint64_t to) { sum += state_of(from) == s ? to - from : 0; });
  return sum;
}

std::uint64_t heap_survey::unlinked_bytes() const { return bytes_in(state::unlinked); }
std::uint64_t heap_survey::linked_bytes() const { return bytes_in(state::linked); }

void heap_survey::each_unlinked(const std::function<void(std::uint64_t, std::uint64_t)>& f) const {
  each_block([&](std::uint64_t from, std::uint64_t to) {
    if (state_of(from) == state::unlinked) f(from, to - from);
  });
}

namespace {

// The first `bytes` of the region at `offset` of the arena; nothing when they cannot be read.
std::optional<std::vector<std::uint64_t>> words_of(std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
  for (auto left = std::as_writable_bytes(std::span(words)); !left.empty();) {
    const ssize_t got = ::pread(family.arena_fd, left.data(), left.size(), static_cast<off_t>(offset));
    if (got <= 0) return std::nullopt;
    offset += static_cast<std::uint64_t>(got);
    left = left.subspan(static_cast<std::size_t>(got));
  }
  return words;
}

}  // namespace

bool look_for_unlinked(heap_survey& s, std::uint64_t offset) {
  const auto follow = [&] {
    const auto words = words_of(offset, s.end());
    return words ? std::optional(s.follow(*words)) : std::nullopt;
  };
  return follow().has_value() && (s.unlinked_bytes() == 0 || follow() == true);
}

}  // namespace covey::detail
