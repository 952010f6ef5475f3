#include <covey/memory/heap_survey.hpp>

#include <algorithm>
#include <bit>
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

heap_survey::heap_survey(const image& h, std::uint64_t base, std::vector<std::uint32_t> starts)
    : base_(base), first_(h.first), end_(h.frontier * granule), starts_(std::move(starts)) {
  starts_.resize(h.frontier);
  free_.resize(h.frontier);
  for (std::uint64_t g = 0; g < first_ / granule; ++g) starts_[g] = 0;
  if (first_ < end_) starts_[first_ / granule] |= bit_of(first_);
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
}

void heap_survey::look_for_all(bool all) {
  find_last_starts();
  wanted_.assign(starts_.size(), 0);
  for (std::size_t g = 0; all && g < starts_.size(); ++g) wanted_[g] = starts_[g] & ~free_[g];
  linked_.assign(starts_.size(), 0);
  unlinked_.assign(starts_.size(), 0);
}

void heap_survey::look_for(std::uint64_t offset, bool wanted) {
  if (!is_set(starts_, offset) || is_set(free_, offset)) return;
  std::uint32_t& word = wanted_[offset / granule];
  word = wanted ? word | bit_of(offset) : word & ~bit_of(offset);
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
    if ((wanted_[g] & bit) == 0 || (linked_[g] & bit) != 0) continue;
    linked_[g] |= bit;
    to_scan_.push_back(block);
  }
}

bool heap_survey::follow(std::span<const std::uint64_t> words) {
  linked_.assign(starts_.size(), 0);
  scan(words, 0, first_);
  each_block([&](std::uint64_t from, std::uint64_t to) {
    if (!is_set(free_, from) && !is_set(wanted_, from)) scan(words, from, to);
  });
  while (!to_scan_.empty()) {
    const std::uint64_t from = to_scan_.back() * unit;
    to_scan_.pop_back();
    scan(words, from, end_of_block(from));
  }
  bool same = true;
  for (std::size_t g = 0; g < starts_.size(); ++g) {
    const std::uint32_t unlinked = wanted_[g] & ~linked_[g];
    same = std::exchange(unlinked_[g], unlinked) == unlinked && same;
  }
  return same;
}

std::uint64_t heap_survey::end_of_block(std::uint64_t offset) const {
  std::uint64_t g = offset / granule;
  std::uint32_t later = starts_[g] & ~bits_to(offset);
  while (later == 0 && ++g < starts_.size()) later = starts_[g];
  return g * granule + (later != 0 ? static_cast<std::uint64_t>(std::countr_zero(later)) * unit : 0);
}

std::uint64_t heap_survey::bytes_of(std::uint64_t offset) const {
  return is_set(starts_, offset) && !is_set(free_, offset) ? end_of_block(offset) - offset : 0;
}

std::uint64_t heap_survey::unlinked_bytes() const {
  std::uint64_t sum = 0;
  each_block([&](std::uint64_t from, std::uint64_t to) { sum += is_set(unlinked_, from) ? to - from : 0; });
  return sum;
}

}  // namespace covey::detail
