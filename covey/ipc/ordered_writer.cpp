// The owner's thread alone runs what is here; others see what it stores. Read docs/design/ordered_queue.md first.
#include <covey/ipc/ordered_writer.hpp>

#include <algorithm>
#include <covey/ipc/ordered_lanes.hpp>
#include <iterator>
#include <new>
#include <utility>
#include <vector>

namespace covey::detail {

// ---- owning a lane -------------------------------------------------------------------------------------------------

ordered_writer::ordered_writer(const queue_view& q) : lane_owner(q) {
  recover_lane(q_, lane_);
  puts_ = gate_tail(q_.lane(lane_).gate.load(std::memory_order_relaxed));
  hurry();  // of what the former owner left when, this one knows nothing
  slots_used_ = slots_touched(q_, lane_);
  adopt();
}

// Of each slot whether it is in the list, in which order, and what else is free.
void ordered_writer::adopt() {
  std::vector<bool> is_listed(slots_used_);
  auto next = link_target(q_, 0, q_.lane(lane_).first.load(std::memory_order_relaxed));
  while (next && *next != 0) {
    const std::uint64_t index = *next - 1;
    if (index >= slots_used_ || is_listed[index]) q_.damaged();
    is_listed[index] = true;
    const order_node& node = q_.node(lane_, index);
    const order o{node.rank.load(std::memory_order_relaxed), node.number.load(std::memory_order_relaxed)};
    if (!list_.empty() && o <= list_.rbegin()->first) q_.damaged();
    const message_slot& s = q_.slot(lane_, index);
    list_.emplace_hint(list_.end(), o,
                       listed{.index = index,
                              .position = s.position.load(std::memory_order_relaxed),
                              .size = s.size_and_attachments.load(std::memory_order_relaxed) & size_mask});
    next = link_target(q_, index + 1, node.next.load(std::memory_order_relaxed));
  }
  if (!next) q_.damaged();
  for (std::uint64_t i = 0; i < slots_used_; ++i) {
    if (is_listed[i]) continue;
    const slot_state s = q_.state_of(q_.slot(lane_, i).state.load(std::memory_order_acquire));
    const bool is_fresh = s.kind() == slot_kind::fresh;
    if (!is_fresh && (s.kind() != slot_kind::free || (s.position() & (q_.shape.slots - 1)) != i)) q_.damaged();
    free_.push_back({i, is_fresh ? i : s.position() + q_.shape.slots, puts_ - puts_before_reuse});
  }
  look(list_.size());
}

// ---- room ----------------------------------------------------------------------------------------------------------

bool ordered_writer::fits_now(const parcel& p, std::uint64_t gate) const noexcept {
  const need n = need_for(p);
  return n.items <= gate_quota(gate) &&
         n.bytes <= quota_in_bytes(q_.lane(lane_).bytes_quota.load(std::memory_order_relaxed));
}

// Takers take what goes first: there is room soon, if there is any.
bool ordered_writer::has_room(const parcel& p, std::uint64_t gate) {
  constexpr std::size_t a_few = 16;
  if (!fits_now(p, gate)) look(a_few);
  return fits_now(p, gate);
}

// A message that was taken may have got others before it since then.
bool ordered_writer::has_room_anywhere(const parcel& p, std::uint64_t gate) {
  if (!fits_now(p, gate)) look(list_.size());
  return fits_now(p, gate);
}

bool ordered_writer::might_have_room() const noexcept {
  if (list_.empty()) return true;
  const listed& m = list_.begin()->second;
  return q_.slot(lane_, m.index).state.load(std::memory_order_relaxed) !=
         q_.raw(slot_state::at(slot_kind::queued, m.position, 0));
}

// Those that are gone make walks long: when there may be as many of them as there are others, they leave the list.
void ordered_writer::tidy_up() {
  constexpr std::size_t a_few = 64;
  if (list_.size() < tidy_at_) return;
  look(list_.size());
  tidy_at_ = 2 * list_.size() + a_few;
}

// Which messages still wait, from the first on, until so many in a row do. Those that are gone leave the list.
void ordered_writer::look(std::size_t until_so_many_wait) {
  bool any_left = false;
  std::size_t in_a_row = 0;
  for (auto it = list_.begin(); it != list_.end() && in_a_row < until_so_many_wait;) {
    listed& m = it->second;
    const slot_state s = q_.state_of(q_.slot(lane_, m.index).state.load(std::memory_order_acquire));
    const bool has_position = s.kind() != slot_kind::in_flight;
    if (s.kind() == slot_kind::fresh || s.kind() == slot_kind::being_put ||
        (has_position && s.position() != m.position))
      q_.damaged();
    set_waiting(m, s.kind() == slot_kind::queued && !is_late(s));
    in_a_row = m.waits ? in_a_row + 1 : 0;
    const bool leaves = s.kind() == slot_kind::free && unlist(std::exchange(it, std::next(it)));
    if (s.kind() != slot_kind::free) ++it;
    any_left = any_left || leaves;
  }
  if (any_left) begin_anew(q_, lane_);  // before its slot is used again
}

void ordered_writer::set_waiting(listed& m, bool waits) noexcept {
  if (m.waits == waits) return;
  m.waits = waits;
  waiting_.items += waits ? 1 : -1ULL;
  waiting_.bytes += waits ? m.size : -m.size;
}

// ---- slots ---------------------------------------------------------------------------------------------------------

bool ordered_writer::has_slot() {
  if (free_.empty() && slots_used_ == q_.shape.slots) look(list_.size());
  return !free_.empty() || slots_used_ < q_.shape.slots;
}

// One that nobody who walks the list stands on.
std::optional<ordered_writer::free_slot> ordered_writer::next_slot() {
  if (!has_slot()) return std::nullopt;
  const bool may_be_new = slots_used_ < q_.shape.slots;
  const bool may_be_used = !free_.empty() && (puts_ - free_.front().left >= puts_before_reuse || !may_be_new);
  if (may_be_used) {
    if (puts_ - free_.front().left < puts_before_reuse) hurry();
    const free_slot slot = free_.front();
    free_.pop_front();
    return slot;
  }
  commit_slot(slots_used_);
  q_.lane(lane_).slots_used.store(slots_used_ + 1, std::memory_order_release);
  return free_slot{slots_used_, slots_used_++, puts_};
}

// As if so many had been put: who walks the list begins again.
void ordered_writer::hurry() {
  std::atomic<std::uint64_t>& word = q_.lane(lane_).gate;
  std::uint64_t gate = word.load(std::memory_order_relaxed);
  while (
      !word.compare_exchange_weak(gate, gate_with_tail(gate, puts_ + puts_before_reuse), std::memory_order_seq_cst)) {
  }
  puts_ += puts_before_reuse;
}

void ordered_writer::commit_slot(std::uint64_t index) {
  constexpr std::uint64_t at_once = 2048;
  if (index < slots_committed_) return;
  const std::uint64_t begin = index / at_once * at_once;  // what was committed before, may be again
  const std::uint64_t count = std::min(at_once, q_.shape.slots - begin);
  commit_pages(reinterpret_cast<const std::byte*>(&q_.slot(lane_, begin)), count * sizeof(message_slot)).value();
  commit_pages(reinterpret_cast<const std::byte*>(&q_.node(lane_, begin)), count * sizeof(order_node)).value();
  slots_committed_ = begin + count;
}

void ordered_writer::give_slot_back(const free_slot& slot) {
  q_.slot(lane_, slot.index)
      .state.store(q_.raw(slot_state::at(slot_kind::free, slot.position)), std::memory_order_release);
  free_.push_front({slot.index, slot.position + q_.shape.slots, slot.left});
}

// ---- the list ------------------------------------------------------------------------------------------------------

void ordered_writer::link(std::uint64_t at, std::uint64_t to) {
  auto& word = at == 0 ? q_.lane(lane_).first : q_.node(lane_, at - 1).next;
  word.store(link_word(q_.key, at, to), std::memory_order_release);
}

std::uint64_t ordered_writer::before(listed_messages::const_iterator it) const {
  return it == list_.begin() ? 0 : std::prev(it)->second.index + 1;
}

std::uint64_t ordered_writer::after(listed_messages::const_iterator it) const {
  return std::next(it) == list_.end() ? 0 : std::next(it)->second.index + 1;
}

// One store; who stands on the slot finds its way on from there. False: there is no private memory for it, another
// time.
bool ordered_writer::unlist(listed_messages::iterator it) {
  try {
    free_.push_back({it->second.index, it->second.position + q_.shape.slots, puts_});
  } catch (const std::bad_alloc&) {
    return false;
  }
  link(before(it), after(it));
  list_.erase(it);
  return true;
}

// From the slot on first: then one store puts it into the list.
void ordered_writer::list(listed_messages::const_iterator it) {
  const std::uint64_t me = it->second.index + 1;
  link(me, after(it));
  link(before(it), me);
}

// Those that are gone, right behind what was just listed: else whoever takes it walks over them, after each put anew.
// show() comes before their slots are used again.
void ordered_writer::unlist_those_behind(listed_messages::iterator it) {
  constexpr int several = 8;
  for (int n = 0; n < several && std::next(it) != list_.end(); ++n) {
    listed& m = std::next(it)->second;
    const std::uint64_t gone = q_.raw(slot_state::at(slot_kind::free, m.position));
    if (q_.slot(lane_, m.index).state.load(std::memory_order_acquire) != gone) return;
    set_waiting(m, false);
    if (!unlist(std::next(it))) return;
  }
}

// Who walks must not begin behind what was just put; and what takers are about to say of where to begin was found
// before it: so the word is another now, always.
void ordered_writer::show(const order& o, std::uint64_t index) {
  std::atomic<std::uint64_t>& begin = q_.lane(lane_).begin;
  std::uint64_t word = begin.load(std::memory_order_relaxed);
  for (;;) {
    auto [version, at] = list_begin::of(q_.key, word);
    if (at > q_.shape.slots) q_.damaged();
    if (at != 0) {
      const order_node& node = q_.node(lane_, at - 1);
      const order there{node.rank.load(std::memory_order_relaxed), node.number.load(std::memory_order_relaxed)};
      if (o < there) at = index + 1;
    }
    if (begin.compare_exchange_weak(word, list_begin{version + 1, at}.word(q_.key), std::memory_order_seq_cst)) return;
  }
}

// ---- publishing ----------------------------------------------------------------------------------------------------

// From the first store of a state on the message counts for who takes quota away: he lowers the quota first, and then
// looks what waits here. False: he has come first.
bool ordered_writer::reserve_slot(const free_slot& slot, const parcel& p, std::uint64_t gate) {
  lane_control& lane = q_.lane(lane_);
  message_slot& s = q_.slot(lane_, slot.index);
  const slot_state was = q_.state_of(s.state.load(std::memory_order_acquire));
  const bool is_ours = slot.position < q_.shape.slots
                           ? was.kind() == slot_kind::fresh
                           : was == slot_state::at(slot_kind::free, slot.position - q_.shape.slots);
  if (!is_ours) q_.damaged();
  forget_former(s);
  s.position.store(slot.position, std::memory_order_relaxed);
  s.size_and_attachments.store(p.size | std::uint64_t{p.references.size()} << 40, std::memory_order_relaxed);
  s.state.exchange(q_.raw(slot_state::put_by(this_name())), std::memory_order_seq_cst);
  if (!lane.gate.compare_exchange_strong(gate, gate_with_tail(gate, puts_ + 1), std::memory_order_seq_cst))
    return false;
  ++puts_;
  return need_for(p).bytes <= quota_in_bytes(lane.bytes_quota.load(std::memory_order_seq_cst));
}

void ordered_writer::attach_to(const free_slot& slot, std::span<const std::uint64_t> references) {
  with_references_ = true;
  const std::uint64_t number = message_number(lane_, slot.position);
  try {
    attach(q_.id, number, references);
  } catch (...) {
    detach(q_.id, number);
    throw;
  }
}

std::optional<std::uint64_t> ordered_writer::publish(const parcel& p) {
  tidy_up();
  while (has_room(p, gate_now())) {
    const auto slot = next_slot();
    if (!slot) return std::nullopt;
    const std::uint64_t number = q_.header().next_number.fetch_add(1, std::memory_order_relaxed) + 1;
    const order o{q_.shape.order == queue_order::newest_first ? ~number : p.rank, number};
    try {
      if (publish_in(*slot, o, p)) return slot->position;
    } catch (...) {
      list_.erase(o);
      give_slot_back(*slot);
      throw;
    }
    list_.erase(o);
    give_slot_back(*slot);
  }
  return std::nullopt;
}

bool ordered_writer::publish_in(const free_slot& slot, const order& o, const parcel& p) {
  const auto [it, is_new] = list_.emplace(o, listed{.index = slot.index, .position = slot.position, .size = p.size});
  if (!is_new) q_.damaged();  // whose numbers come again
  const std::uint64_t gate = gate_now();
  if (!fits_now(p, gate) || !reserve_slot(slot, p, gate)) return false;
  if (!p.references.empty()) attach_to(slot, p.references);
  message_slot& s = q_.slot(lane_, slot.index);
  fill(s, slot.position, sum_of_order(q_.key, o.first, o.second), p);
  order_node& node = q_.node(lane_, slot.index);
  node.rank.store(o.first, std::memory_order_relaxed);
  node.number.store(o.second, std::memory_order_relaxed);
  list(it);
  unlist_those_behind(it);
  extent_has(p, slot.position);
  set_waiting(it->second, true);
  s.state.exchange(q_.raw(slot_state::at(slot_kind::queued, slot.position)), std::memory_order_seq_cst);  // the commit
  show(o, slot.index);
  return true;
}

}  // namespace covey::detail
