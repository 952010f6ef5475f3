// Every change of a descriptor's state is one store; all else can be rebuilt. Read docs/design/queue.md first.
#include <covey/ipc/queue_core.hpp>

#include <algorithm>
#include <array>
#include <climits>
#include <covey/ipc/queue_layout.hpp>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <tuple>

namespace covey::detail {
namespace {

constexpr std::size_t copied_under_lock = 4096;
constexpr std::size_t commit_step_blocks = (256U << 10) / block_bytes;

constexpr std::uint64_t bytes_max = 990ULL << 30;
static_assert(bytes_max / block_payload < nothing);

constexpr std::uint32_t blocks_for(std::size_t bytes) {
  return static_cast<std::uint32_t>((bytes + block_payload - 1) / block_payload);
}

constexpr std::uint64_t whole(std::uint64_t n, std::uint64_t unit) { return (n + unit - 1) / unit * unit; }

// ---- lists under the lock ------------------------------------------------------------------------------------------

class locked_queue {
 public:
  locked_queue(const region& r, queue_memory& m) : region_(r), m_(m), h_(m.header) {
    if (h_.lock.lock(lock_word::unrepaired_lock::take) == lock_word::outcome::unrepaired) {
      try {
        rebuild();
      } catch (...) {
        h_.lock.unlock_unrepaired();
        throw;
      }
    }
    locked_ = true;
    if (h_.swept_deaths != deaths_seen()) sweep_or_unlock();
  }
  locked_queue(const locked_queue&) = delete;
  locked_queue& operator=(const locked_queue&) = delete;
  ~locked_queue() {
    if (locked_) unlock();
  }

  void unlock() {
    locked_ = false;
    h_.lock.unlock();
    // After the lock: the woken would only wait for it. A wake that is owed when we die here comes from `deaths`.
    if (wake_reader_) unpark(h_.readable, wake_reader_);
    if (wake_writer_) unpark(h_.writable, wake_writer_);
    if (wake_joiner_) unpark(h_.idle, INT_MAX);
  }

  void readers_may_look(int how_many) {
    if (h_.sleeping_readers == 0) return;
    h_.sleeping_readers = how_many == 1 ? h_.sleeping_readers - 1 : 0;
    h_.readable.fetch_add(1, std::memory_order_relaxed);
    wake_reader_ = one_more_or_all(wake_reader_, how_many);
  }
  void writers_may_look(int how_many) {
    if (h_.sleeping_writers == 0) return;
    h_.sleeping_writers = how_many == 1 ? h_.sleeping_writers - 1 : 0;
    h_.writable.fetch_add(1, std::memory_order_relaxed);
    wake_writer_ = one_more_or_all(wake_writer_, how_many);
  }
  void joiners_may_look() {
    if (h_.sleeping_joiners == 0 || h_.queued.load(std::memory_order_relaxed) + h_.reserved + h_.in_flight != 0) return;
    h_.sleeping_joiners = 0;
    h_.idle.fetch_add(1, std::memory_order_relaxed);
    wake_joiner_ = true;
  }

  /// A descriptor and blocks for `size` bytes, reserved to this thread; `nothing` when there is no room now.
  std::uint32_t reserve(std::size_t size) {
    if (h_.queued.load(std::memory_order_relaxed) + h_.reserved >= h_.items_max || h_.free_descriptors == nothing)
      return nothing;
    const std::uint32_t wanted = blocks_for(size);
    if (wanted > h_.free_block_count + (h_.block_count - h_.blocks_used)) return nothing;
    commit_for(wanted);
    const std::uint32_t i = h_.free_descriptors;
    message_descriptor& d = m_.descriptor(i);
    h_.free_descriptors = d.next;
    d.size = size;
    d.attachments = 0;
    d.deliveries = 0;
    d.first_block = nothing;
    d.state.store(message_state(message_kind::reserved, this_name()), std::memory_order_release);
    ++h_.reserved;
    for (std::uint32_t b = 0; b < wanted; ++b) {
      const std::uint32_t taken = take_block();
      m_.next_block(taken) = d.first_block;
      d.first_block = taken;
    }
    return i;
  }

