#include <covey/memory/heap_unlinked.hpp>

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
    const std::uint64_t bytes = recent_bytes(word);
    if (bytes == 0 || recent_turn(word) != turn_of(n)) continue;
    const bool is_done = back != 0;
    const block b{recent_offset(word), bytes, recent_large(word), is_done != recent_freed(word)};
    if (b.offset < first_ || bytes > end_ || b.offset > end_ - bytes || (!b.large && bytes > small_max)) continue;
    bool is_void = false;
    for (std::size_t i = 0; i < newer_count; ++i) is_void = is_void || overlap(newer[i], b.offset, b.bytes);
    newer[newer_count++] = b;
    if (is_void || may_live(recent_who(word))) continue;
    if (!is_done) cut_ = 1;
    blocks_[count_++] = b;
  }
}

void unlinked_search::is_free(std::uint64_t offset, std::uint64_t bytes) {
  if (none() || bytes > end_ || offset > end_ - bytes) return;
  free_units_.resize(end_ / unit);
  for (std::uint64_t u = offset / unit; u < (offset + bytes) / unit; ++u) free_units_[u] = true;
  for (std::size_t i = 0; i < count_; ++i)
    if (overlap(blocks_[i], offset, bytes)) free_.set(i);
}

std::optional<std::size_t> unlinked_search::block_at(std::uint64_t offset) const noexcept {
  for (std::size_t i = 0; i < count_; ++i)
    if (offset - blocks_[i].offset < blocks_[i].bytes) return i;
  return std::nullopt;
}

void unlinked_search::has_words(std::uint64_t offset, std::span<const std::uint64_t> words) {
  for (const std::uint64_t word : words) {
    const std::uint64_t at = offset;
    offset += sizeof word;
    if (word - base_ >= end_) continue;
    const auto to = block_at(word - base_);
    if (!to || (at / unit < free_units_.size() && free_units_[at / unit])) continue;
    links_[block_at(at).value_or(root)].set(*to);
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

}  // namespace covey::detail
