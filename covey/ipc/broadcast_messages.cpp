// Nothing here waits for anybody. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_messages.hpp>

#include <array>
#include <covey/ipc/extent_ring.hpp>
#include <cstring>

namespace covey::detail {

std::uint64_t lane_check(std::uint64_t key, std::uint64_t lane) {
  const std::array<std::uint64_t, 2> words{lane, key};
  return checksum_of(key, words, {});
}

std::uint64_t header_check(std::uint64_t key, std::uint64_t number, const known_header& h) {
  const std::array<std::uint64_t, 6> words{number,   h.bytes_end, h.size | h.attachments << 40,
                                           h.extent, h.reference, h.payload_sum};
  return checksum_of(key, words, {});
}

void copy_in_raced(std::byte* to, std::span<const std::span<const std::byte>> parts) noexcept {
  auto* words = reinterpret_cast<std::uint64_t*>(to);
  std::uint64_t word = 0;
  std::size_t filled = 0;  // bytes of it
  const auto write = [&] { std::atomic_ref(*words++).store(std::exchange(word, 0), std::memory_order_relaxed); };
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      const std::size_t n = std::min(part.size(), sizeof word - filled);
      if (n == sizeof word)
        std::memcpy(&word, part.data(), sizeof word);  // of a known size, so there is no call
      else
        std::memcpy(reinterpret_cast<std::byte*>(&word) + filled, part.data(), n);
      part = part.subspan(n);
      filled = (filled + n) % sizeof word;
      if (filled == 0) write();
    }
  }
  if (filled != 0) write();
}

void copy_out_raced(std::byte* from, std::span<std::byte> out) noexcept {
  auto* words = reinterpret_cast<std::uint64_t*>(from);
  const auto next = [&] { return std::atomic_ref(*words++).load(std::memory_order_relaxed); };
  for (; out.size() >= sizeof(std::uint64_t); out = out.subspan(sizeof(std::uint64_t))) {
    const std::uint64_t word = next();
    std::memcpy(out.data(), &word, sizeof word);
  }
  if (out.empty()) return;
  const std::uint64_t word = next();
  std::memcpy(out.data(), &word, out.size());
}

// ---- lanes ---------------------------------------------------------------------------------------------------------

// Held again when the lane has got another: the first one's maker died before the broadcast held it.
const region* broadcast_messages::data_of(std::uint64_t lane) {
  const std::uint64_t id = m.lane(lane).data.load(std::memory_order_acquire);
  if (id == 0) return nullptr;
  if (data_.size() <= lane) data_.resize(lane + 1);
  if (data_[lane].id() == id) return &data_[lane];
  region held;
  try {
    held = region::hold(id);
  } catch (const std::system_error&) {
    if (is_held_by_somebody(id)) throw;  // this process has no memory for it
    return nullptr;
  }
  if (held.kind() != region_kind::lane || held.size() != m.shape.lane_bytes()) m.damaged();
  const auto& page = *reinterpret_cast<const lane_page*>(held.data());
  if (page.whose.load(std::memory_order_acquire) != lane_check(m.key, lane)) m.damaged();
  data_[lane] = std::move(held);
  return &data_[lane];
}

const region& broadcast_messages::data_that_is_there(std::uint64_t lane) {
  const region* const data = data_of(lane);
  if (data == nullptr) m.damaged();
  return *data;
}

// The lane's owner writes another header here only when the place has a later message.
std::optional<known_header> broadcast_messages::header(place_word place) {
  const std::uint64_t number = place.number();
  const region& data = data_that_is_there(place.lane());
  const message_header& h = header_at(data, m.shape, number);
  const auto load = [](const std::atomic<std::uint64_t>& word) { return word.load(std::memory_order_relaxed); };
  const std::uint64_t size_and_attachments = load(h.size_and_attachments);
  const known_header known{.bytes_end = load(h.bytes_end),
                           .size = size_and_attachments & size_mask,
                           .attachments = size_and_attachments >> 40,
                           .extent = load(h.extent),
                           .reference = load(h.reference),
                           .payload_sum = load(h.payload_sum)};
  const std::uint64_t its_number = load(h.number);
  const std::uint64_t check = load(h.check);
  std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the fence in write_header()
  if (!m.at(number).same_message(place)) return std::nullopt;
  const bool sound = its_number == number && check == header_check(m.key, number, known) &&
                     known.size <= m.shape.bytes && known.size <= known.bytes_end &&
                     known.attachments <= known.size / sizeof(std::uint64_t) && known.extent >= m.shape.extents_at() &&
                     known.extent % extent_ring::unit == 0 && known.extent <= data.size() &&
                     known.size <= data.size() - known.extent;
  if (!sound) m.damaged();
  return known;
}

