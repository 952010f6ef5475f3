// How those who share a queue notice that somebody wrote over it: checksums of what must not change by itself.
#include <covey/ipc/queue_layout.hpp>

#include <array>
#include <bit>
#include <cstring>

namespace covey::detail {

namespace {

__extension__ using wide = unsigned __int128;

// As in NH (Black et al., UMAC, 1999): products of two words each stand by themselves, so the processor works on
// several at once.
struct pair_sum {
  std::uint64_t salt, sum;

  void add(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<wide>(a ^ salt) * (b ^ ~salt);
    sum += static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    salt += 0x9e3779b97f4a7c15ULL;
  }
};

std::uint64_t word_at(const std::byte* p) {
  std::uint64_t word = 0;
  std::memcpy(&word, p, sizeof word);
  return word;
}

}  // namespace

std::uint64_t checksum_of(std::uint64_t key, std::span<const std::uint64_t> words,
                          std::span<const std::byte> bytes) noexcept {
  std::size_t n = bytes.size();
  const std::byte* p = bytes.data();
  pair_sum s{key | 1, n * 0x9e3779b97f4a7c15ULL};
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) s.add(words[i], words[i + 1]);
  if (words.size() % 2 != 0) s.add(words.back(), 0);
  for (; n >= 16; n -= 16, p += 16) s.add(word_at(p), word_at(p + 8));
  if (n == 0) return s.sum;
  std::uint64_t rest[2]{};
  if (n >= 8) {
    rest[0] = word_at(p);
    n -= 8, p += 8;
    for (std::size_t i = 0; i < n; ++i) rest[1] |= std::to_integer<std::uint64_t>(p[i]) << (8 * i);
  } else {
    for (std::size_t i = 0; i < n; ++i) rest[0] |= std::to_integer<std::uint64_t>(p[i]) << (8 * i);
  }
  s.add(rest[0], rest[1]);
  return s.sum;
}

std::uint64_t checksum_of_large(const queue_view& q, std::span<const std::uint64_t, 4> words,
                                std::span<const std::byte> payload) noexcept {
  constexpr std::size_t words_seen = 8;
  if (q.shape.by_rank() || payload.size() < words_seen * sizeof(std::uint64_t))
    return checksum_of(q.key, words, payload);
  if ((words[3] & written_in_place) != 0) return checksum_of(q.key, words, {});
  // Each at a multiple of eight from the start, as it was just written: a load across two stores would wait for both.
  const std::size_t step = (payload.size() - sizeof(std::uint64_t)) / (words_seen - 1) & ~(sizeof(std::uint64_t) - 1);
  std::uint64_t seen = word_at(payload.data() + payload.size() - sizeof(std::uint64_t));
  for (std::size_t i = 0; i < words_seen - 1; ++i) seen = std::rotl(seen, 9) + word_at(payload.data() + step * i);
  return checksum_of(q.key, std::array{words[0], words[1], words[2], words[3], seen}, {});
}

std::uint64_t shape_check_of(std::uint64_t key, const queue_shape& s) noexcept {
  const std::array<std::uint64_t, 9> words{s.items,
                                           s.bytes,
                                           s.slots,
                                           s.lanes,
                                           s.slots_at,
                                           s.nodes_at,
                                           s.deliveries_max,
                                           static_cast<std::uint64_t>(s.on_death),
                                           static_cast<std::uint64_t>(s.order)};
  return checksum_of(key, words, {});
}

void change_flags(std::atomic<std::uint32_t>& flags, std::uint64_t id, std::uint32_t add, std::uint32_t remove) {
  const std::uint64_t key = queue_key(id);
  std::uint32_t stored = flags.load(std::memory_order_seq_cst);
  do {
    if (stored == checked_flags(key, stored & 0xff)) continue;
    report_damage(id);
    throw queue_damaged();
  } while (!flags.compare_exchange_weak(stored, checked_flags(key, ((stored & 0xff) | add) & ~remove),
                                        std::memory_order_seq_cst));
}

void queue_view::damaged() const {
  if (tells) report_damage(id);
  throw queue_damaged();
}

}  // namespace covey::detail
