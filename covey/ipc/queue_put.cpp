// Putting: a message that was copied, several, or one that was written in place. Read docs/design/queue.md first.
#include <array>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_waits.hpp>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace covey::detail {
namespace {

// The payload as it is stored: the ids of the regions that it names, then its bytes.
[[gnu::noinline]] void store_pieces(const queue_core::outgoing& message, std::byte* to) {
  for (const auto part : {std::as_bytes(message.attachments), message.head, message.bytes}) {
    if (!part.empty()) std::memcpy(to, part.data(), part.size());
    to += part.size();
  }
}

std::size_t stored_size(const queue_core::outgoing& m) {
  return m.attachments.size_bytes() + m.head.size() + m.bytes.size();
}

[[noreturn, gnu::noinline]] void too_large(std::size_t bytes) {
  throw std::length_error("covey: a message of " + std::to_string(bytes) + " bytes is larger than its queue");
}

void refuse_if_too_large(const queue_view& q, std::size_t bytes) {
  if (bytes > q.shape.bytes) [[unlikely]]
    too_large(bytes);
}

// Calls f with this thread's writer.
template <class F>
auto with_writer(queue_side& side, const F& f) {
  if (side.q.shape.by_rank()) {
    if (!side.by_rank) side.by_rank.emplace(side.q);
    return f(*side.by_rank);
  }
  if (!side.writer) side.writer.emplace(side.q);
  return f(*side.writer);
}

// Not inlined, as all that is seldom: else the way of the others gets longer.
[[noreturn, gnu::noinline]] void refuse(std::uint32_t flags) {
  if ((flags & flag_closed) != 0) throw queue_closed();
  throw no_consumers();
}

constexpr std::uint32_t flags_that_refuse = flag_closed | flag_readers_lost;

// Before each try: looks after the dead and throws if nothing may be put. Returns the deaths that it knows of.
[[gnu::always_inline]] inline std::uint32_t expect_open(const queue_view& q) {
  const std::uint32_t deaths = sweep_if_needed(q);
  const std::uint32_t flags = q.flags();
  if ((flags & flags_that_refuse) != 0) [[unlikely]]
    refuse(flags);
  return deaths;
}

// Which pains a try may take: none, or to look for room in all lanes.
enum class effort { little, all };

// Tries until `once` has succeeded. False: `until` passed, or stopped. Not inlined, as a first try mostly succeeds.
template <class Writer, class Once>
[[gnu::noinline]] bool try_until(const Writer& w, const queue_view& q, const deadline& until, const stop_word* stop,
                                 const Once& once) {
  queue_header& h = q.header();
  for (bool spun = false;;) {
    const std::uint32_t deaths = expect_open(q);
    if (once(effort::little)) return true;
    // Not at once at the first free slot: looking at the head takes its cache line from those who move it.
    if (!out_of_time(until, stop) && !std::exchange(spun, true) &&
        look_and_yield_until([&] { return w.might_have_room(); }, true)) {
      for (int i = 0; i < 20; ++i) pause_cpu();
    } else {
      if (once(effort::all)) return true;
      if (out_of_time(until, stop)) return false;
      bool done = false;
      const auto look = [&] {
        done = once(effort::all);
        return done || (q.flags() & flags_that_refuse) != 0;
      };
      sleep_unless(h.writable, h.sleeping_writers, deaths, until, stop, look, sleeping::nap_first);
      if (done) return true;
      spun = false;
    }
  }
}

// Nothing: no memory for it until `until`, or stopped.
template <class Writer>
std::optional<std::uint64_t> reserve(Writer& w, const queue_view& q, std::uint64_t bytes, const deadline& until,
                                     const stop_word* stop) {
  std::optional<std::uint64_t> extent = w.reserve(bytes);
  if (!extent) [[unlikely]]
    try_until(w, q, until, stop, [&](effort) { return (extent = w.reserve(bytes)).has_value(); });
  return extent;
}

// Closed meanwhile: then readers may have been told of the end already.
[[gnu::noinline]] void take_back(lane_owner& writer, const queue_view& q, std::uint64_t position) {
  if (!writer.retract(position)) return;
  after_release(q, 1);  // who joins may have waited for just this one
  throw queue_closed();
}

// It was committed.
[[gnu::always_inline]] inline void after_commit(lane_owner& writer, const queue_view& q, std::uint64_t position) {
  if ((q.flags() & flag_closed) != 0) [[unlikely]]
    take_back(writer, q, position);
  wake_readers(q.header(), 1);
}

// Commits `p` when there is room. False: `until` passed, or stopped.
template <class Writer>
[[gnu::always_inline]] inline bool publish_when_room(Writer& w, const queue_view& q, const parcel& p,
                                                     const deadline& until, const stop_word* stop) {
  expect_open(q);
  std::optional<std::uint64_t> position = w.publish(p);
  if (!position) [[unlikely]] {
    const auto once = [&](effort e) {
      return (position = e == effort::little ? w.publish(p) : w.publish_with_more(p)).has_value();
    };
    if (!try_until(w, q, until, stop, once)) return false;
  }
  after_commit(w, q, *position);
  return true;
}

// A message that fits into its slot, but comes in several pieces.
template <class Writer>
[[gnu::noinline]] bool put_pieces(Writer& w, const queue_view& q, const queue_core::outgoing& message, parcel p,
                                  const deadline& until, const stop_word* stop) {
  std::byte here[inline_bytes_max];
  store_pieces(message, here);
  p.here = here;
  return publish_when_room(w, q, p, until, stop);
}

// Comes back unless it was published, and when the message was taken back.
template <class Writer>
struct reserved_extent {
  reserved_extent(Writer& writer, std::uint64_t at) : w(writer), extent(at) {}
  reserved_extent(const reserved_extent&) = delete;
  reserved_extent& operator=(const reserved_extent&) = delete;
  ~reserved_extent() {
    if (!published) [[unlikely]]
      w.give_back(extent);
  }
  Writer& w;
  std::uint64_t extent;
  bool published = false;
};

template <class Writer>
bool put_large(Writer& w, const queue_view& q, const queue_core::outgoing& message, parcel& p, const deadline& until,
               const stop_word* stop) {
  const auto extent = reserve(w, q, p.size, until, stop);
  if (!extent) return false;
  p.extent = *extent;
  reserved_extent payload(w, p.extent);
  std::byte* const to = w.payload(p.extent);
  if (p.size == message.bytes.size())
    std::memcpy(to, message.bytes.data(), p.size);
  else
    store_pieces(message, to);
  return payload.published = publish_when_room(w, q, p, until, stop);
}

template <class Writer>
[[gnu::always_inline]] inline bool put_by(Writer& w, const queue_view& q, const queue_core::outgoing& message,
                                          const deadline& until, const stop_word* stop) {
  const std::size_t size = stored_size(message);
  refuse_if_too_large(q, size);
  parcel p{.size = size, .references = message.attachments, .rank = message.rank};
  if (size > inline_bytes_max) return put_large(w, q, message, p, until, stop);
  if (size != message.bytes.size()) return put_pieces(w, q, message, p, until, stop);
  p.here = message.bytes.data();
  return publish_when_room(w, q, p, until, stop);
}

// By rank, or this thread's first.
[[gnu::noinline]] bool put_otherwise(queue_side& side, const queue_core::outgoing& message, const deadline& until,
                                     const stop_word* stop) {
  return with_writer(side, [&](auto& w) { return put_by(w, side.q, message, until, stop); });
}

}  // namespace

