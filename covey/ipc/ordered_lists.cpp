// Every change of a descriptor's state is one store; all else is an index that is rebuilt from the states when an owner
// of the lock died. Read docs/design/ordered_queue.md first.
#include <covey/ipc/ordered_lists.hpp>

#include <algorithm>
#include <array>
#include <climits>
#include <covey/memory/errors.hpp>
#include <covey/memory/park.hpp>
#include <cstring>
#include <new>

namespace covey::detail {
namespace {

std::uint64_t shape_check_of(std::uint64_t key, const ordered_shape& s) {
  const std::array<std::uint64_t, 7> words{s.items,
                                           s.bytes,
                                           s.descriptors,
                                           s.blocks,
                                           s.deliveries_max,
                                           static_cast<std::uint64_t>(s.on_death),
                                           static_cast<std::uint64_t>(s.order)};
  return checksum_of(key, words, {});
}

std::uint64_t check_of(const ordered_memory& m, const message_descriptor& d, std::uint64_t payload_sum) {
  const std::array<std::uint64_t, 5> words{d.rank, d.number, d.size_and_attachments, d.first_block, payload_sum};
  return checksum_of(m.key, words, {});
}

std::uint64_t attachments_of(const message_descriptor& d) { return d.size_and_attachments >> 40; }

int more(int so_far, int how_many) { return how_many == INT_MAX || so_far == INT_MAX ? INT_MAX : so_far + how_many; }

}  // namespace

// ---- memory --------------------------------------------------------------------------------------------------------

ordered_memory::ordered_memory(const region& r, bool tells_family)
    : base(r.data()), key(queue_key(r.id())), id(r.id()), tells(tells_family) {
  if (base == nullptr) throw_moved_from();
  if (is_damaged(id)) throw queue_damaged();
  if (r.size() < sizeof(ordered_header)) damaged();
  shape = header().shape;
  if (header().shape_check != shape_check_of(key, shape) || bytes() > r.size()) damaged();
}

region ordered_memory::make(const ordered_shape& shape) {
  ordered_memory m;
  m.shape = shape;
  region r({.bytes = m.bytes(), .committed = m.blocks_at(), .kind = region_kind::ordered_queue});
  m.base = r.data();
  m.id = r.id();
  m.key = queue_key(m.id);
  auto& h = *new (m.base) ordered_header{};
  h.shape = shape;
  h.shape_check = shape_check_of(m.key, shape);
  h.flags = checked_flags(m.key, 0);
  h.locked.books.blocks.free = nothing;
  h.locked.books.swept_deaths = deaths_seen();
  for (std::uint64_t i = 0; i < shape.descriptors; ++i) {
    m.set_state(m.descriptor(i), slot_state::at(slot_kind::free, 0));
    m.descriptor(i).first_block = nothing;
    m.index(shape.descriptors - 1 - i) = static_cast<std::uint32_t>(shape.descriptors - 1 - i);
  }
  h.locked.books.free_descriptors = static_cast<std::uint32_t>(shape.descriptors);
  h.locked.close_books(m.key);
  return r;
}

std::uint64_t payload_sum_of(const ordered_memory& m, std::span<const std::byte> head,
                             std::span<const std::byte> rest) noexcept {
  const std::uint64_t first = checksum_of(m.key, {}, head);
  return checksum_of(m.key, {&first, 1}, rest);
}

// ---- the lock ------------------------------------------------------------------------------------------------------

ordered_lists::ordered_lists(const ordered_memory& m)
    : m_(m), h_(m.header()), b_(h_.locked.books), blocks_(m.blocks()) {}

ordered_lists::ordered_lists(const ordered_memory& m, const time_limit& limit) : ordered_lists(m) {
  if (!lock_books(h_.locked, m_.key, m_.id, [this] { rebuild(); }, limit)) return;
  locked_ = true;
  try {
    if (b_.swept_deaths != deaths_seen()) sweep();
  } catch (...) {
    h_.locked.lock.unlock_unrepaired();
    throw;
  }
}

// After the lock: the woken would only wait for it. A wake that is owed when we die here comes from `deaths`.
void ordered_lists::unlock() {
  locked_ = false;
  unlock_books(h_.locked, m_.key);
  if (wake_readers_ != 0) unpark(h_.readable, wake_readers_);
  if (wake_writers_ != 0) unpark(h_.writable, wake_writers_);
  if (wake_joiners_ != 0) unpark(h_.idle, wake_joiners_);
  if (!wake_pollers_) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  h_.pollers.wake();
}

void ordered_lists::readers_may_look(int how_many) {
  wake_pollers_ = true;
  if (b_.sleeping_readers == 0) return;
  b_.sleeping_readers = how_many == 1 ? b_.sleeping_readers - 1 : 0;
  h_.readable.fetch_add(1, std::memory_order_relaxed);
  wake_readers_ = more(wake_readers_, how_many);
}

// All: one may wait for an item, another for bytes.
void ordered_lists::writers_may_look() {
  if (b_.sleeping_writers == 0) return;
  raise(h_.writable, b_.sleeping_writers);
  wake_writers_ = INT_MAX;
}

void ordered_lists::after_leaving_hand() {
  writers_may_look();
  if (b_.sleeping_joiners != 0 && idle()) {
    raise(h_.idle, b_.sleeping_joiners);
    wake_joiners_ = INT_MAX;
  }
  if ((flags() & flag_writers_lost) != 0) readers_may_look(INT_MAX);  // they waited for what this might become
}

void ordered_lists::wake_all() {
  raise(h_.readable, b_.sleeping_readers);
  raise(h_.writable, b_.sleeping_writers);
  raise(h_.idle, b_.sleeping_joiners);
  wake_readers_ = wake_writers_ = wake_joiners_ = INT_MAX;
  wake_pollers_ = true;
}

// ---- messages ------------------------------------------------------------------------------------------------------

std::uint32_t ordered_lists::reserve(std::uint64_t size, std::uint64_t attachments) {
  if (std::uint64_t{queued()} + b_.being_put >= m_.shape.items || b_.free_descriptors == 0) return nothing;
  if (b_.bytes_waiting > m_.shape.bytes || size > m_.shape.bytes - b_.bytes_waiting) return nothing;
  if (!blocks_.provide(blocks_for(size))) return nothing;
  const std::uint32_t i = take_descriptor();
  message_descriptor& d = m_.descriptor(i);
  d.size_and_attachments = size | attachments << 40;
  d.references = attachments != 0 ? ++b_.next_number : 0;
  d.first_block = nothing;
  m_.set_state(d, slot_state::in_hand_of(this_name(), 0));
  ++b_.held;
  ++b_.being_put;
  b_.bytes_waiting += size;
  blocks_.take(blocks_for(size), d.first_block);
  return i;
}

void ordered_lists::commit(std::uint32_t i, std::uint64_t rank, std::uint64_t payload_sum) {
  message_descriptor& d = m_.descriptor(i);
  d.number = ++b_.next_number;
  d.rank = m_.shape.order == queue_order::newest_first ? ~d.number : rank;
  d.checksum = check_of(m_, d, payload_sum);
  m_.set_state(d, slot_state::at(slot_kind::queued, d.number));
  --b_.held;
  --b_.being_put;
  add(i);
  readers_may_look(1);
}

std::uint32_t ordered_lists::take() {
  const std::uint32_t i = remove_first();
  message_descriptor& d = m_.descriptor(i);
  const slot_state s = m_.state(d);
  if (s.kind() != slot_kind::queued) m_.damaged();
  m_.set_state(d, slot_state::in_hand_of(this_name(), s.delivered_again()));
  ++b_.held;
  b_.bytes_waiting -= size_of(d);
  writers_may_look();
  return i;
}

std::uint32_t ordered_lists::take_failed() {
  if (b_.failed == 0) return nothing;
  for (std::uint32_t i = 0; i < m_.shape.descriptors; ++i) {
    message_descriptor& d = m_.descriptor(i);
    const slot_state s = m_.state(d);
    if (s.kind() != slot_kind::failed) continue;
    m_.set_state(d, slot_state::in_hand_of(this_name(), s.delivered_again()));
    ++b_.held;
    --b_.failed;
    return i;
  }
  m_.damaged();
}

bool ordered_lists::in_my_hand(std::uint32_t i) const {
  const slot_state s = m_.state(m_.descriptor(i));
  return s.kind() == slot_kind::in_flight && s.hand() == this_name();
}

void ordered_lists::count_out(std::uint32_t i, slot_state was) {
  if (was.kind() == slot_kind::failed) --b_.failed;
  if (was.kind() == slot_kind::in_flight) {
    --b_.held;
    if (was.deliveries() != 0) return;
    --b_.being_put;
  }
  if (was.kind() != slot_kind::failed) b_.bytes_waiting -= size_of(m_.descriptor(i));
}

// Any → free. A queued one is not in the heap any more.
void ordered_lists::release(std::uint32_t i) {
  message_descriptor& d = m_.descriptor(i);
  count_out(i, m_.state(d));
  if (d.references != 0) {
    // From here on it is delivered to nobody, and the references may go. Who dies after it leaves them to sweep().
    m_.set_state(d, slot_state::done_by(this_name()));
    detach(m_.id, d.references);
  }
  m_.set_state(d, slot_state::at(slot_kind::free, 0));
  blocks_.give(d.first_block);
  d.first_block = nothing;
  free_descriptor(i);
  after_leaving_hand();
}

void ordered_lists::put_back(std::uint32_t i) {
  message_descriptor& d = m_.descriptor(i);
  const slot_state s = m_.state(d);
  m_.set_state(d, slot_state::at(slot_kind::queued, d.number, s.deliveries() == 0 ? 0 : s.deliveries() - 1));
  --b_.held;
  b_.bytes_waiting += size_of(d);
  add(i);
  readers_may_look(1);
}

void ordered_lists::discard() {
  while (queued() != 0) release(remove_first());
  for (std::uint32_t i = 0; b_.failed != 0 && i < m_.shape.descriptors; ++i)
    if (m_.state(m_.descriptor(i)).kind() == slot_kind::failed) release(i);
}

// ---- payloads ------------------------------------------------------------------------------------------------------

std::uint64_t ordered_lists::size_of(const message_descriptor& d) const {
  const std::uint64_t size = d.size_and_attachments & size_mask;
  if (size > m_.shape.bytes || attachments_of(d) > size / sizeof(std::uint64_t)) m_.damaged();
  return size;
}

void ordered_lists::copy_out(std::uint32_t i, std::vector<std::byte>& out) const {
  const message_descriptor& d = m_.descriptor(i);
  const std::size_t references = attachments_of(d) * sizeof(std::uint64_t);
  out.resize(size_of(d));
  blocks_.copy_out(d.first_block, out);
  if (references > out.size()) m_.damaged();
  const auto all = std::span(std::as_const(out));
  if (check_of(m_, d, payload_sum_of(m_, all.first(references), all.subspan(references))) != d.checksum) m_.damaged();
}

std::size_t ordered_lists::references_in(std::uint32_t i) const { return attachments_of(m_.descriptor(i)); }

// ---- the heap of what is queued ------------------------------------------------------------------------------------

bool ordered_lists::goes_before(std::uint32_t a, std::uint32_t b) const {
  const message_descriptor& first = m_.descriptor(a);
  const message_descriptor& second = m_.descriptor(b);
  return first.rank != second.rank ? first.rank < second.rank : first.number < second.number;
}

void ordered_lists::set_queued(std::uint32_t n) { std::atomic_ref(b_.queued).store(n, std::memory_order_relaxed); }

void ordered_lists::add(std::uint32_t i) {
  std::uint32_t n = queued();
  set_queued(n + 1);
  for (; n != 0 && goes_before(i, m_.index((n - 1) / 2)); n = (n - 1) / 2) m_.index(n) = m_.index((n - 1) / 2);
  m_.index(n) = i;
}

std::uint32_t ordered_lists::remove_first() {
  const std::uint32_t first = m_.index(0);
  const std::uint32_t left = queued() - 1;
  set_queued(left);
  m_.index(0) = m_.index(left);
  sink(left);
  return first;
}

// The first of `count` to where it belongs.
void ordered_lists::sink(std::uint32_t count) {
  if (count == 0) return;
  const std::uint32_t i = m_.index(0);
  std::uint64_t n = 0;
  for (;;) {
    std::uint64_t child = 2 * n + 1;
    if (child >= count) break;
    if (child + 1 < count && goes_before(m_.index(child + 1), m_.index(child))) ++child;
    if (!goes_before(m_.index(child), i)) break;
    m_.index(n) = m_.index(child);
    n = child;
  }
  m_.index(n) = i;
}

// ---- what is free --------------------------------------------------------------------------------------------------

void ordered_lists::free_descriptor(std::uint32_t i) { m_.index(m_.shape.descriptors - ++b_.free_descriptors) = i; }

std::uint32_t ordered_lists::take_descriptor() { return m_.index(m_.shape.descriptors - b_.free_descriptors--); }

// ---- the dead ------------------------------------------------------------------------------------------------------

// An owner of the lock died inside: all lists and counts anew, from the states.
void ordered_lists::rebuild() {
  std::vector<bool> marks = blocks_.no_marks();
  set_queued(0);
  b_.held = b_.being_put = b_.failed = b_.free_descriptors = 0;
  b_.bytes_waiting = 0;
  for (std::uint32_t i = 0; i < m_.shape.descriptors; ++i) {
    message_descriptor& d = m_.descriptor(i);
    const slot_state s = m_.state(d);
    if (s.kind() == slot_kind::free) {
      d.first_block = nothing;
      free_descriptor(i);
      continue;
    }
    blocks_.mark(d.first_block, marks);
    const bool in_hand = s.kind() == slot_kind::in_flight;
    b_.held += in_hand ? 1 : 0;
    b_.being_put += in_hand && s.deliveries() == 0 ? 1 : 0;
    b_.failed += s.kind() == slot_kind::failed ? 1 : 0;
    if (s.kind() == slot_kind::queued || (in_hand && s.deliveries() == 0)) b_.bytes_waiting += size_of(d);
    if (s.kind() == slot_kind::queued)
      add(i);
    else if (!in_hand && s.kind() != slot_kind::failed)
      m_.damaged();
  }
  blocks_.free_unmarked(marks);
  b_.swept_deaths = deaths_seen() - 1;  // and sweep
}

void ordered_lists::sweep() {
  const std::uint32_t deaths = deaths_seen();
  for (std::uint32_t i = 0; b_.held != 0 && i < m_.shape.descriptors; ++i) {
    const slot_state s = m_.state(m_.descriptor(i));
    if (s.kind() == slot_kind::in_flight && !alive(s.hand())) return_from_the_dead(i);
  }
  if ((flags() & flag_discarded) != 0) discard();  // who did it may have died in the middle
  strike_dead_roles(m_.roles());
  b_.swept_deaths = deaths;
  wake_all();
}

void ordered_lists::return_from_the_dead(std::uint32_t i) {
  message_descriptor& d = m_.descriptor(i);
  const slot_state s = m_.state(d);
  if (!may_have_lived(s.hand())) m_.damaged();
  const bool drops = m_.shape.on_death == in_flight_policy::drop || (flags() & flag_discarded) != 0;
  if (s.deliveries() == 0 || s.is_done() || drops) return release(i);
  const bool enough = m_.shape.deliveries_max != 0 && s.deliveries() >= m_.shape.deliveries_max;
  const bool fails = enough || m_.shape.on_death == in_flight_policy::fail;
  m_.set_state(d, slot_state::at(fails ? slot_kind::failed : slot_kind::queued, d.number, s.deliveries()));
  --b_.held;
  if (fails) {
    ++b_.failed;
    return;
  }
  b_.bytes_waiting += size_of(d);
  add(i);
}

}  // namespace covey::detail
