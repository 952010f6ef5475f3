// Places and subscriptions as anybody may look at them. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_layout.hpp>

#include <array>
#include <new>

namespace covey::detail {
namespace {

std::uint64_t shape_check_of(std::uint64_t key, const broadcast_shape& s) {
  const std::array<std::uint64_t, 4> words{s.items, s.bytes, s.subscriptions, static_cast<std::uint64_t>(s.when_slow)};
  return checksum_of(key, words, {});
}

}  // namespace

broadcast_memory::broadcast_memory(const region& r, bool tells_family)
    : base(r.data()), key(queue_key(r.id())), id(r.id()), tells(tells_family) {
  if (base == nullptr) throw_moved_from();
  if (is_damaged(id)) throw queue_damaged();
  if (r.size() < sizeof(broadcast_header)) damaged();
  shape = header().shape;
  if (header().shape_check != shape_check_of(key, shape) || bytes() > r.size()) damaged();
}

region broadcast_memory::make(const broadcast_shape& shape) {
  broadcast_memory m;
  m.shape = shape;
  region r({.bytes = m.bytes(), .kind = region_kind::broadcast});
  m.base = r.data();
  m.id = r.id();
  m.key = queue_key(m.id);
  auto& h = *new (m.base) broadcast_header{};
  h.shape = shape;
  h.shape_check = shape_check_of(m.key, shape);
  h.flags = checked_flags(m.key, 0);
  h.swept_deaths = deaths_seen();
  h.keepers_told = keepers_seen();
  h.next = m.cursor_word(0);
  h.oldest = m.cursor_word(0);
  for (std::uint64_t s = 0; s < shape.subscriptions; ++s) m.subscription(s).cursor = m.cursor_word(0);
  for (std::uint64_t n = 0; n < shape.places(); ++n) m.place(n).word = place_word{}.word ^ m.key;
  return r;
}

void broadcast_memory::raise(std::atomic<std::uint64_t>& cursor, std::uint64_t number) const {
  std::uint64_t word = cursor.load(std::memory_order_seq_cst);
  while (number_in(word) < number &&
         !cursor.compare_exchange_weak(word, cursor_word(number), std::memory_order_seq_cst)) {
  }
}

// ---- messages ------------------------------------------------------------------------------------------------------

broadcast_memory::found broadcast_memory::look(std::uint64_t number) const {
  const place_word w = at(number);
  const std::uint64_t last = w.number();
  if (w.kind() == place_kind::fresh) return {presence::not_yet};
  if (w.is(place_kind::queued, number)) return {presence::here};
  if (w.is(place_kind::end, number)) return {presence::end};
  if (last == number) return {presence::gone, number + 1};
  if (last < number && last + shape.places() != number) damaged();
  if (last < number) return {presence::not_yet};
  if (last > number_in(header().next)) damaged();
  return {presence::gone, last - shape.places() + 1};
}

// Nothing has a number beyond `next`, and all before it were committed.
std::uint64_t broadcast_memory::next_number() const {
  const std::uint64_t next = number_in(header().next);
  const place_word w = at(next);
  const bool committed = w.kind() != place_kind::fresh && w.number() >= next && !w.is(place_kind::end, next);
  return committed ? next + 1 : next;
}

std::uint64_t broadcast_memory::sum_of(std::span<const std::byte> references, std::span<const std::byte> first_word,
                                       std::span<const std::byte> rest) const {
  std::uint64_t sum = checksum_of(key, {}, references);
  sum = checksum_of(key, {&sum, 1}, first_word);
  return checksum_of(key, {&sum, 1}, rest);
}

// ---- subscriptions -------------------------------------------------------------------------------------------------

std::uint64_t broadcast_memory::least_cursor() const {
  std::uint64_t least = nobody;
  for (std::uint64_t n = 0; n < shape.subscriptions; ++n) {
    broadcast_subscription& s = subscription(n);
    std::uint64_t region = s.region.load(std::memory_order_seq_cst);
    if (region == 0) continue;
    if (!is_held_by_somebody(region)) {
      s.region.compare_exchange_strong(region, 0, std::memory_order_seq_cst);
      continue;
    }
    if (s.ready.load(std::memory_order_seq_cst) != region) return 0;  // the cursor is a predecessor's still
    const std::uint64_t number = number_in(s.cursor);
    const bool dropped = shape.when_slow == slow_subscriber::drop && look(number).is == presence::gone;
    if (!dropped) least = std::min(least, number);
  }
  return least;
}

}  // namespace covey::detail