  /// reserved → queued.
  void commit(std::uint32_t i) {
    message_descriptor& d = m_.descriptor(i);
    d.sequence = ++h_.next_sequence;
    d.state.store(message_state(message_kind::queued, 0), std::memory_order_release);
    --h_.reserved;
    append(i);
    readers_may_look(1);
  }

  /// queued → in flight, the oldest. The queue is not empty.
  std::uint32_t take() {
    const std::uint32_t i = h_.oldest;
    message_descriptor& d = m_.descriptor(i);
    h_.oldest = d.next;
    if (h_.oldest == nothing) h_.newest = nothing;
    h_.queued.fetch_sub(1, std::memory_order_relaxed);
    ++h_.in_flight;
    ++d.deliveries;
    d.state.store(message_state(message_kind::in_flight, this_name()), std::memory_order_release);
    writers_may_look(1);
    return i;
  }

  /// any → free, and gives back the references that it holds.
  void release(std::uint32_t i) {
    message_descriptor& d = m_.descriptor(i);
    const std::vector<std::uint64_t> references = references_of(i);
    const message_kind was = kind_of(d.state.load(std::memory_order_relaxed));
    if (was == message_kind::reserved) --h_.reserved;
    if (was == message_kind::in_flight) --h_.in_flight;
    std::uint32_t b = d.first_block;
    d.state.store(message_state(message_kind::free, 0), std::memory_order_release);
    // After the store: who dies between the two leaves references until the queue's end. The other way round the next
    // one would give them back again, and take them from another message.
    carry(region_.id(), references, -1);
    d.first_block = nothing;
    for (std::uint32_t n = 0; b != nothing && n < h_.block_count; ++n) {
      const std::uint32_t next = m_.next_block(b);
      give_block(b);
      b = next;
    }
    d.next = h_.free_descriptors;
    h_.free_descriptors = i;
    writers_may_look(INT_MAX);  // one may wait for an item, another for bytes
    joiners_may_look();
    if (drained_of_lost_writers()) readers_may_look(INT_MAX);  // they waited for what this message might become
  }

  /// Nothing waits, and nothing will come: the writers are gone, and what was in hand is done.
  bool drained_of_lost_writers() const {
    return h_.writers_lost != 0 && h_.queued.load(std::memory_order_relaxed) + h_.in_flight + h_.reserved == 0;
  }

  /// Whether `i` is in the hand of this thread: nobody has swept it away.
  bool in_my_hand(std::uint32_t i) const {
    return m_.descriptor(i).state.load(std::memory_order_relaxed) ==
           message_state(message_kind::in_flight, this_name());
  }

  /// in flight → queued, at its old place: nobody saw it.
  void put_back(std::uint32_t i) {
    m_.descriptor(i).state.store(message_state(message_kind::queued, 0), std::memory_order_release);
    --h_.in_flight;
    insert_by_sequence(i);
    readers_may_look(1);
  }

  void discard_queued() {
    while (h_.oldest != nothing) {
      const std::uint32_t i = h_.oldest;
      message_descriptor& d = m_.descriptor(i);
      h_.oldest = d.next;
      h_.queued.fetch_sub(1, std::memory_order_relaxed);
      d.state.store(message_state(message_kind::reserved, this_name()), std::memory_order_release);
      ++h_.reserved;
      release(i);
    }
    h_.newest = nothing;
  }

  void copy_in(std::uint32_t i, const std::byte* data, std::size_t size) const {
    std::uint32_t b = m_.descriptor(i).first_block;
    while (size > 0) {
      const std::size_t n = std::min(size, block_payload);
      std::memcpy(m_.block(b), data, n);
      data += n;
      size -= n;
      b = m_.next_block(b);
    }
  }

  void copy_out(std::uint32_t i, std::vector<std::byte>& out) const {
    const std::uint64_t size = m_.descriptor(i).size;
    if (size > std::uint64_t{h_.block_count} * block_payload) throw queue_damaged();
    out.resize(size);
    copy_beginning(i, out);
  }

