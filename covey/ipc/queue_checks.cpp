// How those who share a queue notice that somebody wrote over it: checksums of what must not change by itself.
#include <covey/ipc/queue_layout.hpp>

#include <array>

namespace covey::detail {

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
