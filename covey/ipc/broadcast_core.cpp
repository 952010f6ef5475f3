// Putting, under a lock of those who put, and subscribing and getting, without. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_core.hpp>

#include <algorithm>
#include <covey/ipc/broadcast_layout.hpp>

namespace covey::detail {
namespace {

using presence = broadcast_memory::presence;

constexpr std::uint64_t bytes_max = 400ULL << 30;

// ---- those who put -------------------------------------------------------------------------------------------------

// The lock is taken while it lives, and what the dead left was repaired; unless the limit was over before its turn
// came.
class putter {
 public:
  explicit putter(const broadcast_memory& m, const time_limit& limit = {})
      : m_(m), h_(m.header()), b_(h_.locked.books), blocks_(m.blocks()) {
    lock(limit);
  }
  putter(const putter&) = delete;
  putter& operator=(const putter&) = delete;
  // What throws halfway leaves what the dead leave.
  ~putter() {
    if (locked_ && halfway_) h_.locked.lock.unlock_unrepaired();
    if (locked_ && !halfway_) unlock();
  }
  bool lock(const time_limit& limit) {
    return locked_ = lock_books(h_.locked, m_.key, m_.id, [this] { rebuild(); }, limit);
  }
  [[nodiscard]] bool locked() const { return locked_; }
  void unlock() {
    locked_ = false;
    unlock_books(h_.locked, m_.key);
  }

  // Whether a message of `size` can be put now; the oldest had to go for it.
  bool make_room(std::uint64_t size) {
    std::uint64_t least = m_.shape.when_slow == slow_subscriber::block ? 0 : b_.tail;
    while (!has_room(size)) {
      if (b_.head == b_.tail) return false;
      if (b_.head >= least) least = std::min(m_.least_cursor(), b_.tail);
      if (b_.head >= least) return false;
      evict();
    }
    return true;
  }

  // The number of the message.
  std::uint64_t put(std::initializer_list<std::span<const std::byte>> parts, std::uint64_t size,
                    std::span<const std::uint64_t> attachments, std::uint64_t payload_sum) {
    const std::uint64_t number = b_.tail;
    broadcast_place& p = m_.place(number);
    halfway_ = true;
    std::uint32_t first = nothing;
    blocks_.take(blocks_for(size), first);
    blocks_.copy_in_raced(first, parts);
    const std::uint64_t size_and_attachments = size | std::uint64_t{attachments.size()} << 40;
    p.size_and_attachments.store(size_and_attachments, std::memory_order_relaxed);
    p.first_block.store(first, std::memory_order_relaxed);
    p.checksum.store(m_.check_of(number, size_and_attachments, first, payload_sum), std::memory_order_relaxed);
    if (!attachments.empty()) {
      h_.with_references.fetch_add(1, std::memory_order_seq_cst);
      const std::uint64_t reference = reference_number(number, b_.rebuilds);
      p.references.store(reference, std::memory_order_seq_cst);  // rebuild() takes them back from here on
      attach(m_.id, reference, attachments);
    }
    m_.set_state(p, slot_kind::queued, number);  // committed
    ++b_.tail;
    b_.bytes_kept += size;
    halfway_ = false;
    return number;
  }

  void evict_all() {
    while (b_.head != b_.tail) evict();
  }

 private:
  [[nodiscard]] bool has_room(std::uint64_t size) const {
    if (b_.tail - b_.head > m_.shape.items || b_.bytes_kept > m_.shape.bytes) m_.damaged();
    return b_.tail - b_.head < m_.shape.items && size <= m_.shape.bytes - b_.bytes_kept &&
           blocks_.provide(blocks_for(size));
  }

  [[nodiscard]] std::uint64_t size_of(const broadcast_place& p) const {
    const std::uint64_t both = p.size_and_attachments.load(std::memory_order_relaxed);
    const std::uint64_t size = both & size_mask;
    if (size > m_.shape.bytes || both >> 40 > size / sizeof(std::uint64_t)) m_.damaged();
    return size;
  }

  [[nodiscard]] std::uint32_t chain_of(const broadcast_place& p) const {
    return static_cast<std::uint32_t>(p.first_block.load(std::memory_order_relaxed));
  }