 private:
  void copy_beginning(std::uint32_t i, std::span<std::byte> out) const {
    std::uint32_t b = m_.descriptor(i).first_block;
    for (std::size_t done = 0; done < out.size(); done += block_payload) {
      std::memcpy(out.data() + done, m_.block(b), std::min(out.size() - done, block_payload));
      b = m_.next_block(b);
    }
  }

  // The regions that message `i` names: its payload begins with their ids.
  std::vector<std::uint64_t> references_of(std::uint32_t i) const {
    const message_descriptor& d = m_.descriptor(i);
    const std::uint64_t count = d.attachments;
    if (count * sizeof(std::uint64_t) > std::min(d.size, std::uint64_t{h_.block_count} * block_payload)) return {};
    std::vector<std::uint64_t> ids(count);
    copy_beginning(i, std::as_writable_bytes(std::span(ids)));
    return ids;
  }

  static int one_more_or_all(int so_far, int how_many) {
    return how_many == INT_MAX || so_far == INT_MAX ? INT_MAX : so_far + 1;
  }

  void append(std::uint32_t i) {
    m_.descriptor(i).next = nothing;
    if (h_.newest == nothing)
      h_.oldest = i;
    else
      m_.descriptor(h_.newest).next = i;
    h_.newest = i;
    h_.queued.fetch_add(1, std::memory_order_relaxed);
  }

  // In order of sequence: for messages that come back.
  void insert_by_sequence(std::uint32_t i) {
    message_descriptor& d = m_.descriptor(i);
    if (h_.newest == nothing || m_.descriptor(h_.newest).sequence < d.sequence) return append(i);
    std::uint32_t* link = &h_.oldest;
    for (std::uint32_t n = 0; *link != nothing && m_.descriptor(*link).sequence < d.sequence; ++n) {
      if (n > h_.descriptor_count) throw queue_damaged();
      link = &m_.descriptor(*link).next;
    }
    d.next = *link;
    *link = i;
    h_.queued.fetch_add(1, std::memory_order_relaxed);
  }

  void commit_for(std::uint32_t wanted) {
    if (wanted <= h_.free_block_count) return;
    const std::uint64_t needed = std::uint64_t{h_.blocks_used} + (wanted - h_.free_block_count);
    if (needed <= h_.blocks_committed) return;
    const std::uint64_t blocks = std::min<std::uint64_t>(whole(needed, commit_step_blocks), h_.block_count);
    const std::uint64_t committed = h_.blocks_at + std::uint64_t{h_.blocks_committed} * block_bytes;
    commit_pages(m_.base + committed, h_.blocks_at + blocks * block_bytes - committed).value();
    h_.blocks_committed = static_cast<std::uint32_t>(blocks);
  }

  std::uint32_t take_block() {
    if (h_.free_blocks == nothing) return h_.blocks_used++;
    const std::uint32_t b = h_.free_blocks;
    h_.free_blocks = m_.next_block(b);
    --h_.free_block_count;
    return b;
  }

  void give_block(std::uint32_t b) {
    m_.next_block(b) = h_.free_blocks;
    h_.free_blocks = b;
    ++h_.free_block_count;
  }

