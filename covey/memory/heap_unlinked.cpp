#include <covey/memory/heap_unlinked.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <covey/memory/family.hpp>
#include <span>

namespace covey::detail {

using namespace heap_layout;

namespace {

bool overlap(const told_blocks::block& a, const told_blocks::block& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

// Whether the process that said so lives. A later one in its place is taken for it once in four.
bool may_live(std::uint64_t who) {
  const std::uint64_t state = family.book->processes[who % processes_max].state.load(std::memory_order_acquire);
  const process_phase phase = phase_of(state);
  return (phase == process_phase::alive || phase == process_phase::starting) &&
         teller(static_cast<std::uint32_t>(who % processes_max), generation_of(state)) == who;
}

}  // namespace

told_blocks::told_blocks(const image& h) {
  std::array<block, recent_max> newer{};
  std::size_t newer_count = 0;
  std::optional<block> cut;
  const std::uint64_t end = h.frontier * granule, done = operations_of(h.used);
  // The newest may be told of and not be done; the one that it replaced is not known any more.
  for (std::uint64_t back = 0; back < recent_max; ++back) {
    const std::uint64_t n = done - back;
    const std::uint64_t word = h.recent[n % recent_max];
    const bool is_done = back != 0;
    if (word == 0 && is_done) break;  // a block that may have any of the older ones in it; or there are no older ones
    const std::uint64_t bytes = recent_bytes(word);
    if (bytes == 0 || recent_turn(word) != turn_of(n)) continue;
    const block b{recent_offset(word), bytes, recent_large(word), is_done != recent_freed(word)};
    if (b.offset < h.first || bytes > end || b.offset > end - bytes || (!b.large && bytes > small_max)) continue;
    bool is_void = false;
    for (std::size_t i = 0; i < newer_count; ++i) is_void = is_void || overlap(newer[i], b);
    newer[newer_count++] = b;
    if (is_void || may_live(recent_who(word))) continue;
    if (is_done)
      of_the_dead_.push_back(b);
    else
      cut = b;
  }
  if (cut) of_the_dead_.push_back(*cut);
  std::ranges::reverse(of_the_dead_);
}

read_words words_of_region(std::uint64_t offset) {
  return [offset](std::uint64_t bytes) -> std::optional<std::vector<std::uint64_t>> {
    std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
    auto left = std::as_writable_bytes(std::span(words));
    for (std::uint64_t at = offset; !left.empty();) {
      const ssize_t got = ::pread(family.arena_fd, left.data(), left.size(), static_cast<off_t>(at));
      if (got <= 0) return std::nullopt;
      at += static_cast<std::uint64_t>(got);
      left = left.subspan(static_cast<std::size_t>(got));
    }
    return words;
  };
}

namespace {

// Twice, if it finds any: others may change who points to what while it is copied. False: that is so, or it cannot be
// read.
bool look(heap_survey& s, const read_words& read) {
  for (int time = 0; time < 2; ++time) {
    const auto words = read(s.end());
    if (!words) return false;
    if (s.follow(*words)) return true;  // nothing, the first time
  }
  return false;
}

}  // namespace

std::vector<told_blocks::block> unlinked_blocks(heap_survey s, const told_blocks& told, const read_words& read) {
  s.look_for_all(false);
  for (const auto& b : told.of_the_dead()) s.look_for(b.offset, s.bytes_of(b.offset) == b.bytes);
  std::vector<told_blocks::block> found;
  if (!look(s, read)) return found;
  for (const auto& b : told.of_the_dead())
    if (s.is_unlinked(b.offset)) found.push_back(b);
  return found;
}

std::optional<std::uint64_t> stranded_bytes(heap_survey s, const told_blocks& told, std::uint64_t in_hand,
                                            const read_words& read) {
  s.look_for_all();
  if (!look(s, read)) return std::nullopt;
  std::uint64_t bytes = s.unlinked_bytes();
  for (const auto& b : told.of_the_dead())  // what is in hand may still be pointed to by what it comes from
    if (!b.used && !s.is_unlinked(b.offset) && s.bytes_of(b.offset) == b.bytes) bytes += b.bytes;
  return std::max(bytes, in_hand);
}

}  // namespace covey::detail