bool queue_core::put(const outgoing& message, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  if (!side.writer) [[unlikely]]
    return put_otherwise(side, message, until, stop);
  side.writer->fetch_ahead();
  return put_by(*side.writer, side.q, message, until, stop);
}

std::size_t queue_core::put_many(std::span<const outgoing> messages, const deadline& until,
                                 const stop_word* stop) const {
  queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  std::size_t done = 0;
  while (done < messages.size()) {
    expect_open(side.q);
    std::array<std::span<const std::byte>, lane_writer::several_max> payloads;
    std::size_t n = 0;
    for (; n < payloads.size() && done + n < messages.size(); ++n) {
      const outgoing& m = messages[done + n];
      if (m.bytes.size() > inline_bytes_max || stored_size(m) != m.bytes.size()) break;
      payloads[n] = m.bytes;
    }
    if (!side.writer) side.writer.emplace(side.q);
    const auto published = side.writer->publish_several(std::span(payloads).first(n));
    if (published.count == 0) {
      if (!put(messages[done], until, stop)) break;
      ++done;
      continue;
    }
    done += published.count;
    if ((side.q.flags() & flag_closed) != 0) {
      // The last first: what a reader still gets is a beginning of what was put.
      std::size_t retracted = 0;
      for (std::size_t i = published.count; i-- > 0;) retracted += side.writer->retract(published.first + i) ? 1 : 0;
      if (retracted != 0) {
        after_release(side.q, retracted);
        throw queue_closed();
      }
    }
    wake_readers(h, published.count);
  }
  return done;
}

std::optional<queue_core::loan> queue_core::borrow(std::size_t bytes, const deadline& until,
                                                   const stop_word* stop) const {
  queue_side& side = side_of(region_);
  refuse_if_too_large(side.q, bytes);
  return with_writer(side, [&](auto& w) -> std::optional<loan> {
    expect_open(side.q);
    const auto extent = reserve(w, side.q, bytes, until, stop);
    if (!extent) return std::nullopt;
    return loan{*extent, {w.payload(*extent), bytes}};
  });
}

bool queue_core::publish(const loan& written, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  return with_writer(side, [&](auto& w) {
    if (!w.has_reserved(written.extent))
      throw std::logic_error("covey: a loan is published by the thread that took it, and once");
    const parcel p{.size = written.bytes.size(), .extent = written.extent, .rank = written.rank};
    return publish_when_room(w, side.q, p, until, stop);
  });
}

void queue_core::give_back(const loan& unwanted) const noexcept {
  try {
    queue_side& side = side_of(region_);
    const auto give_back_to = [&](auto& w) {
      if (w && w->has_reserved(unwanted.extent)) w->give_back(unwanted.extent);
    };
    give_back_to(side.writer);
    give_back_to(side.by_rank);
  } catch (...) {
    // Damaged: it is of no more use.
  }
}

bool queue_core::has_room(std::size_t bytes) const {
  try {
    queue_side& side = side_of(region_);
    expect_open(side.q);
    refuse_if_too_large(side.q, bytes);
    return with_writer(side, [&](auto& w) {
      if (bytes > inline_bytes_max) {
        const auto extent = w.reserve(bytes);
        if (!extent) return false;
        w.give_back(*extent);
      }
      return w.has_room_for({.size = bytes});
    });
  } catch (const std::runtime_error&) {
    return true;  // put() says so: closed, nobody reads, damaged, no memory
  } catch (const std::length_error&) {
    return true;  // too large, or too many threads put
  }
}

}  // namespace covey::detail