  // An owner of the lock died inside: all lists and counts anew, from the states.
  void rebuild() {
    std::vector<bool> used(h_.block_count);
    std::vector<std::uint32_t> queued;
    h_.queued.store(0, std::memory_order_relaxed);
    h_.reserved = h_.in_flight = 0;
    h_.oldest = h_.newest = h_.free_descriptors = h_.free_blocks = nothing;
    h_.free_block_count = 0;
    for (std::uint32_t i = h_.descriptor_count; i-- > 0;) {
      message_descriptor& d = m_.descriptor(i);
      const message_kind kind = kind_of(d.state.load(std::memory_order_acquire));
      if (kind == message_kind::free) {
        d.first_block = nothing;
        d.next = h_.free_descriptors;
        h_.free_descriptors = i;
        continue;
      }
      // A chain that was cut while it was built or given back is short; what it does not reach is free.
      for (std::uint32_t b = d.first_block; b != nothing; b = m_.next_block(b)) {
        if (b >= used.size() || used[b]) throw queue_damaged();
        used[b] = true;
      }
      if (kind == message_kind::queued) queued.push_back(i);
      if (kind == message_kind::reserved) ++h_.reserved;
      if (kind == message_kind::in_flight) ++h_.in_flight;
    }
    std::sort(queued.begin(), queued.end(),
              [&](std::uint32_t a, std::uint32_t b) { return m_.descriptor(a).sequence < m_.descriptor(b).sequence; });
    for (const std::uint32_t i : queued) append(i);
    h_.blocks_used = std::min(h_.blocks_used, h_.block_count);
    for (std::uint32_t b = 0; b < h_.blocks_used; ++b)
      if (!used[b]) give_block(b);
    h_.swept_deaths = deaths_seen() - 1;  // and sweep
  }

  void sweep_or_unlock() {
    try {
      sweep();
    } catch (...) {
      locked_ = false;
      h_.lock.unlock_unrepaired();
      throw;
    }
  }

  // What is in dead hands goes where docs/design/queue.md draws it.
  void sweep() {
    const std::uint32_t deaths = deaths_seen();
    for (std::uint32_t i = 0; i < h_.descriptor_count; ++i) {
      message_descriptor& d = m_.descriptor(i);
      const std::uint64_t state = d.state.load(std::memory_order_relaxed);
      const message_kind kind = kind_of(state);
      if ((kind != message_kind::reserved && kind != message_kind::in_flight) || alive(hand_of(state))) continue;
      if (kind == message_kind::in_flight && h_.on_death == in_flight_policy::redeliver && h_.closed < 2) {
        d.state.store(message_state(message_kind::queued, 0), std::memory_order_release);
        --h_.in_flight;
        insert_by_sequence(i);
      } else {
        release(i);
      }
    }
    strike_dead_roles();
    h_.swept_deaths = deaths;
    wake_all();
  }

  void strike_dead_roles() {
    for (role_holder& r : h_.roles) {
      if (r.count == 0 || process_alive(r.who)) continue;
      const queue_role role = r.role;
      r.count = 0;
      if (role == queue_role::writer) h_.writer_died = 1;
      note_lost(role);
    }
  }

 public:
  void note_lost(queue_role role) {
    for (const role_holder& r : h_.roles)
      if (r.count != 0 && r.role == role) return;
    (role == queue_role::reader ? h_.readers_lost : h_.writers_lost) = 1;
    wake_all();
  }

  /// Everybody who sleeps shall look, and count itself again.
  void wake_all() {
    h_.sleeping_readers = h_.sleeping_writers = h_.sleeping_joiners = 0;
    for (auto* word : {&h_.readable, &h_.writable, &h_.idle}) word->fetch_add(1, std::memory_order_relaxed);
    wake_reader_ = wake_writer_ = INT_MAX;
    wake_joiner_ = true;
  }

