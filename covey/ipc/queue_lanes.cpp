// Read docs/design/queue.md first. Nothing here waits, allocates under a lock, or leaves anything half done: whoever
// dies between two compare-and-swaps leaves a state that the next one who comes by completes.
#include <covey/ipc/queue_lanes.hpp>

#include <covey/ipc/lane_quota.hpp>
#include <covey/ipc/queue_taking.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace covey::detail {

bool take_slot(const queue_view& q, message_slot& s, std::uint64_t raw) {
  const slot_state was = q.state_of(raw);
  return s.state.compare_exchange_strong(raw, q.raw(slot_state::in_hand_of(this_name(), was.deliveries())),
                                         std::memory_order_seq_cst, std::memory_order_relaxed);
}

std::uint64_t slots_touched(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank()) {
    const std::uint64_t used = q.lane(l).slots_used.load(std::memory_order_acquire);
    if (used > q.shape.slots) q.damaged();
    return used;
  }
  return std::min(tail_of(q, l, q.lane(l).head.load(std::memory_order_acquire)), q.shape.slots);
}

namespace {

// What stands at a position of a lane, as a taker sees it.
enum class sight { waiting, passed, empty };

struct look {
  sight what;
  std::uint64_t raw;
};

bool same_slot(const queue_view& q, std::uint64_t a, std::uint64_t b) { return ((a ^ b) & (q.shape.slots - 1)) == 0; }

// `nullopt`: it changed while we looked, or it makes no sense; the caller knows which when the head has not moved.
std::optional<look> look_once(const queue_view& q, const message_slot& s, std::uint64_t at) {
  const std::uint64_t raw = s.state.load(std::memory_order_acquire);
  const slot_state state = q.state_of(raw);
  const auto unless_passed_over = [&]() -> std::optional<look> {
    return look{s.skipped.load(std::memory_order_acquire) == at + 1 ? sight::passed : sight::empty, raw};
  };
  switch (state.kind()) {
    case slot_kind::fresh:
      if (!q.may_be_fresh(s, raw, at)) return std::nullopt;
      return unless_passed_over();
    case slot_kind::free:
    case slot_kind::queued:
    case slot_kind::failed: {
      const std::uint64_t has = state.position();
      if (!same_slot(q, has, at) || has > at) return std::nullopt;
      if (has < at) return unless_passed_over();
      return look{state.kind() == slot_kind::queued ? sight::waiting : sight::passed, raw};
    }
    case slot_kind::in_flight: {
      const std::uint64_t has = s.position.load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (s.state.load(std::memory_order_relaxed) != raw || !same_slot(q, has, at) || has > at) return std::nullopt;
      return has == at ? std::optional(look{sight::passed, raw}) : unless_passed_over();
    }
    case slot_kind::being_put: break;  // there is none in such a lane
  }
  return std::nullopt;
}

// At the head of lane `l`, over which it moves while that has been passed.
look look_at_head(const queue_view& q, std::size_t l, std::uint64_t& head) {
  lane_control& lane = q.lane(l);
  head = lane.head.load(std::memory_order_acquire);
  for (int senseless = 0;;) {
    const auto seen = look_once(q, q.slot(l, head), head);
    if (seen && seen->what != sight::passed) return *seen;
    if (seen) lane.head.compare_exchange_strong(head, head + 1, std::memory_order_seq_cst);
    const std::uint64_t before = std::exchange(head, lane.head.load(std::memory_order_acquire));
    senseless = seen || before != head ? 0 : senseless + 1;
    if (senseless == 1000) q.damaged();  // and nobody has moved on meanwhile
  }
}

// Calls f(lane, slot, raw, state) for every slot that was ever used; until it returns true.
template <class F>
bool for_each_slot(const queue_view& q, const F& f) {
  const std::size_t lanes = q.lanes_used();
  for (std::size_t l = 0; l < lanes; ++l) {
    const std::uint64_t slots = slots_touched(q, l);
    for (std::uint64_t i = 0; i < slots; ++i) {
      message_slot& s = q.slot(l, i);
      const std::uint64_t raw = s.state.load(std::memory_order_acquire);
      if (f(l, s, raw, q.state_of(raw))) return true;
    }
  }
  return false;
}

// Before a sweeper makes room for a message that it found in a dead hand: whoever gathers quota looks for it from now
// on, for no scan below that finds it there, or finds it returned, says that there is none.
void will_come_back(const queue_view& q) {
  if (!q.shape.by_rank()) q.header().late.fetch_add(1, std::memory_order_seq_cst);
}

// Afterwards: to lane `l` a message came back that others have passed.
void came_back(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank())
    begin_anew(q, l);
  else
    q.header().late.fetch_add(1, std::memory_order_seq_cst);
}

