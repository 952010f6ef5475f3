// Putting, getting and waiting. What happens to slots is in queue_lanes.cpp and lane_writer.cpp. Read
// docs/design/queue.md first.
#include <covey/ipc/queue_core.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <covey/ipc/queue_roles.hpp>
#include <covey/ipc/queue_side.hpp>
#include <covey/sync/gate.hpp>
#include <cstring>
#include <new>

namespace covey::detail {
namespace {

constexpr std::uint64_t bytes_max = 990ULL << 30;
constexpr std::uint64_t slots_bytes_wanted = 256ULL << 20;  // address space; a lane's slots take memory as it is used
constexpr std::uint64_t lanes_max = 256;
// Messages from one lane while others may wait: many when they are done quickly, because what another processor wrote
// must be fetched from there; one by one when each is work.
constexpr unsigned same_lane_max = 512;
constexpr unsigned timed_takes = 16;
constexpr auto timed_takes_are_quick = std::chrono::microseconds(100);

// ---- waking --------------------------------------------------------------------------------------------------------

// Counted off first: each who counted itself is owed one wake, by whoever has counted it off. (The other way round, two
// who wake the same sleeper would also count off its next sleep.) Who is stopped in between owes his wake for ever:
// park() looks again by itself.
void wake(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::size_t how_many) {
  std::uint32_t n = sleepers.load(std::memory_order_seq_cst);
  std::uint32_t woken = 0;
  do {
    if (n == 0) return;
    woken = static_cast<std::uint32_t>(std::min<std::size_t>(n, how_many));
  } while (!sleepers.compare_exchange_weak(n, n - woken, std::memory_order_seq_cst));
  word.fetch_add(1, std::memory_order_seq_cst);
  unpark(word, static_cast<int>(woken));
}

void wake_all(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers) {
  sleepers.store(0, std::memory_order_seq_cst);
  word.fetch_add(1, std::memory_order_seq_cst);
  unpark(word, INT_MAX);
}

void wake_readers(queue_header& h, std::size_t how_many) {
  wake(h.readable, h.sleeping_readers, how_many);
  h.pollers.wake();
}

void wake_all_readers(queue_header& h) {
  wake_all(h.readable, h.sleeping_readers);
  h.pollers.wake();
}

void wake_everybody(queue_header& h) {
  wake_all_readers(h);
  wake_all(h.writable, h.sleeping_writers);
  wake_all(h.idle, h.sleeping_joiners);
}

// Sleeps on `word` unless `look` finds, after others can see that we sleep, that there is no need. Not at all when the
// family's deaths are no longer `deaths`.
template <class Look>
void sleep_unless(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint32_t deaths,
                  const deadline& until, const stop_word* stop, const Look& look) {
  const std::uint32_t seen = word.load(std::memory_order_seq_cst);
  sleepers.fetch_add(1, std::memory_order_seq_cst);  // pairs with wake()
  std::atomic_thread_fence(std::memory_order_seq_cst);  // `look` may use acquire loads, which alone may come before
  while (!look() && park(word, seen, deaths, until, stop) == wake_reason::woken)
    if (word.load(std::memory_order_seq_cst) != seen || deaths_seen() != deaths) break;
  // Not counted off again: one sleeper too many costs a needless wake, one too few its sleep for ever.
}

// For as long as that has paid lately, and then lets others run some times: where there are more threads than
// processors, what is waited for needs the one that this thread has. Not for long: when strangers took that turn, each
// further one would cost us theirs, and who sleeps is woken before them.
template <class Done>
bool look_and_yield_until(const Done& done) {
  if (own_patience.look(done)) return true;
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  for (int i = 0; i < 20 && std::chrono::steady_clock::now() < until; ++i) {
    yield_cpu();
    if (done()) return true;
  }
  return false;
}

bool out_of_time(const deadline& until, const stop_word* stop) {
  return (until && *until <= std::chrono::steady_clock::now()) || (stop != nullptr && stop->stopped());
}

// ---- the dead ------------------------------------------------------------------------------------------------------

void sweep(const queue_view& q, std::uint32_t deaths) {
  if (is_damaged(q.id)) throw queue_damaged();
  queue_header& h = q.header();
  strike_dead_roles(roles_of(q));
  sweep_lanes(q);
  h.swept_deaths.store(deaths, std::memory_order_release);
  wake_everybody(h);
}

// Returns the deaths that have been looked after: who sleeps then, sleeps under them.
std::uint32_t sweep_if_needed(const queue_view& q) {
  queue_header& h = q.header();
  const std::uint32_t deaths = deaths_seen();
  if (h.swept_deaths.load(std::memory_order_acquire) != deaths) sweep(q, deaths);
  if (h.counting.load(std::memory_order_relaxed) != 0) pause_for_counting(q);
  return deaths;
}

// ---- what is in hand -----------------------------------------------------------------------------------------------

// Around whatever changes what is in hand: when nothing is left there, and however it ends, this thread keeps the queue
// no longer.
class change_of_hand {
 public:
  explicit change_of_hand(queue_side& side) : side_(side) {}
  change_of_hand(const change_of_hand&) = delete;
  change_of_hand& operator=(const change_of_hand&) = delete;
  ~change_of_hand() {
    if (side_.hand.empty()) side_.kept = {};
  }

