// A broadcast as a whole: making, putting, closing. Read docs/design/broadcast.md first.
#include <covey/ipc/broadcast_core.hpp>

#include <covey/ipc/broadcast_side.hpp>
#include <covey/ipc/queue_waits.hpp>

namespace covey::detail {
namespace {

constexpr std::uint64_t bytes_max = 400ULL << 30;

// What was prepared and is not committed, however a put ends, is given back.
class unwanted_at_end {
 public:
  explicit unwanted_at_end(broadcast_writer& w) : w_(w) {}
  unwanted_at_end(const unwanted_at_end&) = delete;
  unwanted_at_end& operator=(const unwanted_at_end&) = delete;
  ~unwanted_at_end() { w_.not_wanted(); }

 private:
  broadcast_writer& w_;
};

// False: full until `until`, or stopped.
bool put_when_room(broadcast_side& side, const broadcast_writer::parcel& parcel, const deadline& until,
                   const stop_word* stop) {
  broadcast_messages& messages = side.messages;
  const broadcast_memory& m = messages.m;
  poll_sleeper waits(m.header().writers);
  const unwanted_at_end u(*side.writer);
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    messages.sweep_if_needed();
    if ((m.flags() & flag_closed) != 0) throw queue_closed();
    const auto done = side.writer->put(parcel);
    if (done == broadcast_writer::outcome::ended) throw queue_closed();
    if (done == broadcast_writer::outcome::committed) return true;
    if (out_of_time(until, stop)) return false;
    if (waits.arm()) continue;
    waits.sleep(deaths, until, stop);
    if (is_damaged(m.id)) throw queue_damaged();
  }
}

}  // namespace

bool broadcast_core::put(const outgoing& message, const deadline& until, const stop_word* stop) const {
  broadcast_side& side = side_of_broadcast(region_);
  const broadcast_memory& m = side.messages.m;
  const auto references = std::as_bytes(message.attachments);
  const std::array parts{references, message.head, message.bytes};
  const std::uint64_t size = references.size() + message.head.size() + message.bytes.size();
  if (size > m.shape.bytes)
    throw std::length_error("covey: a message of " + std::to_string(size) + " bytes is larger than its broadcast");
  const std::uint64_t sum =
      message.head.empty() ? m.sum_of(references, message.bytes) : m.sum_of(references, message.head, message.bytes);
  if ((m.flags() & flag_closed) != 0) throw queue_closed();
  if (!side.writer) side.writer.emplace(side.messages);
  if (!put_when_room(side, {parts, message.attachments, size, sum}, until, stop)) return false;
  m.header().readers.wake();
  const std::uint64_t number = side.writer->number();
  if (!message.attachments.empty() && number < m.least_cursor()) side.messages.release(number);
  return true;
}

bool broadcast_core::has_room(std::size_t bytes) const {
  try {
    broadcast_side& side = side_of_broadcast(region_);
    const broadcast_memory& m = side.messages.m;
    if (m.shape.when_slow != slow_subscriber::block || bytes > m.shape.bytes) return true;
    side.messages.sweep_if_needed();
    if ((m.flags() & flag_closed) != 0) return true;
    if (!side.writer) side.writer.emplace(side.messages);
    return side.writer->has_room(bytes);
  } catch (const std::runtime_error&) {
    return true;  // put() says so: damaged, no memory
  } catch (const std::length_error&) {
    return true;  // too many threads put
  }
}

wait_word broadcast_core::arm_room() const {
  try {
    return side_of_broadcast(region_).messages.m.header().writers.arm();
  } catch (const queue_damaged&) {
    return {};
  }
}

// The flag stops who would put, and the end is put by anybody who sees it: it comes after all that was put, for every
// subscriber.
void broadcast_core::close(close_mode mode) const {
  broadcast_messages& messages = side_of_broadcast(region_).messages;
  const broadcast_memory& m = messages.m;
  messages.sweep_if_needed();
  const bool discard = mode == close_mode::discard;
  change_flags(m.header().flags, m.id, discard ? flag_closed | flag_discarded : flag_closed, 0);
  messages.put_end();
  if (discard) messages.evict_all();
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
  s.when_slow = options.when_slow;
  region_ = broadcast_memory::make(s);
}

}  // namespace covey::detail
