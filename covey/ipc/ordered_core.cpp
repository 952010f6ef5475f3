// Putting, getting and waiting. What happens to messages is in ordered_lists.cpp. Read docs/design/ordered_queue.md
// first.
#include <covey/ipc/ordered_core.hpp>

#include <algorithm>
#include <covey/ipc/ordered_lists.hpp>
#include <covey/memory/thread_object.hpp>
#include <new>

namespace covey::detail {
namespace {

constexpr std::size_t copied_under_lock = 4096;
constexpr std::uint64_t bytes_max = 400ULL << 30;

// A queue, locked; or not, when the limit was over before its turn came.
struct opened {
  explicit opened(const region& r, const time_limit& limit = {}) : memory(r), h(memory.header()) {
    lists.emplace(memory, limit);
    b = &lists->books();
  }
  explicit operator bool() const { return lists->locked(); }
  bool lock(const time_limit& limit = {}) { return lists.emplace(memory, limit).locked(); }

  // Without the lock, counted in `sleepers`. Whether it is locked again.
  bool sleep(std::atomic<std::uint32_t>& word, std::uint32_t& sleepers, const time_limit& limit) {
    return sleep_unlocked(
        word, sleepers, b->swept_deaths, limit, [this] { lists.reset(); }, [&] { return lock(limit); });
  }

  const ordered_memory memory;
  ordered_header& h;
  ordered_books* b = nullptr;
  std::optional<ordered_lists> lists;
};

// ---- what this thread has in hand ----------------------------------------------------------------------------------

struct in_hand {
  region queue;
  std::uint32_t descriptor = 0;
  std::uint32_t deliveries = 0;
  std::vector<std::byte> bytes{};  // a copy, once it was looked at
};

struct hand {
  std::vector<in_hand> messages;  // oldest first
  participant name = 0;           // whose: a forked child finds its parent's
  hand() = default;
  hand(const hand&) = delete;
  hand& operator=(const hand&) = delete;
  ~hand() { acknowledge_all_ordered(); }
};

std::vector<in_hand>& my_hand() {
  hand& own_hand = thread_object<hand>::get();
  if (own_hand.name != this_name()) {
    own_hand.messages.clear();
    own_hand.name = this_name();
  }
  return own_hand.messages;
}

// With what is in hand of a damaged queue nothing can be done any more, and it would keep the queue's memory.
void forget_hand_of(const region& queue) {
  std::erase_if(my_hand(), [&](const in_hand& h) { return !h.queue || h.queue == queue; });
}

void acknowledge_locked(ordered_lists& lists, std::uint32_t i) {
  if (lists.in_my_hand(i)) lists.release(i);  // else we were taken for dead
}

// What this thread has from `queue`, oldest first: done, all or only the first. Whether there was any.
bool acknowledge_some(ordered_lists& lists, const region& queue, bool all) {
  bool any = false;
  std::erase_if(my_hand(), [&](const in_hand& h) {
    if (h.queue != queue || (any && !all)) return false;
    acknowledge_locked(lists, h.descriptor);
    return any = true;
  });
  return any;
}

void into_hand(const ordered_lists& lists, const region& queue, std::uint32_t i) {
  my_hand().push_back({queue, i, static_cast<std::uint32_t>(lists.deliveries(i))});  // there is room
}

void make_room_in_hand(std::size_t n) { my_hand().reserve(my_hand().size() + n); }

in_hand& nth_in_hand(const region& queue, std::size_t n) {
  for (in_hand& h : my_hand())
    if (h.queue == queue && n-- == 0) return h;
  throw std::logic_error("covey: a message that is not in hand");
}

// ---- being put -----------------------------------------------------------------------------------------------------

struct parcel {
  explicit parcel(const queue_core::outgoing& m)
      : message(m), references(std::as_bytes(m.attachments)), size(references.size() + m.head.size() + m.bytes.size()) {
    if (m.head.empty()) return;
    joined.assign(m.head.begin(), m.head.end());
    joined.insert(joined.end(), m.bytes.begin(), m.bytes.end());
  }
  [[nodiscard]] std::span<const std::byte> rest() const { return joined.empty() ? message.bytes : joined; }