bool broadcast_messages::copy_out(std::uint64_t number, std::vector<std::byte>& out, std::size_t& attachments) {
  const place_word place = m.at(number);
  if (!place.is(place_kind::queued, number)) return false;
  const auto h = header(place);
  if (!h) return false;
  attachments = h->attachments;
  out.resize(h->size);
  copy_out_raced(data_that_is_there(place.lane()).data() + h->extent, out);
  std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the fence in prepare()
  if (!m.at(number).is(place_kind::queued, number)) return false;
  const auto all = std::span(std::as_const(out));
  const std::size_t references = attachments * sizeof(std::uint64_t);
  if (m.sum_of(all.first(references), all.subspan(references)) != h->payload_sum) m.damaged();
  return true;
}

// ---- the two ends --------------------------------------------------------------------------------------------------

// `next` is raised over a message by whoever finds it committed, and before another is committed behind it: so at most
// one committed message is not before it, and its place says so.
broadcast_messages::spot broadcast_messages::next_spot() {
  for (;;) {
    const std::uint64_t next = m.number_in(m.header().next);
    const place_word w = m.at(next);
    if (w.is(place_kind::end, next)) return {next, w, true};
    if (w.kind() == place_kind::fresh) return {next, w, false};
    if (w.number() == next) {
      m.raise(m.header().next, next + 1);
      continue;
    }
    if (w.number() > next) {  // it went on meanwhile
      if (w.number() > m.number_in(m.header().next)) m.damaged();
      continue;
    }
    // One more place than messages are kept: what was here left before the message before `next` was committed.
    if (w.number() + m.shape.places() != next || w.kind() != place_kind::free) m.damaged();
    if (!w.holds()) return {next, w, false};
    release(w);
  }
}

std::uint64_t broadcast_messages::oldest(std::uint64_t end) {
  const std::uint64_t seen = m.number_in(m.header().oldest);
  if (seen > m.number_in(m.header().next) + 1) m.damaged();
  std::uint64_t number = std::max(seen, end > m.shape.items ? end - m.shape.places() : 0);
  for (; number < end; ++number) {
    const place_word w = m.at(number);
    if (w.is(place_kind::queued, number)) break;
    if (w.kind() == place_kind::fresh || w.number() < number) m.damaged();
  }
  number = std::min(number, end);
  if (number > seen) m.raise(m.header().oldest, number);
  return number;
}

// Who dies between the two leaves it to who puts here next, or looks after the dead.
void broadcast_messages::evict(std::uint64_t number) {
  place_word w = m.at(number);
  while (w.is(place_kind::queued, number) && !m.swap(number, w, w.evicted())) w = m.at(number);
  if (w.is(place_kind::queued, number)) release(w.evicted());
  m.raise(m.header().oldest, number + 1);
}

void broadcast_messages::evict_all() {
  const std::uint64_t end = m.next_number();
  for (std::uint64_t number = oldest(end); number < end; number = oldest(end)) evict(number);
}

void broadcast_messages::put_end() {
  for (;;) {
    const spot s = next_spot();
    if (s.ended || m.swap(s.number, s.was, place_word::at(place_kind::end, s.number))) return;
  }
}

// ---- references ----------------------------------------------------------------------------------------------------

