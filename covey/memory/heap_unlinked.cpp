#include <covey/memory/heap_unlinked.hpp>

#include <unistd.h>

#include <algorithm>
#include <covey/memory/family.hpp>

namespace covey::detail {

using namespace heap_layout;

namespace {

bool overlap(const unlinked_search::block& a, std::uint64_t offset, std::uint64_t bytes) {
  return a.offset < offset + bytes && offset < a.offset + a.bytes;
}

// Whether the process that said so lives. A later one in its place is taken for it once in four.
bool may_live(std::uint64_t who) {
  const std::uint64_t state = family.book->processes[who % processes_max].state.load(std::memory_order_acquire);
  const process_phase phase = phase_of(state);
  return (phase == process_phase::alive || phase == process_phase::starting) &&
         teller(static_cast<std::uint32_t>(who % processes_max), generation_of(state)) == who;
}

}  // namespace

unlinked_search::unlinked_search(const image& h, std::uint64_t base)
    : base_(base), first_(h.first), end_(h.frontier * granule) {
  std::array<block, recent_max> newer{};
  std::size_t newer_count = 0;
  const std::uint64_t done = operations_of(h.used);
  // The newest may be told of and not be done; the one that it replaced is not known any more.
  for (std::uint64_t back = 0; back < recent_max; ++back) {
    const std::uint64_t n = done - back;
    const std::uint64_t word = h.recent[n % recent_max];
    const bool is_done = back != 0;
    if (word == 0 && is_done) break;  // a block that may have any of the older ones in it; or there are no older ones
    const std::uint64_t bytes = recent_bytes(word);
    if (bytes == 0 || recent_turn(word) != turn_of(n)) continue;
    const block b{recent_offset(word), bytes, recent_large(word), is_done != recent_freed(word)};
    if (b.offset < first_ || bytes > end_ || b.offset > end_ - bytes || (!b.large && bytes > small_max)) continue;
    bool is_void = false;
    for (std::size_t i = 0; i < newer_count; ++i) is_void = is_void || overlap(newer[i], b.offset, b.bytes);
    newer[newer_count++] = b;
    if (is_void || may_live(recent_who(word))) continue;
    if (!is_done) cut_ = 1;
    blocks_[count_++] = b;
  }
  put_in_order();
}

void unlinked_search::put_in_order() {
  if (none()) return;
  const std::span order(by_offset_.data(), count_);
  for (std::size_t i = 0; i < count_; ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return blocks_[i].offset; });
  lowest_ = blocks_[order.front()].offset;
  span_ = blocks_[order.back()].offset + blocks_[order.back()].bytes - lowest_;
  free_units_.resize((end_ - first_) / unit);
}

void unlinked_search::is_free(std::uint64_t offset, std::uint64_t bytes) {
  if (none() || offset < first_ || bytes > end_ || offset > end_ - bytes) return;
  const auto from = free_units_.begin() + static_cast<std::ptrdiff_t>((offset - first_) / unit);
  std::fill_n(from, bytes / unit, true);
  for (std::size_t i = 0; i < count_; ++i)
    if (overlap(blocks_[i], offset, bytes)) free_.set(i);
}

std::optional<std::size_t> unlinked_search::block_at(std::uint64_t offset) const noexcept {
  const std::span order(by_offset_.data(), count_);
  const auto after = std::ranges::upper_bound(order, offset, {}, [&](std::size_t i) { return blocks_[i].offset; });
  if (after == order.begin()) return std::nullopt;
  const std::size_t i = *std::prev(after);
  return offset - blocks_[i].offset < blocks_[i].bytes ? std::optional(i) : std::nullopt;
}

void unlinked_search::has_words(std::uint64_t offset, std::span<const std::uint64_t> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t to = words[i] - base_;
    if (to - lowest_ >= span_) continue;
    const std::uint64_t at = offset + i * sizeof words[i];
    const std::uint64_t at_unit = (at - first_) / unit;  // very large in front of the first
    if (at_unit < free_units_.size() && free_units_[at_unit]) continue;
    if (const auto linked = block_at(to)) links_[block_at(at).value_or(root)].set(*linked);
  }
}

std::vector<unlinked_search::block> unlinked_search::found() const {
  std::bitset<recent_max> reached = links_[root];
  for (std::bitset<recent_max> before; before != reached;) {
    before = reached;
    for (std::size_t i = 0; i < count_; ++i)
      if (before.test(i)) reached |= links_[i];
  }
  std::vector<block> all;
  const auto add = [&](std::size_t i) {
    if (!reached.test(i) && !free_.test(i)) all.push_back(blocks_[i]);
  };
  if (cut_ != 0) add(0);
  for (std::size_t i = count_; i > cut_; --i) add(i - 1);
  return all;
}

bool tell_words(unlinked_search& search, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::uint64_t> words((64 << 10) / sizeof(std::uint64_t));
  for (std::uint64_t at = 0; at < bytes;) {
    const std::span some(words.data(), std::min<std::uint64_t>(words.size(), (bytes - at) / sizeof words[0]));
    const ssize_t got = ::pread(family.arena_fd, some.data(), some.size_bytes(), static_cast<off_t>(offset + at));
    if (some.empty() || got != static_cast<ssize_t>(some.size_bytes())) return false;
    search.has_words(at, some);
    at += some.size_bytes();
  }
  return true;
}

}  // namespace covey::detail
