#include <covey/ipc/block_chains.hpp>

#include <algorithm>
#include <array>
#include <covey/ipc/queue_core.hpp>
#include <cstring>

namespace covey::detail {
namespace {

constexpr std::uint64_t commit_step = (256U << 10) / block_bytes;

}  // namespace

void throw_damaged(std::uint64_t id) {
  report_damage(id);
  throw queue_damaged();
}

std::byte* block_chains::block(std::uint64_t b) const {
  if (b >= count_) throw_damaged(id_);
  return begin_ + b * block_bytes;
}

// Relaxed atomics, for copy_out_racing().
std::atomic_ref<std::uint32_t> block_chains::link(std::uint64_t b) const {
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(block(b)));
}
std::uint32_t block_chains::next(std::uint64_t b) const { return link(b).load(std::memory_order_relaxed); }
void block_chains::set_next(std::uint64_t b, std::uint32_t after) const {
  link(b).store(after, std::memory_order_relaxed);
}

bool block_chains::provide(std::uint64_t wanted) const {
  const std::uint64_t have = books_.committed;
  if (books_.used > count_ || have > count_) throw_damaged(id_);
  if (wanted > books_.free_count + (count_ - books_.used)) return false;
  if (wanted <= books_.free_count) return true;
  const std::uint64_t needed = books_.used + (wanted - books_.free_count);
  if (needed <= have) return true;
  const std::uint64_t blocks = std::min((needed + commit_step - 1) / commit_step * commit_step, count_);
  commit_pages(begin_ + have * block_bytes, (blocks - have) * block_bytes).value();
  std::atomic_ref(books_.committed).store(static_cast<std::uint32_t>(blocks), std::memory_order_relaxed);
  return true;
}

void block_chains::take(std::uint64_t wanted, std::uint32_t& first) const {
  for (; wanted != 0; --wanted) {
    std::uint32_t b = books_.used;
    if (books_.free_count == 0) {
      ++books_.used;
    } else {
      b = books_.free;
      books_.free = next(b);
      --books_.free_count;
    }
    set_next(b, first);
    first = b;
  }
}

void block_chains::give_one(std::uint32_t b) const {
  set_next(b, books_.free);
  books_.free = b;
  ++books_.free_count;
}

void block_chains::give(std::uint32_t first) const {
  std::uint32_t b = first;
  for (std::uint64_t n = 0; b != nothing; ++n) {
    if (n > count_) throw_damaged(id_);
    const std::uint32_t after = next(b);
    give_one(b);
    b = after;
  }
}

void block_chains::copy_in(std::uint32_t first, std::initializer_list<std::span<const std::byte>> parts) const {
  std::uint32_t b = first;
  std::size_t room = block_payload;
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      if (room == 0) {
        b = next(b);
        room = block_payload;
      }
      const std::size_t n = std::min(part.size(), room);
      std::memcpy(block(b) + (block_bytes - room), part.data(), n);
      part = part.subspan(n);
      room -= n;
    }
  }
}

void block_chains::copy_in_raced(std::uint32_t first, std::initializer_list<std::span<const std::byte>> parts) const {
  std::array<std::uint64_t, block_payload / sizeof(std::uint64_t)> words{};
  std::uint32_t b = first;
  std::size_t filled = 0;
  const auto write = [&] {
    auto* const to = reinterpret_cast<std::uint64_t*>(block(b) + (block_bytes - block_payload));
    for (std::size_t w = 0; w * sizeof(std::uint64_t) < filled; ++w)
      std::atomic_ref(to[w]).store(words[w], std::memory_order_relaxed);
  };
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      if (filled == block_payload) {
        write();
        b = next(b);
        filled = 0;
      }
      const std::size_t n = std::min(part.size(), block_payload - filled);
      std::memcpy(reinterpret_cast<std::byte*>(words.data()) + filled, part.data(), n);
      part = part.subspan(n);
      filled += n;
    }
  }
  if (filled != 0) write();
}

void block_chains::copy_out(std::uint32_t first, std::span<std::byte> out) const {
  std::uint32_t b = first;
  for (std::size_t done = 0; done < out.size(); done += block_payload) {
    std::memcpy(out.data() + done, block(b) + (block_bytes - block_payload),
                std::min(out.size() - done, block_payload));
    b = next(b);
  }
}

bool block_chains::copy_out_racing(std::uint32_t first, std::span<std::byte> out) const noexcept {
  const auto have = std::atomic_ref(books_.committed).load(std::memory_order_relaxed);
  const std::uint64_t end = std::min<std::uint64_t>(count_, have);
  std::uint32_t b = first;
  for (std::size_t done = 0; done < out.size();) {
    if (b >= end) return false;
    auto* const from = reinterpret_cast<std::uint64_t*>(block(b) + (block_bytes - block_payload));
    for (std::size_t w = 0; w < block_payload / sizeof(std::uint64_t) && done < out.size(); ++w) {
      const std::uint64_t word = std::atomic_ref(from[w]).load(std::memory_order_relaxed);
      const std::size_t n = std::min(out.size() - done, sizeof word);
      std::memcpy(out.data() + done, &word, n);
      done += n;
    }
    b = next(b);
  }
  return true;
}

std::vector<bool> block_chains::no_marks() const {
  return std::vector<bool>(std::min<std::uint64_t>(books_.used, count_));
}

void block_chains::mark(std::uint32_t first, std::vector<bool>& marks) const {
  for (std::uint32_t b = first; b != nothing; b = next(b)) {
    if (b >= marks.size() || marks[b]) throw_damaged(id_);
    marks[b] = true;
  }
}

void block_chains::free_unmarked(const std::vector<bool>& marks) const {
  books_.free_count = 0;
  books_.free = nothing;
  for (std::uint32_t b = 0; b < marks.size(); ++b)
    if (!marks[b]) give_one(b);
}

}  // namespace covey::detail