  void evict() {
    broadcast_place& p = m_.place(b_.head);
    if (m_.state(p) != slot_state::at(slot_kind::queued, b_.head)) m_.damaged();
    const std::uint64_t size = size_of(p);
    halfway_ = true;
    m_.set_state(p, slot_kind::free, b_.head);
    std::atomic_thread_fence(std::memory_order_release);  // before the blocks change; pairs with copy_out()
    m_.release_references(b_.head);
    blocks_.give(chain_of(p));
    p.first_block.store(nothing, std::memory_order_relaxed);
    b_.bytes_kept -= size;
    ++b_.head;
    halfway_ = false;
  }

  // An owner of the lock died in it: the books anew, from the places.
  void rebuild() {
    std::vector<bool> marks = blocks_.no_marks();
    std::uint64_t queued = 0;
    ++b_.rebuilds;
    b_.tail = m_.next_number();
    b_.head = b_.tail;
    b_.bytes_kept = 0;
    for (std::uint64_t n = 0; n < m_.shape.items; ++n) {
      broadcast_place& p = m_.place(n);
      const slot_state s = m_.state(p);
      if (s.kind() != slot_kind::queued) {
        m_.release_references(number_of_reference(p.references.load(std::memory_order_seq_cst)));
        p.first_block.store(nothing, std::memory_order_relaxed);
        continue;
      }
      blocks_.mark(chain_of(p), marks);
      b_.head = std::min(b_.head, s.position());
      b_.bytes_kept += size_of(p);
      ++queued;
    }
    if (queued != b_.tail - b_.head) m_.damaged();
    blocks_.free_unmarked(marks);
    if ((m_.flags() & flag_discarded) != 0) evict_all();
  }

  const broadcast_memory& m_;
  broadcast_header& h_;
  broadcast_books& b_;
  block_chains blocks_;
  bool locked_ = false;
  bool halfway_ = false;
};

// Once after each death: what the dead was putting, and what only it had not got, keeps nothing any more. The work
// first: who dies in it leaves it to others, whom its death wakes.
void release_for_the_dead(const broadcast_memory& m) {
  broadcast_header& h = m.header();
  const std::uint32_t deaths = deaths_seen();
  std::uint32_t swept = h.swept_deaths.load(std::memory_order_acquire);
  if (swept == deaths) return;
  if (h.locked.lock.unrepaired_approx())
    putter(m, {.until = deadline_in(std::chrono::seconds(0))});  // which repairs; or another has come
  m.release_passed();
  h.swept_deaths.compare_exchange_strong(swept, deaths, std::memory_order_release);
}

// Where to sleep, once it was said that somebody will.
class sleeper {
 public:
  explicit sleeper(poll_word& word) : word_(word) {}
  // First true: look again. Then it sleeps.
  bool arm() {
    if (armed_) return false;
    armed_ = word_.arm();
    return true;
  }
  void sleep(std::uint32_t deaths, const deadline& until, const stop_word* stop) {
    park(*armed_->word, armed_->expected, deaths, until, stop);
    armed_.reset();
  }