 private:
  queue_side& side_;
};

// After a release: somebody may wait for just that. `fenced`: a compare-and-swap came after the release.
void after_release(const queue_view& q, std::size_t how_many, bool fenced = false) {
#if defined(__x86_64__)
  if (!fenced) std::atomic_thread_fence(std::memory_order_seq_cst);
#else
  (void)fenced;
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
  queue_header& h = q.header();
  wake(h.writable, h.sleeping_writers, how_many);  // for memory
  if (h.sleeping_joiners.load(std::memory_order_seq_cst) != 0 && idle(q)) wake_all(h.idle, h.sleeping_joiners);
  if ((q.flags() & flag_writers_lost) != 0) wake_all_readers(h);  // they wait for what this message might become
}

std::size_t release_all(queue_side& side) {
  const std::size_t n = side.hand.size();
  for (const held_message& m : side.hand) release(side.q, m);
  side.hand.clear();
  return n;
}

// Waits up to about a microsecond until a few more messages are there. Where they come one after another that is soon,
// and looking at the very slot that is being filled would take its cache line from who fills it, each time.
bool several_wait(const queue_side& side) {
  constexpr std::uint64_t few = 7;
  const queue_view& q = side.q;
  const std::uint64_t position = q.lane(side.next_lane).head.load(std::memory_order_relaxed) + few;
  const std::uint64_t raw = q.raw(slot_state::at(slot_kind::queued, position));
  for (int i = 0; i < 64; ++i) {
    if (q.slot(side.next_lane, position).state.load(std::memory_order_relaxed) == raw) return true;
    pause_cpu();
  }
  return false;
}

// How many this thread takes from one lane before it looks at the next.
unsigned lane_limit(queue_side& side) {
  if (++side.takes % timed_takes == 0) {
    const auto now = std::chrono::steady_clock::now();
    side.lane_limit = now - std::exchange(side.timed_at, now) < timed_takes_are_quick ? same_lane_max : 1;
  }
  return side.lane_limit;
}

// Into the hand: at most `n`.
std::size_t take_some(queue_side& side, std::size_t n) {
  const queue_view& q = side.q;
  const std::size_t before = side.hand.size();
  const std::size_t lanes = q.lanes_used();
  const auto taken = [&] { return side.hand.size() - before; };
  while (taken() < n) {
    const auto late = take_late(q);
    if (!late) break;
    side.hand.push_back(*late);
  }
  if (side.in_a_row > 8) fetch_for_writing(&q.slot(side.next_lane, side.last_position + 3), sizeof(message_slot));
  const unsigned limit = lane_limit(side);
  const auto next_lane = [&] {
    side.from_same_lane = 0;
    if (++side.next_lane >= lanes) side.next_lane = 0;
  };
  for (std::size_t empty = 0; empty < lanes && taken() < n;) {
    if (side.from_same_lane >= limit) next_lane();
    const std::size_t wanted = std::min<std::size_t>(n - taken(), limit - side.from_same_lane);
    const std::size_t got = take_oldest(q, side.next_lane, wanted, side.cursor, side.hand);
    side.from_same_lane += static_cast<unsigned>(got);
    empty = got != 0 ? 0 : empty + 1;
    if (got == 0) next_lane();
  }
  if (taken() == 0) return side.in_a_row = 0;
  ++side.in_a_row;
  side.busy = std::min(side.busy + 1, 64U);
  side.last_position = side.hand.back().position;
  return taken();
}

bool something_waits(const queue_view& q) {
  const std::size_t lanes = q.lanes_used();
  for (std::size_t l = 0; l < lanes; ++l) {
    const std::uint64_t head = q.lane(l).head.load(std::memory_order_relaxed);
    const slot_state s = q.state_of(q.slot(l, head).state.load(std::memory_order_relaxed));
    if (s.kind() == slot_kind::queued && s.position() == head) return true;
  }
  return false;
}

// A message in hand, without the regions' ids before it. Small ones are copied to `copy`.
std::span<const std::byte> content(queue_side& side, const held_message& m,
                                   std::span<std::byte, inline_bytes_max> copy) {
  const payload_view p = payload_of(side.q, m, copy, [&](std::size_t l) { return side.data_of(l); });
  const bool is_large = p.bytes.data() != copy.data();
  if (is_large && side.in_a_row > 8 && p.bytes.size() <= fetched_payload_max)
    fetch_for_reading(p.bytes.data() + extent_ring::rounded(p.bytes.size()), p.bytes.size());
  return p.bytes.subspan(p.attachments * sizeof(std::uint64_t));
}

// ---- putting -------------------------------------------------------------------------------------------------------

// The payload as it is stored: the ids of the regions that it names, then its bytes.
void store_payload(const queue_core::outgoing& message, std::byte* to) {
  for (const auto part : {std::as_bytes(message.attachments), message.head, message.bytes}) {
    if (!part.empty()) std::memcpy(to, part.data(), part.size());
    to += part.size();
  }
}

std::size_t stored_size(const queue_core::outgoing& m) {
  return m.attachments.size_bytes() + m.head.size() + m.bytes.size();
}

void refuse_if_too_large(const queue_view& q, std::size_t bytes) {
  if (bytes > q.shape.bytes)
    throw std::length_error("covey: a message of " + std::to_string(bytes) + " bytes is larger than its queue");
}

lane_writer& writer_of(queue_side& side) {
  if (!side.writer) side.writer = std::make_unique<lane_writer>(side.q);
  return *side.writer;
}

void throw_if_refused(const queue_view& q) {
  const std::uint32_t flags = q.flags();
  if ((flags & flag_closed) != 0) throw queue_closed();
  if ((flags & flag_readers_lost) != 0) throw no_consumers();
}

// Which pains a try may take: none, a lock if it is free, or a lock.
enum class effort { little, some, all };

// Tries until `once` has succeeded. False: `until` passed, or stopped.
template <class Once>
bool put_when_room(queue_side& side, const deadline& until, const stop_word* stop, const Once& once) {
  const queue_view& q = side.q;
  queue_header& h = q.header();
  const lane_writer& w = writer_of(side);
  for (bool spun = false;;) {
    const std::uint32_t deaths = sweep_if_needed(q);
    throw_if_refused(q);
    if (once(effort::little)) return true;
    // Not at once at the first free slot: looking at the head takes its cache line from those who move it.
    if (!out_of_time(until, stop) && !std::exchange(spun, true) &&
        look_and_yield_until([&] { return w.might_have_room(); })) {
      for (int i = 0; i < 20; ++i) pause_cpu();
      continue;
    }
    if (once(until ? effort::some : effort::all)) return true;
    if (out_of_time(until, stop)) return false;
    bool done = false;
    sleep_unless(h.writable, h.sleeping_writers, deaths, until, stop, [&] {
      done = once(effort::all);
      return done || (q.flags() & (flag_closed | flag_readers_lost)) != 0;
    });
    if (done) return true;
    spun = false;
  }
}

// What a put has got hold of until its message is committed.
class unpublished {
 public:
  unpublished(queue_side& side, const queue_core::outgoing& message) : side_(side), message_(message) {
    parcel_.size = stored_size(message);
    parcel_.attachments = message.attachments.size();
  }
  unpublished(const unpublished&) = delete;
  unpublished& operator=(const unpublished&) = delete;
  ~unpublished() {
    if (position_) return;
    if (parcel_.extent != 0) writer_of(side_).give_back(parcel_.extent);
    if (carried_) carry(side_.q.id, message_.attachments, -1);
  }

