// The owner's thread alone runs what is here; others see what it stores. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_writer.hpp>

#include <array>
#include <stdexcept>
#include <string>

namespace covey::detail {
namespace {

constexpr std::uint64_t commit_step_min = 16 * 1024;
constexpr std::uint64_t commit_step_max = 256 * 1024;
constexpr std::uint64_t headers_in_page = page_bytes / sizeof(message_header);

}  // namespace

// ---- owning a lane -------------------------------------------------------------------------------------------------

broadcast_writer::broadcast_writer(broadcast_messages& messages)
    : messages_(messages),
      m_(messages.m),
      me_(this_name()),
      extents_(m_.shape.lane_bytes() - m_.shape.extents_at()),
      headers_committed_(m_.shape.headers() / headers_in_page + 1) {
  claim();
  try {
    have_data();
  } catch (...) {
    leave();
    throw;
  }
}

void broadcast_writer::claim() {
  for (lane_ = 0; lane_ < broadcast_lanes_max; ++lane_) {
    std::atomic<participant>& word = m_.lane(lane_).owner;
    participant owner = word.load(std::memory_order_seq_cst);
    if (owner != 0 && alive(owner)) continue;
    if (owner != 0) messages_.settle_references(lane_, owner);
    if (word.compare_exchange_strong(owner, me_, std::memory_order_seq_cst)) return;
  }
  throw std::length_error("covey: more than " + std::to_string(broadcast_lanes_max) +
                          " threads put into one broadcast");
}

void broadcast_writer::leave() noexcept {
  participant me = me_;  // another thread may run this
  m_.lane(lane_).owner.compare_exchange_strong(me, 0, std::memory_order_seq_cst);
}

// That the broadcast holds the region every owner says, before anything lies there: the one who made it may have died
// before it said so.
void broadcast_writer::have_data() {
  broadcast_lane& lane = m_.lane(lane_);
  const region* const there = messages_.data_of(lane_);
  if (there != nullptr) {
    data_ = *there;
    allow_writing(data_).value();
  } else {
    data_ = region({.bytes = m_.shape.lane_bytes(), .committed = page_bytes, .kind = region_kind::lane});
    allow_writing(data_).value();
    page().whose.store(lane_check(m_.key, lane_), std::memory_order_relaxed);
    lane.data.store(data_.id(), std::memory_order_seq_cst);
  }
  const std::array ids{data_.id()};
  attach(m_.id, lane_data_number(lane_), ids);
  if (there != nullptr) extents_.adopt(live_extents());
}

std::vector<extent_ring::extent> broadcast_writer::live_extents() {
  std::vector<extent_ring::extent> live;
  for (std::uint64_t n = 0; n < m_.shape.places(); ++n) {
    const place_word w = m_.at(n);
    if (w.kind() != place_kind::queued || w.lane() != lane_) continue;
    if (const auto h = messages_.header(w))
      live.push_back(
          {h->extent - m_.shape.extents_at(), extent_ring::rounded(std::max<std::uint64_t>(h->size, 1)), w.number()});
  }
  return live;
}

// ---- room ----------------------------------------------------------------------------------------------------------

std::optional<std::uint64_t> broadcast_writer::bytes_before(std::uint64_t number) {
  if (number == 0) return 0;
  const place_word w = m_.at(number - 1);
  if (w.number() > number - 1 && w.number() <= m_.number_in(m_.header().next)) return std::nullopt;
  if (w.number() != number - 1 || (w.kind() != place_kind::queued && w.kind() != place_kind::free)) m_.damaged();
  const auto h = messages_.header(w);
  if (!h) return std::nullopt;
  return h->bytes_end;
}

// Of what was put before we looked at the cursors: who subscribes later begins behind it. Whatever was found to be so
// stays so.
bool broadcast_writer::may_leave(std::uint64_t number) {
  if (m_.shape.when_slow != slow_subscriber::block || number < got_) return true;
  const std::uint64_t next = m_.next_number();
  got_ = std::min(next, m_.least_cursor());
  return number < got_;
}

// Sums are kept with the messages, so they are exact. They are of messages before `number`; if there are more by now,
// the commit is refused.
bool broadcast_writer::make_room(std::uint64_t number, std::uint64_t before, std::uint64_t size) {
  const auto has_room = [&] { return number - oldest_ < m_.shape.items && before - begin_ <= m_.shape.bytes - size; };
  while (!has_room()) {
    const std::uint64_t oldest = messages_.oldest(number);
    if (oldest == number) {
      oldest_ = number;
      begin_ = before;
      continue;
    }
    const place_word w = m_.at(oldest);
    const auto h = w.number() == oldest ? messages_.header(w) : std::nullopt;
    if (!h) continue;
    if (h->bytes_end > before || before - h->bytes_begin() > m_.shape.bytes || number - oldest > m_.shape.items)
      m_.damaged();
    oldest_ = oldest;
    begin_ = h->bytes_begin();
    if (has_room()) return true;
    if (!may_leave(oldest)) return false;
    messages_.evict(oldest);
    oldest_ = oldest + 1;
    begin_ = h->bytes_end;
  }
  return true;
}

// Hardly ever needed: where messages of very different sizes lie between one another, the oldest must go until one is
// free that lies well.
bool broadcast_writer::make_memory(std::uint64_t number, std::uint64_t size) {
  const auto is_free = [&](std::uint64_t n) {
    const place_word w = m_.at(n);
    return !w.is(place_kind::queued, n) || w.lane() != lane_;
  };
  for (;;) {
    if (const auto offset = extents_.reserve(std::max<std::uint64_t>(size, 1), is_free)) {
      extent_ = *offset + m_.shape.extents_at();
      return true;
    }
    const std::uint64_t oldest = messages_.oldest(number);
    if (oldest == number || !may_leave(oldest)) return false;
    messages_.evict(oldest);
  }
}

// ---- putting -------------------------------------------------------------------------------------------------------

broadcast_writer::outcome broadcast_writer::put(const parcel& p) {
  for (;;) {
    if (m_.lane(lane_).owner.load(std::memory_order_relaxed) != me_) m_.damaged();
    const auto spot = messages_.next_spot();
    if (spot.ended) return outcome::ended;
    const auto before = bytes_before(spot.number);
    if (!before) continue;
    if (!make_room(spot.number, *before, p.size) || !prepare(spot.number, p)) return outcome::full;
    write_header(spot.number, {.bytes_end = *before + p.size,
                               .size = p.size,
                               .attachments = p.references.size(),
                               .extent = extent_,
                               .reference = reference_,
                               .payload_sum = p.payload_sum});
    const place_word queued = place_word::at(place_kind::queued, spot.number, lane_, reference_ != 0);
    const std::uint64_t former = messages_.released_reference(spot.was);
    if (!m_.swap(spot.number, spot.was, queued)) continue;  // somebody has put
    // Once more: who told the keeper may have been killed, and the keeper too before it was read, and from now on
    // nobody knows of it.
    if (former != 0) detach(m_.id, former);
    number_ = spot.number;
    extents_.publish(extent_ - m_.shape.extents_at(), number_);
    extent_ = 0;
    reference_ = 0;
    m_.raise(m_.header().next, number_ + 1);
    return outcome::committed;
  }
}

bool broadcast_writer::has_room(std::uint64_t size) {
  for (;;) {
    const auto spot = messages_.next_spot();
    if (spot.ended) return true;
    const auto before = bytes_before(spot.number);
    if (!before) continue;
    if (!make_room(spot.number, *before, size) || !make_memory(spot.number, size)) return false;
    not_wanted();
    return true;
  }
}

bool broadcast_writer::prepare(std::uint64_t number, const parcel& p) {
  if (extent_ == 0) {
    if (!make_memory(number, p.size)) return false;
    commit_extents(extent_ - m_.shape.extents_at() + std::max<std::uint64_t>(p.size, 1));
    std::atomic_thread_fence(std::memory_order_release);  // pairs with the one in copy_out()
    copy_in_raced(data_.data() + extent_, p.parts);
  }
  if (!p.references.empty() && reference_ == 0) attach_references(p);
  return true;
}

// The number first, so that whoever looks after the dead knows what to detach.
void broadcast_writer::attach_references(const parcel& p) {
  if (m_.header().with_references.load(std::memory_order_relaxed) == 0)
    m_.header().with_references.store(1, std::memory_order_seq_cst);
  const std::uint64_t last = page().last_reference.load(std::memory_order_relaxed);
  reference_ = std::max(last, message_number(lane_, 0)) + 1;
  page().last_reference.store(reference_, std::memory_order_seq_cst);
  attach(m_.id, reference_, p.references);
}

void broadcast_writer::not_wanted() noexcept {
  if (extent_ != 0) extents_.give_back(std::exchange(extent_, 0) - m_.shape.extents_at());
  if (reference_ != 0) detach(m_.id, std::exchange(reference_, 0));
}

void broadcast_writer::write_header(std::uint64_t number, const known_header& header) {
  commit_headers(number);
  message_header& h = header_at(data_, m_.shape, number);
  const auto store = [](std::atomic<std::uint64_t>& word, std::uint64_t value) {
    word.store(value, std::memory_order_relaxed);
  };
  std::atomic_thread_fence(std::memory_order_release);  // pairs with the one in header()
  store(h.number, number);
  store(h.bytes_end, header.bytes_end);
  store(h.size_and_attachments, header.size | header.attachments << 40);
  store(h.extent, header.extent);
  store(h.reference, header.reference);
  store(h.payload_sum, header.payload_sum);
  store(h.check, header_check(m_.key, number, header));
}

// ---- memory --------------------------------------------------------------------------------------------------------

void broadcast_writer::commit_headers(std::uint64_t number) {
  const std::uint64_t page = number % m_.shape.headers() / headers_in_page;
  if (headers_committed_[page]) return;
  commit_pages(data_.data() + page_bytes + page * page_bytes, page_bytes).value();
  headers_committed_[page] = true;
}

void broadcast_writer::commit_extents(std::uint64_t end) {
  if (end <= extents_committed_) return;
  const std::uint64_t all = data_.size() - m_.shape.extents_at();
  const std::uint64_t step = std::clamp(extents_committed_, commit_step_min, commit_step_max);
  const std::uint64_t wanted = std::min(all, std::max(end, extents_committed_ + step));
  const std::uint64_t until = (wanted + page_bytes - 1) / page_bytes * page_bytes;
  commit_pages(data_.data() + m_.shape.extents_at() + extents_committed_, until - extents_committed_).value();
  extents_committed_ = until;
}

}  // namespace covey::detail