// The oldest of those that `wanted` names by their states.
template <class Wanted>
std::optional<held_message> take_scanning(const queue_view& q, const Wanted& wanted) {
  for (;;) {
    message_slot* best = nullptr;
    std::uint64_t best_raw = 0;
    held_message m{};
    for_each_slot(q, [&](std::size_t l, message_slot& s, std::uint64_t raw, slot_state state) {
      if (!wanted(state) || (best != nullptr && m.lane == l && state.position() > m.position)) return false;
      if (best != nullptr && m.lane != l) return true;
      best = &s;
      best_raw = raw;
      m = held_message::of(q, l, state.position(), state.delivered_again());
      return false;
    });
    if (best == nullptr) return std::nullopt;
    if (take_slot(q, *best, best_raw)) return m;
  }
}

// Into this thread's hand first: what others still read or change is not looked into.
void take_and_release(const queue_view& q, std::size_t l, message_slot& s, std::uint64_t raw, std::uint64_t position) {
  if (take_slot(q, s, raw)) release(q, held_message::of(q, l, position, 0));
}

// What becomes of a message that comes back from a consumer.
slot_state after_return(const queue_view& q, std::uint64_t position, slot_state in_hand) {
  const std::uint64_t deliveries = in_hand.delivered_again();
  const bool enough = q.shape.deliveries_max != 0 && deliveries >= q.shape.deliveries_max;
  const bool fails = enough || q.shape.on_death == in_flight_policy::fail;
  return slot_state::at(fails ? slot_kind::failed : slot_kind::queued, position, deliveries);
}

void return_from_the_dead(const queue_view& q, std::size_t l, message_slot& s, std::uint64_t raw, slot_state state) {
  const std::uint64_t position = s.position.load(std::memory_order_relaxed);
  // Else a message that is long gone would come again, or what is in its place now.
  if (!may_have_lived(state.hand())) q.damaged();
  if (!same_slot(q, position, static_cast<std::uint64_t>(&s - &q.slot(l, 0)))) q.damaged();
  if (state.is_done() || state.kind() == slot_kind::being_put) {
    // Another sweeper may have freed it, and its owner have put there, before we read the position.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (s.state.load(std::memory_order_relaxed) != raw) return;
    detach(q.id, message_number(l, position));
    s.state.compare_exchange_strong(raw, q.raw(slot_state::at(slot_kind::free, position)), std::memory_order_seq_cst);
    return;
  }
  const bool drops = q.shape.on_death == in_flight_policy::drop || (q.flags() & flag_discarded) != 0;
  if (drops) {
    take_and_release(q, l, s, raw, position);
    return;
  }
  s.state.compare_exchange_strong(raw, q.raw(after_return(q, position, state)), std::memory_order_seq_cst);
}

}  // namespace

bool anything_to_take(const queue_view& q) {
  if (q.shape.by_rank()) return anything_in_order(q);
  const std::size_t lanes = q.lanes_used();
  std::uint64_t head = 0;
  for (std::size_t l = 0; l < lanes; ++l)
    if (look_at_head(q, l, head).what == sight::waiting) return true;
  return something_came_back(q) &&
         for_each_slot(q, [](std::size_t, message_slot&, std::uint64_t, slot_state s) { return is_late(s); });
}

std::optional<held_message> take_late(const queue_view& q) {
  queue_header& h = q.header();
  std::uint32_t done = h.late_done.load(std::memory_order_acquire);
  const std::uint32_t late = h.late.load(std::memory_order_acquire);
  if (late == done) return std::nullopt;
  bool more = false;  // for which somebody has raised `late` perhaps, and which he has not returned yet
  auto taken = take_scanning(q, [&](slot_state s) {
    more = more || (comes_back(q, s) && !alive(s.hand()));
    return is_late(s);
  });
  // Whoever returns a message raises `late`, too: a scan that found nothing has seen all up to `late`.
  while (!taken && !more && static_cast<std::int32_t>(late - done) > 0 &&
         !h.late_done.compare_exchange_weak(done, late, std::memory_order_seq_cst)) {
  }
  return taken;
}

