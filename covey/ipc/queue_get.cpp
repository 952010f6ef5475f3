// Getting: what waits into the hand, and out of it. Read docs/design/queue.md first.
#include <algorithm>
#include <covey/ipc/ordered_lanes.hpp>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_taking.hpp>
#include <covey/ipc/queue_waits.hpp>
#include <new>
#include <utility>

namespace covey::detail {
namespace {

// Messages from one lane while others may wait: many when they are done quickly, because what another processor wrote
// must be fetched from there; one by one when each is work.
constexpr unsigned same_lane_max = 512;
constexpr unsigned timed_takes = 16;
constexpr auto timed_takes_are_quick = std::chrono::microseconds(100);

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

inline std::size_t release_all(queue_side& side) {
  std::size_t n = 0;
  for (const held_message& m : side.hand) release(side.q, m), ++n;
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
  if (++side.takes % timed_takes == 0) [[unlikely]] {
    const auto now = std::chrono::steady_clock::now();
    side.lane_limit = now - std::exchange(side.timed_at, now) < timed_takes_are_quick ? same_lane_max : 1;
  }
  return side.lane_limit;
}

// One after another. Not inlined: it is for what is seldom, or of other queues, and makes the way of the others longer.
template <std::optional<held_message> (*Next)(const queue_view&)>
[[gnu::noinline]] std::size_t take_each(queue_side& side, std::size_t n) {
  std::size_t taken = 0;
  for (; taken < n; ++taken) {
    const auto next = Next(side.q);
    if (!next) break;
    side.hand.push_back(*next);
  }
  return taken;
}

// At most `n`, from wherever they are.
[[gnu::noinline]] std::size_t take_from_all(queue_side& side, std::size_t n, unsigned limit) {
  const queue_view& q = side.q;
  const std::size_t lanes = q.lanes_used();
  std::size_t taken = something_came_back(q) ? take_each<take_late>(side, n) : 0;
  const auto next_lane = [&] {
    side.from_same_lane = 0;
    if (++side.next_lane >= lanes) side.next_lane = 0;
  };
  for (std::size_t empty = 0; empty < lanes && taken < n;) {
    if (side.from_same_lane >= limit) next_lane();
    const std::size_t wanted = std::min<std::size_t>(n - taken, limit - side.from_same_lane);
    const std::size_t got = take_oldest(q, side.next_lane, wanted, side.cursor, side.hand);
    taken += got;
    side.from_same_lane += static_cast<unsigned>(got);
    empty = got != 0 ? 0 : empty + 1;
    if (got == 0) next_lane();
  }
  return taken;
}

// Into the hand, which has room for them: at most `n`. Mostly they are the next of the lane that gave the last one.
[[gnu::always_inline]] inline std::size_t take_some(queue_side& side, std::size_t n) {
  const queue_view& q = side.q;
  const unsigned limit = lane_limit(side);
  lane_cursor& cursor = side.cursor;
  std::size_t taken = 0;
  if (cursor.slots != nullptr && cursor.lane == side.next_lane && side.from_same_lane + n <= limit &&
      !something_came_back(q)) [[likely]] {
    if (side.in_a_row > 8)
      fetch_for_writing(&cursor.slots[(cursor.next + 2) & (q.shape.slots - 1)], sizeof(message_slot));
    taken = take_in_a_row(q, side.name, n, cursor, side.hand);
    side.from_same_lane += static_cast<unsigned>(taken);
  }
  if (taken < n) {
    if (q.shape.by_rank()) return take_each<take_first>(side, n);
    taken += take_from_all(side, n - taken, limit);
  }
  if (taken == 0) return side.in_a_row = 0;
  ++side.in_a_row;
  side.busy = std::min(side.busy + 1, 64U);
  return taken;
}

// Taking it swaps its first line and reads its second one.
void fetch_to_take(const message_slot& slot) {
  fetch_for_writing(&slot.state, 1);
  fetch_for_reading(slot.inlined + sizeof slot.inlined - 1, 1);
}

bool something_waits(const queue_view& q) {
  if (q.shape.by_rank()) [[unlikely]]
    return anything_in_order(q);
  const std::size_t lanes = q.lanes_used();
  for (std::size_t l = 0; l < lanes; ++l) {
    const std::uint64_t head = q.lane(l).head.load(std::memory_order_relaxed);
    const message_slot& slot = q.slot(l, head);
    const slot_state s = q.state_of(slot.state.load(std::memory_order_relaxed));
    if (s.kind() != slot_kind::queued || s.position() != head) continue;
    fetch_to_take(slot);
    return true;
  }
  return false;
}

// After a rest everything is cold: asks for what taking the next message will need one after another.
void fetch_ahead(const queue_side& side) {
  const queue_view& q = side.q;
  fetch_to_take(q.slot(side.next_lane, side.cursor.next));
  fetch_for_reading(&q.header().flags, 1);
  fetch_for_reading(&q.lane(side.next_lane).head, 1);
}

// Whether the next message of the lane that gave the last one is there: a line of one that is being written is not
// taken away.
bool next_waits(const queue_side& side) {
  const lane_cursor& c = side.cursor;
  if (c.slots == nullptr) return false;
  const message_slot& s = c.slots[c.next & (side.q.shape.slots - 1)];
  return s.state.load(std::memory_order_relaxed) == side.q.raw(slot_state::at(slot_kind::queued, c.next));
}

// A message in hand. Small ones are copied to `copy`.
[[gnu::always_inline]] inline payload_view content(queue_side& side, const held_message& m,
                                                   std::span<std::byte, inline_bytes_max> copy) {
  const payload_view p = payload_of(side.q, m, copy, [&](std::size_t l) { return side.data_of(l); });
  const bool is_large = p.bytes.data() != copy.data();
  if (is_large && side.in_a_row > 8 && p.bytes.size() <= fetched_payload_max && next_waits(side))
    fetch_for_reading(p.bytes.data() + extent_ring::rounded(p.bytes.size()), p.bytes.size());
  return p;
}

std::span<const std::byte> without_ids(const payload_view& p) {
  return p.bytes.subspan(p.attachments * sizeof(std::uint64_t));
}

[[gnu::always_inline]] inline void show(queue_side& side, const held_message& m, queue_core::incoming& out) {
  const payload_view p = content(side, m, out.small);
  out.large = p.bytes.data() == out.small.data() ? std::span<const std::byte>() : p.bytes;
  if (p.attachments != 0 && !out.large.empty()) check_large(side.q, *m.slot, p.bytes);  // before anything is opened
  out.bytes = without_ids(p);
  out.side = &side;
  out.slot = m.slot;
  out.deliveries = m.deliveries;
}

}  // namespace

// What take() saw when it found nothing.
struct queue_core::found_nothing {
  std::uint32_t deaths;
  std::uint32_t flags;
  std::size_t released;  // and not said to others yet
};

[[gnu::always_inline]] inline queue_core::several queue_core::take(queue_side& side, std::size_t n,
                                                                   const deadline& until, const stop_word* stop,
                                                                   const std::uint32_t* deaths_known) const {
  const queue_view& q = side.q;
  const change_of_hand changes(side);
  if (own_turns.has_woken() && !out_of_time(until, stop)) own_turns.give_to_woken();
  std::size_t released = release_all(side);
  const std::uint32_t deaths = sweep_if_needed(q);
  const std::uint32_t flags = q.flags();  // before the look for messages
  several got{get_result::got, (flags & flag_discarded) == 0 ? take_some(side, n) : 0};
  if (got.count == 0) {
    got = take_later(side, n, until, stop, deaths_known, {deaths, flags, std::exchange(released, 0)});
    if (got.result != get_result::got) return got;
  }
  if (!side.kept) side.kept = region_;
  if (released == 0)
    wake_writers(q.header(), got.count);
  else
    after_release(q, released + got.count, true);
  return got;
}

// As take(), which found nothing.
[[gnu::noinline]] queue_core::several queue_core::take_later(queue_side& side, std::size_t n, const deadline& until,
                                                             const stop_word* stop, const std::uint32_t* deaths_known,
                                                             found_nothing seen) const {
  const queue_view& q = side.q;
  queue_header& h = q.header();
  if (seen.released != 0) after_release(q, seen.released);
  for (bool spun = false;;) {
    if ((seen.flags & flag_closed) != 0 || ((seen.flags & flag_writers_lost) != 0 && idle(q))) {
      if ((seen.flags & (flag_closed | flag_writer_died)) == flag_writer_died) throw no_producers();
      return {get_result::ended};
    }
    if (out_of_time(until, stop) || (deaths_known != nullptr && seen.deaths != *deaths_known))
      return {get_result::not_now};
    const bool streaming = std::exchange(side.busy, side.busy / 2) > 32;
    const auto one_waits = [&] { return streaming ? several_wait(side) || something_waits(q) : something_waits(q); };
    if (!std::exchange(spun, true) && look_and_yield_until(one_waits, streaming)) {
      if (streaming) side.busy = 64;
      // At once, for it may be the answer that somebody waits for: who closed the queue meanwhile came after it.
      if (const std::size_t count = take_some(side, n); count != 0) return {get_result::got, count};
    } else {
      std::size_t count = 0;
      const auto look = [&] {
        count = take_some(side, n);
        return count != 0 || q.flags() != seen.flags;
      };
      sleep_unless(h.readable, h.sleeping_readers, seen.deaths, until, stop, look,
                   deaths_known != nullptr ? sleeping::exact : sleeping::nap_first);
      if (count != 0) return {get_result::got, count};
      fetch_ahead(side);
      spun = false;
    }
    seen = {sweep_if_needed(q), q.flags(), 0};
    const std::size_t count = (seen.flags & flag_discarded) == 0 ? take_some(side, n) : 0;
    if (count != 0) return {get_result::got, count};
  }
}

void queue_core::look_at(const several& those, std::size_t n, incoming& out) {
  show(*those.side, those.side->hand[n], out);
}

void queue_core::incoming::check() const { check_large(side->q, *slot, large); }

queue_core::get_result queue_core::get(incoming& out, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  const get_result result = take(side, 1, until, stop, nullptr).result;
  if (result == get_result::got) show(side, side.hand.front(), out);
  return result;
}

queue_core::get_result queue_core::get(taken& out, const deadline& until, const stop_word* stop,
                                       const std::uint32_t* deaths) const {
  queue_side& side = side_of(region_);
  const get_result result = take(side, 1, until, stop, deaths).result;
  if (result != get_result::got) return result;
  incoming m;
  show(side, side.hand.front(), m);
  out.deliveries = m.deliveries;
  try {
    out.bytes.assign(m.bytes.begin(), m.bytes.end());
  } catch (const std::bad_alloc&) {
    drop_one_put_back_others(none);  // somebody else may have memory
    throw;
  }
  m.expect_unchanged();
  return result;
}

queue_core::several queue_core::get_many(std::size_t n, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  const std::size_t most = std::min<std::size_t>(n, side.q.shape.items);
  side.hand.reserve(most);
  several got = take(side, most, until, stop, nullptr);
  got.side = &side;
  return got;
}

queue_core::get_result queue_core::get_view(viewed& out, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  const get_result result = take(side, 1, until, stop, nullptr).result;
  if (result != get_result::got) return result;
  const change_of_hand changes(side);
  const held_message m = side.hand.back();
  const payload_view p = content(side, m, out.small);
  const auto bytes = without_ids(p);
  out.large = bytes.data() == out.small.data() ? std::span<const std::byte>() : bytes;
  if (!out.large.empty()) check_large(side.q, *m.slot, p.bytes);
  out.data = out.large.empty() ? region() : side.data[m.lane].held;
  out.small_bytes = bytes.size();
  out.lane = m.lane;
  out.position = m.position;
  out.hand = this_name();
  out.deliveries = m.deliveries;
  side.hand.pop_back();
  ++locks_owned;  // it may be read, or forgotten, elsewhere
  return result;
}

// Here, because a compiler that sees both warns of every constant index beyond a small message.
std::span<const std::byte> queue_core::viewed::bytes() const noexcept {
  return large.data() != nullptr ? large : std::span(small).first(small_bytes);
}

void queue_core::finish(const viewed& v) const noexcept {
  if (v.hand == thread_name && locks_owned != 0) --locks_owned;
  try {
    const queue_side& side = side_of(region_);
    release(side.q, held_message::of(side.q, v.lane, v.position, v.deliveries), v.hand);
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
  show(side, side.hand.front(), out);
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
  move_head(side.q, side.cursor);  // before: what is put back does not count any more when the head passes it
  for (std::size_t i = 0; i < side.hand.size(); ++i)
    i == n ? release(side.q, side.hand[i]) : put_back(side.q, side.hand[i]);
  side.hand.clear();
  after_release(side.q, 1);
  wake_all_readers(side.q.header());
}

void acknowledge_all() noexcept {
  if (!family.takes_part) return;  // forked past covey: it is in the parent's hand
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

}  // namespace covey::detail