 private:
  poll_word& word_;
  std::optional<wait_word> armed_;
};

}  // namespace

bool broadcast_core::put(const outgoing& message, const deadline& until, const stop_word* stop) const {
  const broadcast_memory m(region_);
  const auto references = std::as_bytes(message.attachments);
  const std::uint64_t size = references.size() + message.head.size() + message.bytes.size();
  if (size > m.shape.bytes)
    throw std::length_error("covey: a message of " + std::to_string(size) + " bytes is larger than its broadcast");
  const std::uint64_t sum =
      message.head.empty() ? m.sum_of(references, message.bytes) : m.sum_of(references, message.head, message.bytes);
  release_for_the_dead(m);
  sleeper waits(m.header().writers);
  const time_limit limit{until, stop};
  putter p(m, limit);
  for (;;) {
    if (!p.locked()) return false;
    const std::uint32_t deaths = deaths_seen();
    if ((m.flags() & flag_closed) != 0) throw queue_closed();
    if (p.make_room(size)) break;
    if (limit.over()) return false;
    if (waits.arm()) continue;
    p.unlock();
    waits.sleep(deaths, until, stop);
    p.lock(limit);
  }
  const std::uint64_t number = p.put({references, message.head, message.bytes}, size, message.attachments, sum);
  p.unlock();
  m.header().readers.wake();
  if (!message.attachments.empty() && number < m.least_cursor()) m.release_references(number);
  return true;
}

void broadcast_core::close(close_mode mode) const {
  const broadcast_memory m(region_);
  {
    putter p(m);
    const bool discard = mode == close_mode::discard;
    change_flags(m.header().flags, m.id, discard ? flag_closed | flag_discarded : flag_closed, 0);
    if (discard) p.evict_all();
  }
  m.header().readers.wake();
  m.header().writers.wake();
}

bool broadcast_core::closed() const { return (broadcast_memory(region_).flags() & flag_closed) != 0; }

std::size_t broadcast_core::capacity() const { return broadcast_memory(region_).shape.items; }

// The keeper knows of what this process gave up once it answers.
std::size_t broadcast_core::subscribers() const {
  ask_keeper(keeper_op::sync, {}).value();
  const broadcast_memory m(region_);
  std::size_t count = 0;
  for (std::uint64_t s = 0; s < m.shape.subscriptions; ++s)
    count += is_held_by_somebody(m.subscription(s).region.load(std::memory_order_acquire)) ? 1 : 0;
  return count;
}

// ---- those who get -------------------------------------------------------------------------------------------------

// The entry first, then the number: what is committed after the entry stays until this subscription has it. Until the
// entry says that its cursor is its own, others take it for one that has got nothing.
subscription_core broadcast_core::subscribe() const {
  const broadcast_memory m(region_);
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
    m.release_passed();
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
    release_for_the_dead(broadcast_memory(broadcast_));
  } catch (...) {
    // The broadcast is damaged, or this program's keeper is gone: there is nobody left to tell.
  }
}

namespace {

// What a subscription's holder works with, checked anew each time.
struct listening {
  listening(const region& broadcast, const region& own, std::uint32_t slot)
      : m(broadcast), h(m.header()), s(m.subscription(slot)) {
    family_check();
    if (s.region.load(std::memory_order_acquire) != own.id()) m.damaged();
  }

  // Whether a message is there, copied. Throws too_slow.
  bool copy_next(subscription_core::copied& out) {
    std::optional<std::uint64_t> number;
    while ((number = find(out.cursor))) {
      if (!m.copy_out(*number, out.bytes, out.attachments)) continue;
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
      if (found.is == presence::not_yet) return std::nullopt;
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

  const broadcast_memory m;
  broadcast_header& h;
  broadcast_subscription& s;
};

}  // namespace

subscription_core::get_result subscription_core::next(copied& out, const deadline& until, const stop_word* stop) const {
  listening l(broadcast_, own_, slot_);
  sleeper waits(l.h.readers);
  for (bool spun = false;;) {
    const std::uint32_t deaths = deaths_seen();
    if (is_damaged(l.m.id)) throw queue_damaged();
    const std::uint32_t flags = l.m.flags();  // before the look: nothing is committed once it says closed
    if ((flags & flag_discarded) != 0) return get_result::ended;
    if (l.copy_next(out)) return get_result::got;
    if ((flags & flag_closed) != 0) return get_result::ended;
    release_for_the_dead(l.m);
    if (time_limit{until, stop}.over()) return get_result::not_now;
    if (!std::exchange(spun, true)) {
      const auto& place = l.m.place(l.m.number_in(out.cursor)).state;
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
  if (message.attachments != 0 && message.number < l.m.least_cursor()) l.m.release_references(message.number);
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

// ---- making --------------------------------------------------------------------------------------------------------

broadcast_core::broadcast_core(const broadcast_options& options) {
  if (options.items == 0 || options.items > (1U << 24))
    throw std::invalid_argument("covey: a broadcast keeps 1 to 16 million items");
  if (options.bytes == 0 || options.bytes > bytes_max)
    throw std::invalid_argument("covey: a broadcast keeps 1 byte to 400 GiB");
  if (options.subscribers == 0 || options.subscribers > 4096)
    throw std::invalid_argument("covey: a broadcast has 1 to 4,096 subscribers");
  broadcast_shape s;
  s.items = options.items;
  s.bytes = options.bytes;
  s.subscriptions = options.subscribers;
  s.blocks = blocks_for(options.bytes) + options.items;
  s.when_slow = options.when_slow;
  region_ = broadcast_memory::make(s);
}

}  // namespace covey::detail