std::optional<held_message> take_failed(const queue_view& q) {
  return take_scanning(q, [](slot_state s) { return s.kind() == slot_kind::failed; });
}

std::size_t count_failed(const queue_view& q) {
  std::size_t n = 0;
  for_each_slot(q, [&](std::size_t, message_slot&, std::uint64_t, slot_state s) {
    n += s.kind() == slot_kind::failed ? 1 : 0;
    return false;
  });
  return n;
}

std::uint64_t settle_head(const queue_view& q, std::size_t l) {
  std::uint64_t head = 0;
  look_at_head(q, l, head);
  return head;
}

std::uint64_t tail_of(const queue_view& q, std::size_t l, std::uint64_t head) {
  const std::uint32_t tail = gate_tail(q.lane(l).gate.load(std::memory_order_acquire));
  const std::uint32_t ahead = tail - static_cast<std::uint32_t>(head);
  if (ahead <= q.shape.slots) return head + ahead;
  if (q.lane(l).head.load(std::memory_order_acquire) == head) q.damaged();
  return head + q.shape.slots;  // `head` is of long ago
}

std::size_t take_at_head(const queue_view& q, lane_cursor& cursor, std::vector<held_message>& out) {
  for (;;) {
    std::uint64_t head = 0;
    const look seen = look_at_head(q, cursor.lane, head);
    if (seen.what == sight::empty) return 0;
    if (!take_slot(q, q.slot(cursor.lane, head), seen.raw)) continue;
    out.push_back(held_message::of(q, cursor.lane, head, q.state_of(seen.raw).delivered_again()));
    cursor.next = head + 1;
    cursor.ahead = 1;
    return 1;
  }
}

void give_back_references(const queue_view& q, std::size_t l, message_slot& s, std::uint64_t position) {
  const slot_state in_hand = q.state_of(s.state.load(std::memory_order_relaxed));
  s.state.store(q.raw(slot_state::done_by(in_hand.hand())), std::memory_order_release);
  detach(q.id, message_number(l, position));
}

void put_back(const queue_view& q, const held_message& m) {
  message_slot& s = *m.slot;
  const std::uint64_t raw = s.state.load(std::memory_order_relaxed);
  if (!is_in_hand(q, s, raw, m.position, this_name())) return;
  const slot_state state = q.state_of(raw);
  room_for_returned room(q);
  room.have();
  s.state.store(q.raw(slot_state::at(slot_kind::queued, m.position, state.delivered_again())),
                std::memory_order_release);
  came_back(q, m.lane);
  room.have();  // this hand lives: who took our turn meanwhile did not count what was in it
}

void check_large(const queue_view& q, const message_slot& s, std::span<const std::byte> payload) {
  if (checksum_of_large(q, checked_words(s), payload) != s.checksum) q.damaged();
}

void discard_all(const queue_view& q) {
  for_each_slot(q, [&](std::size_t l, message_slot& slot, std::uint64_t raw, slot_state s) {
    if (s.kind() == slot_kind::queued || s.kind() == slot_kind::failed) take_and_release(q, l, slot, raw, s.position());
    return false;
  });
}