  const queue_core::outgoing& message;
  std::span<const std::byte> references;
  std::vector<std::byte> joined{};
  std::uint64_t size;
};

void throw_if_refused(std::uint32_t flags) {
  if ((flags & flag_closed) != 0) throw queue_closed();
  if ((flags & flag_readers_lost) != 0) throw no_consumers();
}

// Copies without the lock. False: closed meanwhile, and readers may have been told of the end already.
bool fill_unlocked(opened& q, std::uint32_t i, const parcel& p) {
  q.lists->unlock();
  q.lists->copy_in(i, p.references, p.rest());
  try {
    if (!p.references.empty()) attach(q.memory.id, q.memory.descriptor(i).references, p.message.attachments);
  } catch (...) {
    q.lock();
    q.lists->release(i);
    throw;
  }
  q.lock();
  return (q.lists->flags() & flag_closed) == 0;
}

}  // namespace

bool ordered_core::put(const outgoing& message, std::uint64_t rank, const deadline& until,
                       const stop_word* stop) const {
  const parcel p(message);
  const time_limit limit{until, stop};
  opened q(region_, limit);
  if (p.size > q.memory.shape.bytes)
    throw std::length_error("covey: a message of " + std::to_string(p.size) + " bytes is larger than its queue");
  std::uint32_t i = nothing;
  for (bool locked = bool{q};; locked = q.sleep(q.h.writable, q.b->sleeping_writers, limit)) {
    if (!locked) return false;
    throw_if_refused(q.lists->flags());
    if ((i = q.lists->reserve(p.size, message.attachments.size())) != nothing) break;
    if (limit.over()) return false;
  }
  const std::uint64_t sum = payload_sum_of(q.memory, p.references, p.rest());
  if (p.size <= copied_under_lock && p.references.empty()) {
    q.lists->copy_in(i, {}, p.rest());
  } else if (!fill_unlocked(q, i, p)) {
    q.lists->release(i);
    throw queue_closed();
  }
  q.lists->commit(i, rank, sum);
  return true;
}

ordered_core::several ordered_core::get_many(std::size_t n, const deadline& until, const stop_word* stop) const try {
  const time_limit limit{until, stop};
  opened q(region_, limit);
  if (!q) return {};
  n = std::min<std::size_t>(n, q.memory.shape.items);
  make_room_in_hand(n);
  acknowledge_some(*q.lists, region_, true);
  for (bool spun = false;;) {
    const std::uint32_t flags = q.lists->flags();
    if (q.lists->queued() != 0 && (flags & flag_discarded) == 0) break;
    if ((flags & flag_closed) != 0) return {get_result::ended};
    if ((flags & flag_writers_lost) != 0 && q.lists->idle()) {
      if ((flags & flag_writer_died) != 0) throw no_producers();
      return {get_result::ended};
    }
    if (limit.over()) return {};
    if (std::exchange(spun, !spun)) {
      if (!q.sleep(q.h.readable, q.b->sleeping_readers, limit)) return {};
      continue;
    }
    q.lists->unlock();
    spin_until([&] { return size_approx() != 0; });
    if (!q.lock(limit)) return {};  // else look at everything again
  }
  std::size_t count = 0;
  for (; count < n && q.lists->queued() != 0; ++count) into_hand(*q.lists, region_, q.lists->take());
  return {get_result::got, count};
} catch (const queue_damaged&) {
  forget_hand_of(region_);
  throw;
}

void ordered_core::look_at(std::size_t n, incoming& out) const try {
  in_hand& h = nth_in_hand(region_, n);
  const ordered_memory memory(region_);
  const ordered_lists lists(memory);
  lists.copy_out(h.descriptor, h.bytes);
  out.bytes = std::span(h.bytes).subspan(lists.references_in(h.descriptor) * sizeof(std::uint64_t));
  out.deliveries = h.deliveries;
} catch (const queue_damaged&) {
  forget_hand_of(region_);
  throw;
}

ordered_core::get_result ordered_core::get(incoming& out, const deadline& until, const stop_word* stop) const {
  const get_result result = get_many(1, until, stop).result;
  if (result != get_result::got) return result;
  try {
    look_at(0, out);
  } catch (const std::bad_alloc&) {
    drop_one_put_back_others(none);  // somebody else may have memory
    throw;
  }
  return result;
}

bool ordered_core::get_failed(incoming& out) const try {
  {
    opened q(region_);
    make_room_in_hand(1);
    acknowledge_some(*q.lists, region_, true);
    const std::uint32_t i = q.lists->take_failed();
    if (i == nothing) return false;
    into_hand(*q.lists, region_, i);
  }
  look_at(0, out);
  return true;
} catch (const queue_damaged&) {
  forget_hand_of(region_);
  throw;
}

std::size_t ordered_core::failed() const { return opened(region_).b->failed; }

bool ordered_core::acknowledge() const try {
  opened q(region_);
  return acknowledge_some(*q.lists, region_, false);
} catch (const queue_damaged&) {
  forget_hand_of(region_);
  throw;
}

void ordered_core::drop_one_put_back_others(std::size_t n) const try {
  opened q(region_);
  std::erase_if(my_hand(), [&](const in_hand& h) {
    if (h.queue != region_) return false;
    const bool dropped = n-- == 0;
    if (dropped) acknowledge_locked(*q.lists, h.descriptor);
    if (!dropped && q.lists->in_my_hand(h.descriptor)) q.lists->put_back(h.descriptor);
    return true;
  });
} catch (const queue_damaged&) {
  forget_hand_of(region_);
  throw;
}

bool ordered_core::join(const deadline& until, const stop_word* stop) const {
  const time_limit limit{until, stop};
  opened q(region_, limit);
  for (bool locked = bool{q};; locked = q.sleep(q.h.idle, q.b->sleeping_joiners, limit)) {
    if (!locked) return false;
    if (q.lists->idle()) return true;
    if ((q.lists->flags() & flag_readers_lost) != 0) throw no_consumers();
    if (limit.over()) return false;
  }
}

void ordered_core::close(close_mode mode) const {
  opened q(region_);
  const bool discard = mode == close_mode::discard;
  change_flags(q.h.flags, region_.id(), discard ? flag_closed | flag_discarded : flag_closed, 0);
  if (discard) q.lists->discard();
  q.lists->wake_all();
}

bool ordered_core::ready() const {
  try {
    const opened q(region_, {.until = std::chrono::steady_clock::now()});
    if (!q) return false;
    const std::uint32_t flags = q.lists->flags();
    if ((flags & flag_closed) != 0 || q.lists->queued() != 0) return true;
    if ((flags & flag_writers_lost) == 0) return false;
    return q.lists->idle() || std::ranges::any_of(my_hand(), [&](const in_hand& h) { return h.queue == region_; });
  } catch (const queue_damaged&) {
    return true;  // get() says so
  }
}

wait_word ordered_core::arm() const { return reinterpret_cast<ordered_header*>(region_.data())->pollers.arm(); }

bool ordered_core::closed() const { return (ordered_memory(region_).flags() & flag_closed) != 0; }
std::size_t ordered_core::size() const { return opened(region_).lists->queued(); }

std::size_t ordered_core::size_approx() const noexcept {
  if (!region_) return 0;  // moved from
  auto& h = *reinterpret_cast<ordered_header*>(region_.data());
  return std::atomic_ref(h.locked.books.queued).load(std::memory_order_relaxed);
}

std::size_t ordered_core::capacity() const noexcept {
  return region_ ? reinterpret_cast<const ordered_header*>(region_.data())->shape.items : 0;
}

void ordered_core::take_role(queue_role role) const { enter_role(ordered_memory(region_).roles(), role); }

void ordered_core::leave_role(queue_role role) const noexcept {
  if (!family.takes_part) return;  // forked past covey: it is the parent's
  try {
    if (leave_role_of(ordered_memory(region_).roles(), role)) opened(region_).lists->wake_all();
  } catch (...) {
    // The queue is damaged: there is nobody left to tell.
  }
}

void acknowledge_all_ordered() noexcept {
  if (!family.takes_part) return;  // forked past covey: it is in the parent's hand
  hand* const own = thread_object<hand>::if_made();
  if (own == nullptr || own->name != thread_name) return;
  for (const in_hand& h : std::exchange(own->messages, {})) try {
      opened q(h.queue);
      acknowledge_locked(*q.lists, h.descriptor);
    } catch (...) {
      // Not acknowledged: it is delivered again, which is what its policy promises anyway.
    }
}

// ---- making --------------------------------------------------------------------------------------------------------

ordered_core::ordered_core(const queue_options& options, queue_order order) {
  if (options.items == 0 || options.items > (1U << 24))
    throw std::invalid_argument("covey: a queue holds 1 to 16 million items");
  if (options.bytes == 0 || options.bytes > bytes_max)
    throw std::invalid_argument("covey: a queue holds 1 byte to 400 GiB");
  if (options.deliveries_max > 126) throw std::invalid_argument("covey: a queue counts at most 126 deliveries");
  ordered_shape s;
  s.items = options.items;
  s.bytes = options.bytes;
  s.descriptors = options.items + std::max<std::size_t>(64, options.items / 4);  // some are in flight
  s.blocks = 2 * blocks_for(options.bytes) + s.descriptors;
  s.deliveries_max = options.deliveries_max;
  s.on_death = options.on_death;
  s.order = order;
  region_ = ordered_memory::make(s);
}

ordered_core ordered_core::decode(decoder& in, queue_order order) {
  ordered_core core(region::decode(in, region_kind::ordered_queue));
  if (!is_damaged(core.region_.id()) && ordered_memory(core.region_).shape.order != order)
    throw bad_message("covey: a queue of another order");
  return core;
}

}  // namespace covey::detail