// Who dies before the swap leaves it to the next one, who does it again: that harms nobody, for they are known by a
// number that no other message ever has.
void broadcast_messages::release(place_word place) {
  if (!place.holds()) return;
  const auto h = header(place);
  if (!h) return;
  if (h->reference == 0) m.damaged();
  detach(m.id, h->reference);
  m.swap(place.number(), place, place.without_references());
}

std::uint64_t broadcast_messages::released_reference(place_word place) {
  if (m.header().with_references.load(std::memory_order_seq_cst) == 0 || place.holds()) return 0;
  if (place.kind() != place_kind::free && place.kind() != place_kind::queued) return 0;
  const auto h = header(place);
  return h ? h->reference : 0;
}

void broadcast_messages::release_passed() {
  if (m.header().with_references.load(std::memory_order_seq_cst) == 0) return;
  // Who subscribes while we look is not seen, but gets nothing that was put before.
  const std::uint64_t next = m.next_number();
  const std::uint64_t least = std::min(next, m.least_cursor());
  for (std::uint64_t n = 0; n < m.shape.places(); ++n) {
    const place_word w = m.at(n);
    if (w.kind() == place_kind::free || (w.kind() == place_kind::queued && w.number() < least)) release(w);
  }
}

bool broadcast_messages::is_held_by_a_message(std::uint64_t lane, std::uint64_t reference) {
  for (std::uint64_t n = 0; n < m.shape.places(); ++n) {
    const place_word w = m.at(n);
    if (w.kind() != place_kind::queued || w.lane() != lane || !w.holds()) continue;
    const auto h = header(w);
    if (h && h->reference == reference) return true;
  }
  return false;
}

// The dead commit nothing more. Read between two looks at the owner, the number is not that of a later one.
void broadcast_messages::settle_references(std::uint64_t lane, participant owner) {
  if (m.header().with_references.load(std::memory_order_seq_cst) == 0) return;
  const region* const data = data_of(lane);
  if (data == nullptr) return;
  const std::uint64_t last =
      reinterpret_cast<const lane_page*>(data->data())->last_reference.load(std::memory_order_seq_cst);
  if (last == 0 || m.lane(lane).owner.load(std::memory_order_seq_cst) != owner) return;
  if (last >> 54 != lane + 1) m.damaged();
  if (!is_held_by_a_message(lane, last)) detach(m.id, last);
}

// ---- the dead ------------------------------------------------------------------------------------------------------

void broadcast_messages::free_dead_lane(std::uint64_t lane) {
  participant owner = m.lane(lane).owner.load(std::memory_order_seq_cst);
  if (owner == 0 || alive(owner)) return;
  settle_references(lane, owner);
  m.lane(lane).owner.compare_exchange_strong(owner, 0, std::memory_order_seq_cst);
}

// As of a queue: who released references may not have been heard by the former one, and not live to repeat it.
void broadcast_messages::tell_a_new_keeper() {
  std::atomic<std::uint32_t>& told = m.header().keepers_told;
  const std::uint32_t keepers = keepers_seen();
  if (told.load(std::memory_order_acquire) == keepers) return;
  for (std::uint64_t n = 0; n < m.shape.places(); ++n)
    if (const std::uint64_t reference = released_reference(m.at(n)); reference != 0) detach(m.id, reference);
  told.store(keepers, std::memory_order_release);
}

// The work first: who dies in it leaves it to others, whom its death wakes.
void broadcast_messages::sweep_if_needed() {
  const std::uint32_t deaths = deaths_seen();
  std::uint32_t swept = m.header().swept_deaths.load(std::memory_order_acquire);
  if (swept == deaths) return;
  if (is_damaged(m.id)) throw queue_damaged();
  for (std::uint64_t lane = 0; lane < broadcast_lanes_max; ++lane) free_dead_lane(lane);
  release_passed();
  tell_a_new_keeper();
  const std::uint32_t flags = m.flags();
  if ((flags & flag_closed) != 0) put_end();
  if ((flags & flag_discarded) != 0) evict_all();
  m.header().swept_deaths.compare_exchange_strong(swept, deaths, std::memory_order_release);
}

}  // namespace covey::detail