  bool try_once(effort e) {
    lane_writer& w = writer_of(side_);
    if (!prepare(w)) return false;
    position_ = e == effort::little ? w.publish(parcel_) : w.publish_with_more(parcel_, e == effort::all);
    return position_.has_value();
  }
  [[nodiscard]] std::uint64_t position() const { return *position_; }

 private:
  // False: there is no memory for it now.
  bool prepare(lane_writer& w) {
    if (prepared_) return true;
    if (parcel_.size > inline_bytes_max) {
      const auto extent = w.reserve(parcel_.size);
      if (!extent) return false;
      parcel_.extent = *extent;
      store_payload(message_, w.payload(*extent));
    } else if (parcel_.size == message_.bytes.size()) {
      parcel_.here = message_.bytes.data();
    } else {
      store_payload(message_, here_);
      parcel_.here = here_;
    }
    if (parcel_.attachments != 0) carry(side_.q.id, message_.attachments, +1);
    carried_ = parcel_.attachments != 0;
    return prepared_ = true;
  }

  queue_side& side_;
  const queue_core::outgoing& message_;
  lane_writer::parcel parcel_;
  std::byte here_[inline_bytes_max];
  bool prepared_ = false, carried_ = false;
  std::optional<std::uint64_t> position_;
};

// It was committed. Closed meanwhile? Then readers may have been told of the end already.
void after_commit(queue_side& side, std::uint64_t position) {
  queue_header& h = side.q.header();
  if ((side.q.flags() & flag_closed) != 0 && side.writer->retract(position)) {
    after_release(side.q, 1);  // who joins may have waited for just this one
    throw queue_closed();
  }
  wake_readers(h, 1);
}

}  // namespace

bool queue_core::put(const outgoing& message, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  refuse_if_too_large(side.q, stored_size(message));
  unpublished u(side, message);
  if (!put_when_room(side, until, stop, [&](effort e) { return u.try_once(e); })) return false;
  after_commit(side, u.position());
  return true;
}

std::size_t queue_core::put_many(std::span<const outgoing> messages, const deadline& until,
                                 const stop_word* stop) const {
  queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  std::size_t done = 0;
  while (done < messages.size()) {
    sweep_if_needed(side.q);
    throw_if_refused(side.q);
    std::array<lane_writer::parcel, lane_writer::several_max> parcels;
    std::size_t n = 0;
    for (; n < parcels.size() && done + n < messages.size(); ++n) {
      const outgoing& m = messages[done + n];
      if (m.bytes.size() > inline_bytes_max || stored_size(m) != m.bytes.size()) break;
      parcels[n] = {.size = m.bytes.size(), .here = m.bytes.data()};
    }
    const auto published = writer_of(side).publish_several(std::span(parcels).first(n));
    if (published.count == 0) {
      if (!put(messages[done], until, stop)) break;
      ++done;
      continue;
    }
    done += published.count;
    if ((side.q.flags() & flag_closed) != 0) {
      // The last first: what a reader still gets is a beginning of what was put.
      std::size_t retracted = 0;
      for (std::size_t i = published.count; i-- > 0;) retracted += side.writer->retract(published.first + i) ? 1 : 0;
      if (retracted != 0) {
        after_release(side.q, retracted);
        throw queue_closed();
      }
    }
    wake_readers(h, published.count);
  }
  return done;
}

std::optional<queue_core::loan> queue_core::borrow(std::size_t bytes, const deadline& until,
                                                   const stop_word* stop) const {
  queue_side& side = side_of(region_);
  refuse_if_too_large(side.q, bytes);
  lane_writer& w = writer_of(side);
  std::optional<std::uint64_t> extent;
  if (!put_when_room(side, until, stop, [&](effort) { return (extent = w.reserve(bytes)).has_value(); }))
    return std::nullopt;
  return loan{*extent, {w.payload(*extent), bytes}};
}

bool queue_core::publish(const loan& written, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  lane_writer& w = writer_of(side);
  if (!w.has_reserved(written.extent))
    throw std::logic_error("covey: a loan is published by the thread that took it, and once");
  const lane_writer::parcel p{.size = written.bytes.size(), .extent = written.extent};
  std::optional<std::uint64_t> position;
  const auto once = [&](effort e) {
    position = e == effort::little ? w.publish(p) : w.publish_with_more(p, e == effort::all);
    return position.has_value();
  };
  if (!put_when_room(side, until, stop, once)) return false;
  after_commit(side, *position);
  return true;
}

void queue_core::give_back(const loan& unwanted) const noexcept {
  try {
    queue_side& side = side_of(region_);
    if (side.writer && side.writer->has_reserved(unwanted.extent)) side.writer->give_back(unwanted.extent);
  } catch (...) {
    // Damaged: it is of no more use.
  }
}

queue_core::several queue_core::take(std::size_t n, const deadline& until, const stop_word* stop,
                                     const std::uint32_t* deaths_known) const {
  queue_side& side = side_of(region_);
  const queue_view& q = side.q;
  queue_header& h = q.header();
  const change_of_hand changes(side);
  const std::size_t released = release_all(side);
  std::size_t count = 0;
  bool told = released == 0;
  for (bool spun = false;;) {
    const std::uint32_t deaths = sweep_if_needed(q);
    const std::uint32_t flags = q.flags();  // before the look for messages
    if ((flags & flag_discarded) == 0) count = take_some(side, n);
    if (count != 0) break;
    if (!std::exchange(told, true)) after_release(q, released);
    if ((flags & flag_closed) != 0 || ((flags & flag_writers_lost) != 0 && idle(q))) {
      if ((flags & (flag_closed | flag_writer_died)) == flag_writer_died) throw no_producers();
      return {get_result::ended};
    }
    if (out_of_time(until, stop) || (deaths_known != nullptr && deaths != *deaths_known)) return {get_result::not_now};
    const bool streaming = std::exchange(side.busy, side.busy / 2) > 32;
    const auto one_waits = [&] { return streaming ? several_wait(side) || something_waits(q) : something_waits(q); };
    if (!std::exchange(spun, true) && look_and_yield_until(one_waits)) {
      if (streaming) side.busy = 64;
      continue;
    }
    sleep_unless(h.readable, h.sleeping_readers, deaths, until, stop, [&] {
      count = take_some(side, n);
      return count != 0 || q.flags() != flags;
    });
    if (count != 0) break;
    spun = false;
  }
  if (!side.kept) side.kept = region_;
  if (told)
    wake(h.writable, h.sleeping_writers, count);
  else
    after_release(q, released + count, true);
  return {get_result::got, count};
}

void queue_core::look_at(std::size_t n, incoming& out) const {
  queue_side& side = side_of(region_);
  out.bytes = content(side, side.hand[n], out.small);
  out.deliveries = static_cast<std::uint32_t>(side.hand[n].deliveries);
}

queue_core::get_result queue_core::get(incoming& out, const deadline& until, const stop_word* stop) const {
  const get_result result = take(1, until, stop, nullptr).result;
  if (result == get_result::got) look_at(0, out);
  return result;
}

queue_core::get_result queue_core::get(taken& out, const deadline& until, const stop_word* stop,
                                       const std::uint32_t* deaths) const {
  const get_result result = take(1, until, stop, deaths).result;
  if (result != get_result::got) return result;
  incoming m;
  look_at(0, m);
  out.deliveries = m.deliveries;
  try {
    out.bytes.assign(m.bytes.begin(), m.bytes.end());
  } catch (const std::bad_alloc&) {
    drop_one_put_back_others(none);  // somebody else may have memory
    throw;
  }
  return result;
}

queue_core::several queue_core::get_many(std::size_t n, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  side.hand.reserve(std::min<std::size_t>(n, side.q.shape.items));
  return take(n, until, stop, nullptr);
}

queue_core::get_result queue_core::get_view(viewed& out, const deadline& until, const stop_word* stop) const {
  const get_result result = take(1, until, stop, nullptr).result;
  if (result != get_result::got) return result;
  queue_side& side = side_of(region_);
  const change_of_hand changes(side);
  const held_message m = side.hand.back();
  const auto bytes = content(side, m, out.small);
  out.large = bytes.data() == out.small.data() ? std::span<const std::byte>() : bytes;
  out.small_bytes = bytes.size();
  out.lane = m.lane;
  out.position = m.position;
  out.hand = this_name();
  out.deliveries = static_cast<std::uint32_t>(m.deliveries);
  side.hand.pop_back();
  return result;
}

// Here, because a compiler that sees both warns of every constant index beyond a small message.
std::span<const std::byte> queue_core::viewed::bytes() const noexcept {
  return large.data() != nullptr ? large : std::span(small).first(small_bytes);
}

void queue_core::finish(const viewed& v) const noexcept {
  try {
    const queue_side& side = side_of(region_);
    release(side.q, {v.lane, v.position, v.deliveries}, v.hand);
    after_release(side.q, 1);
  } catch (...) {
    // Damaged: nobody will get it again.
  }
}

bool queue_core::get_failed(incoming& out) const {
  queue_side& side = side_of(region_);
  const change_of_hand changes(side);
  sweep_if_needed(side.q);
  const std::size_t released = release_all(side);
  const auto m = take_failed(side.q);
  if (released != 0) after_release(side.q, released);
  if (!m) return false;
  side.hand.push_back(*m);
  side.kept = region_;
  look_at(0, out);
  return true;
}

std::size_t queue_core::failed() const {
  const queue_side& side = side_of(region_);
  sweep_if_needed(side.q);
  return count_failed(side.q);
}

bool queue_core::acknowledge() const {
  queue_side& side = side_of(region_);
  if (side.hand.empty()) return false;
  const change_of_hand changes(side);
  release(side.q, side.hand.front());
  side.hand.erase(side.hand.begin());
  after_release(side.q, 1);
  return true;
}

void queue_core::drop_one_put_back_others(std::size_t n) const {
  queue_side& side = side_of(region_);
  const change_of_hand changes(side);
  for (std::size_t i = 0; i < side.hand.size(); ++i)
    i == n ? release(side.q, side.hand[i]) : put_back(side.q, side.hand[i]);
  side.hand.clear();
  after_release(side.q, 1);
  wake_all_readers(side.q.header());
}

bool queue_core::join(const deadline& until, const stop_word* stop) const {
  const queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  for (;;) {
    const std::uint32_t deaths = sweep_if_needed(side.q);
    if (idle(side.q)) return true;
    if ((side.q.flags() & flag_readers_lost) != 0) throw no_consumers();
    if (out_of_time(until, stop)) return false;
    sleep_unless(h.idle, h.sleeping_joiners, deaths, until, stop, [&] { return idle(side.q); });
  }
}

void queue_core::close(close_mode mode) const {
  const queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  const bool discard = mode == close_mode::discard;
  side.q.change_flags(discard ? flag_closed | flag_discarded : flag_closed, 0);
  if (discard) discard_all(side.q);
  wake_everybody(h);
}

bool queue_core::ready() const {
  try {
    const queue_side& side = side_of(region_);
    sweep_if_needed(side.q);
    const std::uint32_t flags = side.q.flags();
    if ((flags & flag_closed) != 0 || anything_to_take(side.q)) return true;
    return (flags & flag_writers_lost) != 0 && (!side.hand.empty() || idle(side.q));
  } catch (const queue_damaged&) {
    return true;  // get() says so
  }
}

wait_word queue_core::arm() const {
  try {
    return side_of(region_).q.header().pollers.arm();
  } catch (const queue_damaged&) {
    return {};
  }
}

bool queue_core::closed() const { return (side_of(region_).q.flags() & flag_closed) != 0; }

std::size_t queue_core::size() const {
  const queue_side& side = side_of(region_);
  sweep_if_needed(side.q);
  return count_waiting(side.q);
}

std::size_t queue_core::size_approx() const noexcept {
  try {
    return count_waiting_approx(side_of(region_).q);
  } catch (...) {
    return 0;  // damaged: nothing can be got
  }
}

std::size_t queue_core::capacity() const noexcept {
  try {
    return side_of(region_).q.shape.items;
  } catch (...) {
    return 0;
  }
}

void queue_core::take_role(queue_role role) const { enter_role(roles_of(side_of(region_).q), role); }

void queue_core::leave_role(queue_role role) const noexcept {
  if (family.book == nullptr) return;  // forked past covey: it is the parent's
  try {
    const queue_side& side = side_of(region_);
    if (leave_role_of(roles_of(side.q), role)) wake_everybody(side.q.header());
  } catch (...) {
    // The queue is damaged: there is nobody left to tell.
  }
}

void acknowledge_all() noexcept {
  if (family.book == nullptr) return;  // forked past covey: it is in the parent's hand
  try {
    for (queue_side* side : sides_with_messages()) {
      try {
        after_release(side->q, release_all(*side));
      } catch (const queue_damaged&) {
        side->hand.clear();  // the others' messages are done all the same
      }
      side->kept = {};
    }
  } catch (...) {
    // Not acknowledged: it is delivered again, which is what its policy promises anyway.
  }
}

// ---- making --------------------------------------------------------------------------------------------------------

namespace {

queue_shape shape_for(const queue_options& options) {
  if (options.items == 0 || options.items > (1U << 24))
    throw std::invalid_argument("covey: a queue holds 1 to 16 million items");
  if (options.bytes == 0 || options.bytes > bytes_max)
    throw std::invalid_argument("covey: a queue holds 1 byte to 990 GiB");
  if (options.deliveries_max > 126) throw std::invalid_argument("covey: a queue counts at most 126 deliveries");
  queue_shape s;
  s.items = options.items;
  s.bytes = options.bytes;
  s.slots = std::bit_ceil(options.items + std::max<std::size_t>(64, options.items / 4));
  s.lanes = std::clamp<std::uint64_t>(slots_bytes_wanted / (s.slots * sizeof(message_slot)), 8, lanes_max);
  s.slots_at = slots_offset(s.lanes);
  s.deliveries_max = options.deliveries_max;
  s.on_death = options.on_death;
  return s;
}

}  // namespace

queue_core::queue_core(const queue_options& options) {
  const queue_shape shape = shape_for(options);
  region_ = region({.bytes = shape.slots_at + shape.lanes * shape.slots * sizeof(message_slot),
                    .committed = shape.slots_at,
                    .kind = region_kind::queue});
  auto& h = *new (region_.data()) queue_header{};
  h.shape = shape;
  h.shape_check = shape_check_of(queue_key(region_.id()), shape);
  h.flags.store(checked_flags(queue_key(region_.id()), 0), std::memory_order_relaxed);
  h.swept_deaths.store(deaths_seen(), std::memory_order_relaxed);
}

}  // namespace covey::detail
