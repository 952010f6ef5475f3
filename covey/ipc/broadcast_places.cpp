// Messages and subscriptions as anybody may look at them, without the lock of those who put. Read
// docs/design/broadcast.md first.
#include <covey/ipc/broadcast_layout.hpp>

#include <algorithm>
#include <array>
#include <covey/memory/errors.hpp>
#include <new>

namespace covey::detail {
namespace {

std::uint64_t shape_check_of(std::uint64_t key, const broadcast_shape& s) {
  const std::array<std::uint64_t, 5> words{s.items, s.bytes, s.subscriptions, s.blocks,
                                           static_cast<std::uint64_t>(s.when_slow)};
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
  region r({.bytes = m.bytes(), .committed = m.blocks_at(), .kind = region_kind::broadcast});
  m.base = r.data();
  m.id = r.id();
  m.key = queue_key(m.id);
  auto& h = *new (m.base) broadcast_header{};
  h.shape = shape;
  h.shape_check = shape_check_of(m.key, shape);
  h.flags = checked_flags(m.key, 0);
  h.swept_deaths = deaths_seen();
  h.locked.books.blocks.free = nothing;
  h.locked.close_books(m.key);
  for (std::uint64_t s = 0; s < shape.subscriptions; ++s) m.subscription(s).cursor = m.cursor_word(0);
  for (std::uint64_t n = 0; n < shape.items; ++n) {
    m.place(n).first_block = nothing;
    m.set_state(m.place(n), slot_kind::fresh, 0);
  }
  return r;
}

// ---- messages ------------------------------------------------------------------------------------------------------

broadcast_memory::found broadcast_memory::look(std::uint64_t number) const {
  const slot_state s = state(place(number));
  const std::uint64_t last = s.position();
  if (s.kind() == slot_kind::fresh) {
    if (last != 0 || number >= shape.items) damaged();
    return {presence::not_yet};
  }
  if (last % shape.items != number % shape.items) damaged();
  if (last == number && s.kind() == slot_kind::queued) return {presence::here};
  if (last == number) return {presence::gone, number + 1};
  if (last > number) return {presence::gone, last - shape.items + 1};
  if (last + shape.items != number) damaged();
  return {presence::not_yet};
}

bool broadcast_memory::copy_out(std::uint64_t number, std::vector<std::byte>& out, std::size_t& attachments) const {
  const broadcast_place& p = place(number);
  const std::uint64_t size_and_attachments = p.size_and_attachments.load(std::memory_order_acquire);
  const std::uint64_t first_block = p.first_block.load(std::memory_order_acquire);
  const std::uint64_t checksum = p.checksum.load(std::memory_order_acquire);
  if (look(number).is != presence::here) return false;  // else these were the message's
  const std::uint64_t size = size_and_attachments & size_mask;
  attachments = size_and_attachments >> 40;
  if (size > shape.bytes || attachments > size / sizeof(std::uint64_t)) damaged();
  out.resize(size);
  const bool copied = blocks().copy_out_racing(static_cast<std::uint32_t>(first_block), out);
  std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the fence in evict()
  if (look(number).is != presence::here) return false;
  const auto all = std::span(std::as_const(out));
  const std::size_t references = attachments * sizeof(std::uint64_t);
  const std::uint64_t sum = sum_of(all.first(references), all.subspan(references));
  if (!copied || check_of(number, size_and_attachments, first_block, sum) != checksum) damaged();
  return true;
}

std::uint64_t broadcast_memory::check_of(std::uint64_t number, std::uint64_t size_and_attachments,
                                         std::uint64_t first_block, std::uint64_t payload_sum) const {
  const std::array<std::uint64_t, 4> words{number, size_and_attachments, first_block, payload_sum};
  return checksum_of(key, words, {});
}

std::uint64_t broadcast_memory::sum_of(std::span<const std::byte> references, std::span<const std::byte> first_word,
                                       std::span<const std::byte> rest) const {
  std::uint64_t sum = checksum_of(key, {}, references);
  sum = checksum_of(key, {&sum, 1}, first_word);
  return checksum_of(key, {&sum, 1}, rest);
}

std::uint64_t broadcast_memory::next_number() const {
  std::uint64_t next = 0;
  for (std::uint64_t n = 0; n < shape.items; ++n) {
    const slot_state s = state(place(n));
    if (s.kind() == slot_kind::fresh) continue;
    if (s.position() % shape.items != n) damaged();
    next = std::max(next, s.position() + 1);
  }
  return next;
}

// Who dies between the two leaves it to the next one, who does it again: that harms nobody, for they are known by the
// message's number.
void broadcast_memory::release_references(std::uint64_t number) const {
  std::atomic<std::uint64_t>& references = place(number).references;
  std::uint64_t held = references.load(std::memory_order_seq_cst);
  if (held == 0 || number_of_reference(held) != number) return;
  detach(id, held);
  if (references.compare_exchange_strong(held, 0, std::memory_order_seq_cst))
    header().with_references.fetch_sub(1, std::memory_order_relaxed);
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
    const std::uint64_t number = number_in(s.cursor.load(std::memory_order_seq_cst));
    const bool dropped = shape.when_slow == slow_subscriber::drop && look(number).is == presence::gone;
    if (!dropped) least = std::min(least, number);
  }
  return least;
}

void broadcast_memory::release_passed() const {
  if (header().with_references.load(std::memory_order_seq_cst) == 0) return;
  // Who subscribes while we look is not seen, but gets nothing that was put before.
  const std::uint64_t next = next_number();
  const std::uint64_t least = std::min(next, least_cursor());
  for (std::uint64_t n = 0; n < shape.items; ++n) {
    const std::uint64_t held = place(n).references.load(std::memory_order_seq_cst);
    if (held == 0) continue;
    const std::uint64_t number = number_of_reference(held);
    if (number % shape.items != n) damaged();
    if (number < least && look(number).is == presence::here) release_references(number);
  }
}

}  // namespace covey::detail
