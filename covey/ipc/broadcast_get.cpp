// Subscribing and getting. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_core.hpp>

#include <covey/ipc/broadcast_side.hpp>
#include <covey/ipc/queue_waits.hpp>

namespace covey::detail {
namespace {

using presence = broadcast_memory::presence;

}  // namespace

// The entry first, then the number: what is committed after the entry stays until this subscription has it. Until the
// entry says that its cursor is its own, others take it for one that has got nothing.
subscription_core broadcast_core::subscribe() const {
  broadcast_messages& messages = side_of_broadcast(region_).messages;
  const broadcast_memory& m = messages.m;
  region own({.bytes = page_bytes, .committed = 0, .kind = region_kind::subscription});
  for (std::uint32_t slot = 0; slot < m.shape.subscriptions; ++slot) {
    broadcast_subscription& s = m.subscription(slot);
    std::uint64_t before = s.region.load(std::memory_order_acquire);
    bool taken = false;
    while (!taken && (before == 0 || !is_held_by_somebody(before)))
      taken = s.region.compare_exchange_strong(before, own.id(), std::memory_order_seq_cst);
    if (!taken) continue;
    s.missed.store(0, std::memory_order_relaxed);
    s.cursor.store(m.cursor_word(m.next_number()), std::memory_order_seq_cst);
    s.ready.store(own.id(), std::memory_order_seq_cst);
    m.header().writers.wake();
    messages.release_passed();
    return {region_, std::move(own), slot};
  }
  throw std::length_error("covey: a broadcast has no room for more than " + std::to_string(m.shape.subscriptions) +
                          " subscribers");
}

subscription_core& subscription_core::operator=(subscription_core other) noexcept {
  std::swap(broadcast_, other.broadcast_);
  std::swap(own_, other.own_);
  std::swap(slot_, other.slot_);
  return *this;
}

// Waits for the keeper, so that who comes after finds it gone.
subscription_core::~subscription_core() {
  if (!own_ || !family.takes_part) return;
  own_ = region();
  try {
    (void)ask_keeper(keeper_op::sync, {});
    side_of_broadcast(broadcast_).messages.sweep_if_needed();
  } catch (...) {
    // The broadcast is damaged, or this program's keeper is gone: there is nobody left to tell.
  }
}

namespace {

// What a subscription's holder works with, checked anew each time.
struct listening {
  listening(const region& broadcast, const region& own, std::uint32_t slot)
      : messages(side_of_broadcast(broadcast).messages), m(messages.m), h(m.header()), s(m.subscription(slot)) {
    if (s.region.load(std::memory_order_acquire) != own.id()) m.damaged();
  }

  // Whether a message is there, copied. Throws too_slow.
  bool copy_next(subscription_core::copied& out) {
    std::optional<std::uint64_t> number;
    while ((number = find(out.cursor))) {
      if (!messages.copy_out(*number, out.bytes, out.attachments)) continue;
      out.number = *number;
      return true;
    }
    return false;
  }

  // The number of the first message that this subscription has not got. Throws too_slow.
  std::optional<std::uint64_t> find(std::uint64_t& cursor) {
    cursor = s.cursor.load(std::memory_order_seq_cst);
    for (std::uint64_t number = m.number_in(cursor);;) {
      const auto found = m.look(number);
      if (found.is == presence::here) return number;
      if (found.is == presence::not_yet || found.is == presence::end) return std::nullopt;
      if (!overtaken(cursor)) return std::nullopt;
      number = found.next;
    }
  }

  // A message that was not got is gone: whether to go on with the next. Throws too_slow.
  bool overtaken(std::uint64_t& cursor) {
    if (m.shape.when_slow == slow_subscriber::lag) return true;
    if ((m.flags() & flag_discarded) != 0) return false;
    const std::uint64_t now = s.cursor.load(std::memory_order_seq_cst);
    if (now == cursor && m.shape.when_slow == slow_subscriber::drop) throw too_slow();
    if (now == cursor) m.damaged();
    return true;  // another holder has it
  }

  broadcast_messages& messages;
  const broadcast_memory& m;
  broadcast_header& h;
  broadcast_subscription& s;
};

}  // namespace

subscription_core::get_result subscription_core::next(copied& out, const deadline& until, const stop_word* stop) const {
  listening l(broadcast_, own_, slot_);
  poll_sleeper waits(l.h.readers);
  for (bool spun = false;;) {
    const std::uint32_t deaths = deaths_seen();
    if (is_damaged(l.m.id)) throw queue_damaged();
    const std::uint32_t flags = l.m.flags();
    if ((flags & flag_discarded) != 0) return get_result::ended;
    if ((flags & flag_closed) != 0) l.messages.put_end();  // before the look: nothing is committed after it
    if (l.copy_next(out)) return get_result::got;
    if ((flags & flag_closed) != 0) return get_result::ended;
    l.messages.sweep_if_needed();
    if (out_of_time(until, stop)) return get_result::not_now;
    if (!std::exchange(spun, true)) {
      const auto& place = l.m.place(l.m.number_in(out.cursor)).word;
      const std::uint64_t seen = place.load(std::memory_order_relaxed);
      spin_until([&] { return place.load(std::memory_order_relaxed) != seen; });
      continue;
    }
    if (waits.arm()) continue;
    waits.sleep(deaths, until, stop);
    spun = false;
  }
}

bool subscription_core::take(const copied& message) const {
  const listening l(broadcast_, own_, slot_);
  // What it names may have gone with it before it was held here.
  if (message.attachments != 0 && l.m.look(message.number).is != presence::here) return false;
  std::uint64_t cursor = message.cursor;
  if (!l.s.cursor.compare_exchange_strong(cursor, l.m.cursor_word(message.number + 1), std::memory_order_seq_cst))
    return false;
  const std::uint64_t skipped = message.number - l.m.number_in(message.cursor);
  if (skipped != 0) l.s.missed.fetch_add(skipped, std::memory_order_relaxed);
  l.h.writers.wake();
  if (message.attachments != 0 && message.number < l.m.least_cursor()) l.messages.release(message.number);
  return true;
}

std::uint64_t subscription_core::missed() const {
  return listening(broadcast_, own_, slot_).s.missed.load(std::memory_order_relaxed);
}

bool subscription_core::closed() const { return (broadcast_memory(broadcast_).flags() & flag_closed) != 0; }

bool subscription_core::ready() const {
  try {
    listening l(broadcast_, own_, slot_);
    std::uint64_t cursor = 0;
    return (l.m.flags() & flag_closed) != 0 || l.find(cursor).has_value();
  } catch (const queue_damaged&) {
    return true;  // get() says so
  } catch (const too_slow&) {
    return true;
  }
}

wait_word subscription_core::arm() const {
  return reinterpret_cast<broadcast_header*>(broadcast_.data())->readers.arm();
}

void subscription_core::encode(encoder& out) const {
  broadcast_.encode(out);
  own_.encode(out);
  detail::encode(out, slot_);
}

subscription_core subscription_core::decode(decoder& in) {
  region broadcast = region::decode(in, region_kind::broadcast);
  region own = region::decode(in, region_kind::subscription);
  const auto slot = detail::decode<std::uint32_t>(in);
  if (!broadcast || !own) throw bad_message("covey: a subscriber of nothing");
  return {std::move(broadcast), std::move(own), slot};
}

}  // namespace covey::detail