namespace {

// Two equal ones with nothing but looking between them: nothing was put, taken or returned meanwhile.
struct snapshot {
  std::vector<std::uint64_t> heads, tails;  // not by rank
  std::vector<std::uint64_t> states;  // of all slots: by rank, or where what waits is not all that lies in a row
  bool operator==(const snapshot&) const = default;
};

snapshot snapshot_of(const queue_view& q) {
  snapshot s;
  const std::size_t lanes = q.shape.by_rank() ? 0 : q.lanes_used();
  // What came back lies behind its lane's head; or at it, if that lagged, and what was taken lies after it.
  bool in_a_row = !q.shape.by_rank() && !something_came_back(q) && (q.flags() & flag_discarded) == 0;
  for (std::size_t l = 0; l < lanes; ++l) {
    std::uint64_t head = 0;
    const look first = look_at_head(q, l, head);
    if (first.what == sight::waiting && is_late(q.state_of(first.raw))) in_a_row = false;
    s.heads.push_back(head);
    s.tails.push_back(tail_of(q, l, head));
  }
  if (!in_a_row)
    for_each_slot(q, [&](std::size_t, message_slot&, std::uint64_t raw, slot_state) {
      s.states.push_back(raw);
      return false;
    });
  return s;
}

// Committed and not taken, in a lane between its head and its tail.
std::size_t count_between(const queue_view& q, std::size_t l, std::uint64_t head, std::uint64_t tail) {
  const auto waits = [&](std::uint64_t p) {
    const auto seen = look_once(q, q.slot(l, p), p);
    return seen && seen->what == sight::waiting;
  };
  std::size_t n = 0;
  if (q.lane(l).last_skipped.load(std::memory_order_acquire) <= head) {
    // The first was never taken, so none was: all of them are messages, but perhaps the last ones, which are being put.
    while (tail > head && !waits(tail - 1)) --tail;
    return tail - head;
  }
  for (std::uint64_t p = head; p < tail; ++p) n += waits(p) ? 1 : 0;
  return n;
}

// Asks takers and putters to pause for a moment, so that two snapshots can be equal; see pause_for_counting().
class counting {
 public:
  explicit counting(const queue_view& q) : word_(q.header().counting) {
    participant nobody = 0;
    mine_ = word_.compare_exchange_strong(nobody, this_name(), std::memory_order_seq_cst);
  }
  counting(const counting&) = delete;
  counting& operator=(const counting&) = delete;
  ~counting() {
    participant me = this_name();
    if (mine_) word_.compare_exchange_strong(me, 0, std::memory_order_release, std::memory_order_relaxed);
  }

 private:
  std::atomic<participant>& word_;
  bool mine_;
};

}  // namespace

bool idle(const queue_view& q) {
  if (q.shape.by_rank()) return !anything_in_order(q) && !anything_unfinished(q);  // the first is soon found
  const snapshot before = snapshot_of(q);
  if (before.heads != before.tails) return false;
  const bool busy = for_each_slot(q, [&](std::size_t, message_slot&, std::uint64_t, slot_state s) {
    return s.kind() == slot_kind::in_flight || s.kind() == slot_kind::queued;
  });
  return !busy && before == snapshot_of(q);
}

std::size_t count_waiting_approx(const queue_view& q) {
  std::size_t n = 0;
  if (q.shape.by_rank()) {
    for_each_slot(q, [&](std::size_t, message_slot&, std::uint64_t, slot_state s) {
      n += s.kind() == slot_kind::queued || s.kind() == slot_kind::being_put ? 1 : 0;
      return false;
    });
    return n;
  }
  const std::size_t lanes = std::min<std::size_t>(q.header().lanes_used.load(std::memory_order_relaxed), q.shape.lanes);
  for (std::size_t l = 0; l < lanes; ++l) {
    const auto head = static_cast<std::uint32_t>(q.lane(l).head.load(std::memory_order_relaxed));
    const std::uint32_t ahead = gate_tail(q.lane(l).gate.load(std::memory_order_relaxed)) - head;
    n += ahead <= q.shape.slots ? ahead : 0;
  }
  return n;
}

std::size_t count_waiting(const queue_view& q) {
  const auto is_queued = [&](std::uint64_t raw) { return q.state_of(raw).kind() == slot_kind::queued; };
  std::optional<counting> paused;
  for (int tries = 0;; ++tries) {
    const snapshot before = snapshot_of(q);
    std::size_t n = std::ranges::count_if(before.states, is_queued);
    if (before.states.empty())
      for (std::size_t l = 0; l < before.heads.size(); ++l) n += count_between(q, l, before.heads[l], before.tails[l]);
    if (before == snapshot_of(q)) return n;
    if (tries % 10 == 9) paused.emplace(q);
  }
}

void pause_for_counting(const queue_view& q) noexcept {
  participant who = q.header().counting.load(std::memory_order_acquire);
  for (int i = 0; i < 1000; ++i) {
    if (q.header().counting.load(std::memory_order_acquire) != who) return;
    pause_cpu();
  }
  q.header().counting.compare_exchange_strong(who, 0, std::memory_order_seq_cst);  // it was stopped, or may ask again
}

void detach_again(const queue_view& q, std::size_t l, const message_slot& s) {
  const slot_state state = q.state_of(s.state.load(std::memory_order_acquire));
  if (state.kind() == slot_kind::free) detach(q.id, message_number(l, state.position()));
}

// ---- the dead ------------------------------------------------------------------------------------------------------

