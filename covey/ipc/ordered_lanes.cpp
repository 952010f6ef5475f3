// Read docs/design/ordered_queue.md first. A lane's list is written by its owner alone; who takes walks it, and changes
// nothing but states, and where the next one begins.
#include <covey/ipc/ordered_lanes.hpp>

#include <tuple>

namespace covey::detail {
namespace {

struct waiting_message {
  std::uint32_t lane = 0;
  std::uint64_t raw = 0;  // of its slot's state
  std::uint64_t position = 0;
  std::uint64_t rank = 0, number = 0;

  [[nodiscard]] bool goes_before(const waiting_message& other) const {
    return std::tie(rank, number) < std::tie(other.rank, other.number);
  }
};

// How far a walk along a list came, as indexes of slots and 1.
struct walk {
  std::uint64_t at = 0;  // a message waits here; 0: none does
  std::uint64_t raw = 0;  // the state that says so
  std::uint64_t last = 0;  // the next walk may begin here
  std::uint64_t passed = 0;  // slots without a message that waits
  bool makes_sense = true;
};

// A slot of a list was never fresh, and has a position of its own.
bool makes_sense(const queue_view& q, slot_state s, std::uint64_t index) {
  switch (s.kind()) {
    case slot_kind::free:
    case slot_kind::queued:
    case slot_kind::failed: return (s.position() & (q.shape.slots - 1)) == index;
    case slot_kind::in_flight:
    case slot_kind::being_put: return true;
    case slot_kind::fresh: break;
  }
  return false;
}

// To the first slot whose kind `is_wanted`.
template <class Wanted>
walk walk_from(const queue_view& q, std::size_t l, std::uint64_t begin, const Wanted& is_wanted) {
  const auto led_nowhere = [] { return walk{.makes_sense = false}; };
  auto next = begin != 0 ? std::optional(begin) : link_target(q, 0, q.lane(l).first.load(std::memory_order_acquire));
  walk w;
  for (; next && *next != 0; ++w.passed) {
    const std::uint64_t at = w.last = *next;
    if (at > q.shape.slots || w.passed > q.shape.slots + puts_before_reuse) return led_nowhere();
    const std::uint64_t raw = q.slot(l, at - 1).state.load(std::memory_order_acquire);
    const slot_state state = q.state_of(raw);
    if (!makes_sense(q, state, at - 1)) return led_nowhere();
    if (is_wanted(state.kind())) {
      w.at = at;
      w.raw = raw;
      return w;
    }
    next = link_target(q, at, q.node(l, at - 1).next.load(std::memory_order_acquire));
  }
  return next ? w : led_nowhere();
}

bool is_queued(slot_kind kind) { return kind == slot_kind::queued; }
bool is_unfinished(slot_kind kind) { return is_queued(kind) || kind == slot_kind::in_flight; }

std::uint32_t puts_to(const queue_view& q, std::size_t l) {
  return gate_tail(q.lane(l).gate.load(std::memory_order_seq_cst));
}

// Many walk over the same slots, and one of them says so. Refused when the owner, or somebody who returned a message,
// has set it anew meanwhile.
void move_begin(const queue_view& q, std::size_t l, std::uint64_t word, const walk& w) {
  constexpr std::uint64_t several = 4;
  if (w.passed < several) return;
  const list_begin next{list_begin::of(q.key, word).version, w.last};
  q.lane(l).begin.compare_exchange_strong(word, next.word(q.key), std::memory_order_seq_cst);
}

// Of lane `l`. What is put meanwhile may be missed.
std::optional<waiting_message> first_of(const queue_view& q, std::size_t l) {
  for (int senseless = 0;;) {
    const std::uint32_t puts = puts_to(q, l);
    const std::uint64_t begin = q.lane(l).begin.load(std::memory_order_acquire);
    const walk w = walk_from(q, l, list_begin::of(q.key, begin).index, is_queued);
    waiting_message m{.lane = static_cast<std::uint32_t>(l), .raw = w.raw};
    if (w.at != 0) {
      m.position = q.state_of(w.raw).position();
      m.rank = q.node(l, w.at - 1).rank.load(std::memory_order_relaxed);
      m.number = q.node(l, w.at - 1).number.load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      // Else they may be those of another message.
      if (q.slot(l, w.at - 1).state.load(std::memory_order_relaxed) != w.raw) continue;
    }
    if (puts_to(q, l) - puts >= puts_before_reuse) continue;  // a slot may have come to another place of the list
    if (!w.makes_sense) {
      if (++senseless == 1000) q.damaged();  // and nobody puts meanwhile
      continue;
    }
    move_begin(q, l, begin, w);
    return w.at != 0 ? std::optional(m) : std::nullopt;
  }
}

std::uint32_t puts_to_all(const queue_view& q) {
  std::uint32_t sum = 0;
  for (std::size_t l = 0; l < q.lanes_used(); ++l) sum += puts_to(q, l);
  return sum;
}

// Of all lanes. What was put to where it has looked already might go first: so it looks again when anything was put,
// but not for ever.
std::optional<waiting_message> first_of_all(const queue_view& q) {
  constexpr int looks_max = 8;
  for (int looks = 1;; ++looks) {
    const std::uint32_t puts = puts_to_all(q);
    const std::size_t lanes = q.lanes_used();
    std::optional<waiting_message> best;
    for (std::size_t l = 0; l < lanes; ++l)
      if (const auto m = first_of(q, l); m && (!best || m->goes_before(*best))) best = m;
    if (looks == looks_max || puts_to_all(q) == puts) return best;
  }
}

}  // namespace

std::optional<std::uint64_t> link_target(const queue_view& q, std::uint64_t at, std::uint64_t word) {
  const std::uint64_t link = word == 0 && at == 0 ? 0 : word ^ q.key;  // of a lane that nobody had yet
  if (link >> 32 != at || (link & 0xffffffff) > q.shape.slots) return std::nullopt;
  return link & 0xffffffff;
}

std::optional<held_message> take_first(const queue_view& q) {
  while (const auto m = first_of_all(q)) {
    message_slot& s = q.slot(m->lane, m->position);
    if (!take_slot(q, s, m->raw)) continue;
    if (s.bytes_end.load(std::memory_order_relaxed) != sum_of_order(q.key, m->rank, m->number)) q.damaged();
    return held_message::of(q, m->lane, m->position, q.state_of(m->raw).delivered_again());
  }
  return std::nullopt;
}

bool anything_in_order(const queue_view& q) {
  for (std::size_t l = 0; l < q.lanes_used(); ++l)
    if (first_of(q, l)) return true;
  return false;
}

bool anything_unfinished(const queue_view& q) {
  for (int senseless = 0;;) {
    const std::uint32_t puts = puts_to_all(q);
    bool makes_sense = true;
    for (std::size_t l = 0; l < q.lanes_used() && makes_sense; ++l) {
      const walk w = walk_from(q, l, 0, is_unfinished);
      if (w.at != 0) return true;
      makes_sense = w.makes_sense;
    }
    if (puts_to_all(q) != puts) return true;  // not at this instant
    if (makes_sense) return false;
    if (++senseless == 1000) q.damaged();
  }
}

void begin_anew(const queue_view& q, std::size_t l) {
  std::atomic<std::uint64_t>& begin = q.lane(l).begin;
  std::uint64_t word = begin.load(std::memory_order_relaxed);
  const auto next = [&] { return list_begin{list_begin::of(q.key, word).version + 1, 0}.word(q.key); };
  while (!begin.compare_exchange_weak(word, next(), std::memory_order_seq_cst)) {
  }
}

lane_load load_of(const queue_view& q, std::size_t l) {
  lane_load sum;
  for (std::uint64_t i = 0; i < slots_touched(q, l); ++i) {
    const message_slot& s = q.slot(l, i);
    for (std::uint64_t raw = s.state.load(std::memory_order_seq_cst);;) {
      const std::uint64_t size = s.size_and_attachments.load(std::memory_order_acquire) & size_mask;
      const std::uint64_t now = s.state.load(std::memory_order_seq_cst);
      if (std::exchange(raw, now) != now) continue;
      const slot_state state = q.state_of(now);
      if (is_late(state) || (state.kind() != slot_kind::queued && state.kind() != slot_kind::being_put)) break;
      if (size > q.shape.bytes) q.damaged();
      ++sum.items;
      sum.bytes += size;
      break;
    }
  }
  return sum;
}

}  // namespace covey::detail