 private:
  const region& region_;
  queue_memory& m_;
  queue_header& h_;
  bool locked_ = false;
  int wake_reader_ = 0, wake_writer_ = 0;
  bool wake_joiner_ = false;
};

// Sleeps on `word` without the lock, counted in `sleepers`; true when the caller shall look again.
bool sleep_unlocked(std::optional<locked_queue>& locked, const region& r, queue_memory& m,
                    std::atomic<std::uint32_t>& word, std::uint32_t& sleepers, const deadline& until,
                    const stop_word* stop) {
  const std::uint32_t deaths = m.header.swept_deaths;
  const std::uint32_t seen = word.load(std::memory_order_relaxed);
  ++sleepers;
  locked.reset();
  const wake_reason why = park(word, seen, deaths, until, stop);
  locked.emplace(r, m);
  if (word.load(std::memory_order_relaxed) == seen && sleepers > 0) --sleepers;  // nobody has counted us off
  return why == wake_reason::woken;
}

// ---- what this thread has in hand ----------------------------------------------------------------------------------

struct in_hand {
  region queue;
  std::uint32_t descriptor;
};

struct hand {
  std::vector<in_hand> messages;  // oldest first
  ~hand() { acknowledge_all(); }
};

thread_local hand my_hand;

void acknowledge_locked(locked_queue& locked, std::uint32_t i) {
  if (locked.in_my_hand(i)) locked.release(i);  // else swept: we were taken for dead, or the queue was discarded
}

// Acknowledges the oldest in hand from `queue`, or all of them.
bool acknowledge_some(locked_queue& locked, const region& queue, bool all) {
  bool any = false;
  std::erase_if(my_hand.messages, [&](const in_hand& h) {
    if (h.queue != queue || (any && !all)) return false;
    acknowledge_locked(locked, h.descriptor);
    return any = true;
  });
  return any;
}

// A message that is in this thread's hand, without the regions' ids before it.
void copy_message(const locked_queue& unlocked, const queue_memory& m, std::uint32_t i, queue_core::taken& out) {
  out.deliveries = m.descriptor(i).deliveries;
  const std::size_t prefix = std::size_t{m.descriptor(i).attachments} * sizeof(std::uint64_t);
  unlocked.copy_out(i, out.bytes);
  if (prefix > out.bytes.size()) throw queue_damaged();
  out.bytes.erase(out.bytes.begin(), out.bytes.begin() + static_cast<std::ptrdiff_t>(prefix));
}

// The payload as it is stored: the ids of the regions that it names, then its bytes.
std::vector<std::byte> with_attachments(const encoder& message) {
  const auto ids = std::as_bytes(std::span(message.attachments));
  std::vector<std::byte> all(ids.begin(), ids.end());
  all.insert(all.end(), message.bytes.begin(), message.bytes.end());
  return all;
}

// ---- roles of this process -----------------------------------------------------------------------------------------

std::mutex roles_mutex;

// The process is part of the key: a forked child finds its parent's here.
using role_key = std::tuple<process_id, std::uint64_t, queue_role>;

std::map<role_key, std::uint32_t>& own_roles() {
  static auto* const roles = new std::map<role_key, std::uint32_t>;
  return *roles;
}

void enter_role(queue_header& h, queue_role role) {
  for (role_holder& r : h.roles) {
    if (r.count != 0) continue;
    r.who = this_process_id();
    r.role = role;
    r.count = 1;
    (role == queue_role::reader ? h.readers_lost : h.writers_lost) = 0;
    return;
  }
  throw std::length_error("covey: more than 512 processes hold a role of one queue");
}

}  // namespace

queue_core::queue_core(const queue_options& options) {
  if (options.items == 0 || options.items > (1U << 24))
    throw std::invalid_argument("covey: a queue holds 1 to 16 million items");
  const std::uint32_t descriptors =
      static_cast<std::uint32_t>(options.items + std::max<std::size_t>(64, options.items / 4));
  if (options.bytes > bytes_max) throw std::invalid_argument("covey: a queue holds at most 990 GiB");
  const std::uint64_t blocks = std::max<std::uint64_t>(blocks_for(options.bytes), 16);
  const std::uint64_t descriptors_at = whole(sizeof(queue_header), 64);
  const std::uint64_t blocks_at = whole(descriptors_at + descriptors * sizeof(message_descriptor), page_bytes);
  region_ = region({.bytes = blocks_at + blocks * block_bytes, .committed = blocks_at, .kind = region_kind::queue});
  auto& h = *new (region_.data()) queue_header{};
  h.items_max = static_cast<std::uint32_t>(options.items);
  h.descriptor_count = descriptors;
  h.block_count = static_cast<std::uint32_t>(blocks);
  h.on_death = options.on_death;
  h.descriptors_at = descriptors_at;
  h.blocks_at = blocks_at;
  h.oldest = h.newest = h.free_blocks = nothing;
  h.swept_deaths = deaths_seen();
  const queue_memory m(region_);
  h.free_descriptors = nothing;
  for (std::uint32_t i = descriptors; i-- > 0;) {
    m.descriptor(i).next = h.free_descriptors;
    m.descriptor(i).first_block = nothing;
    h.free_descriptors = i;
  }
}

bool queue_core::put(const encoder& message, const deadline& until, const stop_word* stop) const {
  queue_memory m(region_);
  queue_header& h = m.header;
  const std::size_t prefix = message.attachments.size() * sizeof(std::uint64_t);
  const std::size_t size = prefix + message.bytes.size();
  if (blocks_for(size) > h.block_count)
    throw std::length_error("covey: a message of " + std::to_string(size) + " bytes is larger than its queue");
  const bool small = size <= copied_under_lock && prefix == 0;
  const std::vector<std::byte> joined = prefix != 0 ? with_attachments(message) : std::vector<std::byte>();
  const std::byte* const payload = prefix != 0 ? joined.data() : message.bytes.data();
  std::optional<locked_queue> locked(std::in_place, region_, m);
  std::uint32_t i = nothing;
  for (;;) {
    if (h.closed != 0) throw queue_closed();
    if (h.readers_lost != 0) throw no_consumers();
    if ((i = locked->reserve(size)) != nothing) break;
    if (until && *until <= std::chrono::steady_clock::now()) return false;
    if (stop != nullptr && stop->stopped()) return false;
    sleep_unlocked(locked, region_, m, h.writable, h.sleeping_writers, until, stop);
  }
  if (small) {
    locked->copy_in(i, payload, size);
  } else {
    locked->unlock();
    locked->copy_in(i, payload, size);
    carry(region_.id(), message.attachments, +1);
    locked.emplace(region_, m);
    m.descriptor(i).attachments =
        static_cast<std::uint32_t>(message.attachments.size());  // from here it has references
    if (h.closed != 0) {  // meanwhile: readers may have been told of the end already
      locked->release(i);
      throw queue_closed();
    }
  }
  locked->commit(i);
  return true;
}

queue_core::get_result queue_core::get(taken& out, const deadline& until, const stop_word* stop,
                                       const std::uint32_t* deaths) const {
  return get_some({&out, 1}, until, stop, deaths).result;
}

queue_core::several queue_core::get_many(std::span<taken> out, const deadline& until, const stop_word* stop) const {
  return get_some(out.first(std::min(out.size(), capacity())), until, stop, nullptr);
}

queue_core::several queue_core::get_some(std::span<taken> out, const deadline& until, const stop_word* stop,
                                         const std::uint32_t* deaths) const {
  queue_memory m(region_);
  queue_header& h = m.header;
  my_hand.messages.reserve(my_hand.messages.size() + out.size());
  std::optional<locked_queue> locked(std::in_place, region_, m);
  acknowledge_some(*locked, region_, true);
  bool spun = false;
  while (h.queued.load(std::memory_order_relaxed) == 0) {
    if (h.closed != 0) return {get_result::ended};
    if (locked->drained_of_lost_writers()) {
      if (h.writer_died != 0) throw no_producers();
      return {get_result::ended};
    }
    if (until && *until <= std::chrono::steady_clock::now()) return {get_result::not_now};
    if (stop != nullptr && stop->stopped()) return {get_result::not_now};
    if (deaths != nullptr && h.swept_deaths != *deaths) return {get_result::not_now};
    if (!std::exchange(spun, true)) {
      locked->unlock();
      spin_until([&] { return h.queued.load(std::memory_order_relaxed) != 0; });
      locked.emplace(region_, m);  // and look at everything again: it may have been closed meanwhile
      continue;
    }
    sleep_unlocked(locked, region_, m, h.readable, h.sleeping_readers, until, stop);
    spun = false;
  }
  const std::size_t first = my_hand.messages.size();
  std::size_t count = 0;
  for (; count < out.size() && h.queued.load(std::memory_order_relaxed) != 0; ++count)
    my_hand.messages.push_back({region_, locked->take()});
  locked->unlock();
  try {
    for (std::size_t n = 0; n < count; ++n) copy_message(*locked, m, my_hand.messages[first + n].descriptor, out[n]);
  } catch (const std::bad_alloc&) {
    locked.emplace(region_, m);  // no memory here: somebody else may have it
    for (std::size_t n = count; n-- > 0;) locked->put_back(my_hand.messages[first + n].descriptor);
    my_hand.messages.resize(first);
    throw;
  }
  return {get_result::got, count};
}

bool queue_core::acknowledge() const {
  queue_memory m(region_);
  locked_queue locked(region_, m);
  return acknowledge_some(locked, region_, false);
}

void queue_core::drop_one_put_back_others(std::size_t n) const {
  queue_memory m(region_);
  locked_queue locked(region_, m);
  std::erase_if(my_hand.messages, [&](const in_hand& h) {
    if (h.queue != region_) return false;
    const bool dropped = n-- == 0;
    if (dropped) acknowledge_locked(locked, h.descriptor);
    if (!dropped && locked.in_my_hand(h.descriptor)) locked.put_back(h.descriptor);
    return true;
  });
}

bool queue_core::join(const deadline& until, const stop_word* stop) const {
  queue_memory m(region_);
  queue_header& h = m.header;
  std::optional<locked_queue> locked(std::in_place, region_, m);
  while (h.queued.load(std::memory_order_relaxed) + h.reserved + h.in_flight != 0) {
    if (h.readers_lost != 0) throw no_consumers();
    if (until && *until <= std::chrono::steady_clock::now()) return false;
    if (stop != nullptr && stop->stopped()) return false;
    sleep_unlocked(locked, region_, m, h.idle, h.sleeping_joiners, until, stop);
  }
  return true;
}

void queue_core::close(close_mode mode) const {
  queue_memory m(region_);
  locked_queue locked(region_, m);
  m.header.closed = mode == close_mode::discard ? 2 : std::max(m.header.closed, 1U);
  if (mode == close_mode::discard) locked.discard_queued();
  locked.wake_all();
}

bool queue_core::closed() const {
  queue_memory m(region_);
  locked_queue locked(region_, m);
  return m.header.closed != 0;
}

std::size_t queue_core::size() const {
  queue_memory m(region_);
  locked_queue locked(region_, m);
  return m.header.queued.load(std::memory_order_relaxed);
}

std::size_t queue_core::size_approx() const noexcept {
  return reinterpret_cast<const queue_header*>(region_.data())->queued.load(std::memory_order_relaxed);
}

std::size_t queue_core::capacity() const noexcept {
  return reinterpret_cast<const queue_header*>(region_.data())->items_max;
}

void queue_core::take_role(queue_role role) const {
  const std::scoped_lock roles_lock(roles_mutex);
  std::uint32_t& own = own_roles()[{this_process_id(), region_.id(), role}];
  if (own == 0) {
    queue_memory m(region_);
    const locked_queue locked(region_, m);
    enter_role(m.header, role);
  }
  ++own;
}

void queue_core::leave_role(queue_role role) const noexcept {
  if (family.book == nullptr) return;  // forked past covey: it is the parent's
  const std::scoped_lock roles_lock(roles_mutex);
  const auto own = own_roles().find({this_process_id(), region_.id(), role});
  if (own == own_roles().end() || --own->second > 0) return;
  own_roles().erase(own);
  try {
    queue_memory m(region_);
    locked_queue locked(region_, m);
    for (role_holder& r : m.header.roles)
      if (r.count != 0 && r.role == role && r.who == this_process_id()) r.count = 0;
    locked.note_lost(role);
  } catch (...) {
    // The queue is damaged: there is nobody left to tell.
  }
}

void acknowledge_all() noexcept {
  if (family.book == nullptr) return;  // forked past covey: it is in the parent's hand
  for (const in_hand& h : my_hand.messages) {
    try {
      queue_memory m(h.queue);
      locked_queue locked(h.queue, m);
      acknowledge_locked(locked, h.descriptor);
    } catch (...) {
      // Not acknowledged: it is delivered again, which is what its policy promises anyway.
    }
  }
  my_hand.messages.clear();
}

}  // namespace covey::detail