namespace {

// What its former owner was putting is free: nobody else is at it.
void recover_ordered_lane(const queue_view& q, std::size_t l) {
  for (std::uint64_t i = 0; i < slots_touched(q, l); ++i) {
    message_slot& s = q.slot(l, i);
    const std::uint64_t raw = s.state.load(std::memory_order_acquire);
    const slot_state state = q.state_of(raw);
    if (state.kind() == slot_kind::being_put) return_from_the_dead(q, l, s, raw, state);
  }
  begin_anew(q, l);
}

}  // namespace

void recover_lane(const queue_view& q, std::size_t l) {
  if (q.shape.by_rank()) {
    recover_ordered_lane(q, l);
    return;
  }
  lane_control& lane = q.lane(l);
  const std::uint64_t head = settle_head(q, l);
  const std::uint64_t tail = tail_of(q, l, head);
  std::uint64_t bytes = lane.bytes_tail.load(std::memory_order_relaxed);
  for (std::uint64_t p = head; p < tail; ++p) {
    message_slot& s = q.slot(l, p);
    std::uint64_t skipped = s.skipped.load(std::memory_order_acquire);
    const auto seen = look_once(q, s, p);
    if (seen && seen->what == sight::empty && skipped < p + 1) {
      detach(q.id, message_number(l, p));  // before: who dies here leaves it as it was
      lane.last_skipped.store(p + 1, std::memory_order_release);  // before: whoever sees it passed may rely on this
      s.skipped.compare_exchange_strong(skipped, p + 1, std::memory_order_seq_cst);
    }
    // Also of one that is in a hand: it may come back.
    const bool was_put = seen && seen->what != sight::empty && s.position.load(std::memory_order_relaxed) == p;
    if (was_put && skipped != p + 1) bytes = s.bytes_end.load(std::memory_order_relaxed);
  }
  lane.bytes_tail.store(bytes, std::memory_order_release);
}

namespace {

// A lane whose owner died belongs to nobody, once it is recovered.
void free_dead_lane(const queue_view& q, std::size_t l) {
  lane_control& lane = q.lane(l);
  participant owner = lane.owner.load(std::memory_order_acquire);
  const participant me = this_name();
  if (owner == 0 || owner == me || alive(owner)) return;
  if (!lane.owner.compare_exchange_strong(owner, me, std::memory_order_seq_cst)) return;
  recover_lane(q, l);
  lane.owner.store(0, std::memory_order_release);
}

}  // namespace

namespace {

// What the former one was told, by somebody who is done with a message, it may not have read; and who told it repeats
// that only if he lives, and has something to say.
void tell_a_new_keeper(const queue_view& q) {
  std::atomic<std::uint32_t>& told = q.header().keepers_told;
  const std::uint32_t keepers = keepers_seen();
  if (told.load(std::memory_order_acquire) == keepers) return;
  for_each_slot(q, [&](std::size_t l, const message_slot& s, std::uint64_t, slot_state state) {
    const bool had_any = s.size_and_attachments.load(std::memory_order_relaxed) >> 40 != 0;
    if (had_any && state.kind() == slot_kind::free) detach_again(q, l, s);
    return false;
  });
  told.store(keepers, std::memory_order_release);
}

}  // namespace

void sweep_lanes(const queue_view& q) {
  const std::size_t lanes = q.lanes_used();
  for (std::size_t l = 0; l < lanes; ++l) free_dead_lane(q, l);
  room_for_returned room(q);
  for_each_slot(q, [&](std::size_t l, message_slot& s, std::uint64_t raw, slot_state state) {
    const bool in_hand = state.kind() == slot_kind::in_flight || state.kind() == slot_kind::being_put;
    if (!in_hand || alive(state.hand())) return false;
    if (comes_back(q, state)) {
      will_come_back(q);
      room.have();
    }
    return_from_the_dead(q, l, s, raw, state);
    return false;
  });
  if ((q.flags() & flag_discarded) != 0) discard_all(q);
  tell_a_new_keeper(q);
  participant counter = q.header().counting.load(std::memory_order_acquire);
  if (counter != 0 && !alive(counter)) q.header().counting.compare_exchange_strong(counter, 0);
  for (std::size_t l = 0; q.shape.by_rank() && l < lanes; ++l) begin_anew(q, l);  // also for a sweeper that died
}

}  // namespace covey::detail
