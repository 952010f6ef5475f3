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
void store_payload(const queue_core::outgoing& message, std::byte* to) {
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

// Not inlined: else the way of the other queues gets longer.
template <class F>
[[gnu::noinline]] auto with_writer_by_rank(queue_side& side, const F& f) {
  if (!side.by_rank) side.by_rank.emplace(side.q);
  return f(*side.by_rank);
}

// Calls f with this thread's writer.
template <class F>
auto with_writer(queue_side& side, const F& f) {
  if (side.q.shape.by_rank()) [[unlikely]]
    return with_writer_by_rank(side, f);
  if (!side.writer) side.writer.emplace(side.q);
  return f(*side.writer);
}

// Not inlined, as all that is seldom: else the way of the others gets longer.
[[noreturn, gnu::noinline]] void refuse(std::uint32_t flags) {
  if ((flags & flag_closed) != 0) throw queue_closed();
  throw no_consumers();
}

constexpr std::uint32_t flags_that_refuse = flag_closed | flag_readers_lost;

void throw_if_refused(const queue_view& q) {
  const std::uint32_t flags = q.flags();
  if ((flags & flags_that_refuse) != 0) [[unlikely]]
    refuse(flags);
}

// Which pains a try may take: none, or to look for room in all lanes.
enum class effort { little, all };

// As put_when_room(), after a try that failed under these deaths.
template <class Writer, class Once>
[[gnu::noinline]] bool put_later(const Writer& w, const queue_view& q, const deadline& until, const stop_word* stop,
                                 std::uint32_t deaths, const Once& once) {
  queue_header& h = q.header();
  for (bool spun = false;;) {
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
    deaths = sweep_if_needed(q);
    throw_if_refused(q);
    if (once(effort::little)) return true;
  }
}

// Tries until `once` has succeeded. False: `until` passed, or stopped.
template <class Writer, class Once>
bool put_when_room(const Writer& w, const queue_view& q, const deadline& until, const stop_word* stop,
                   const Once& once) {
  const std::uint32_t deaths = sweep_if_needed(q);
  throw_if_refused(q);
  return once(effort::little) || put_later(w, q, until, stop, deaths, once);
}

// What a put has got hold of until its message is committed.
template <class Writer>
class unpublished {
 public:
  unpublished(Writer& writer, const queue_core::outgoing& message, std::size_t size)
      : writer_(writer), message_(message) {
    parcel_.size = size;
    parcel_.references = message.attachments;
    parcel_.rank = message.rank;
  }
  unpublished(const unpublished&) = delete;
  unpublished& operator=(const unpublished&) = delete;
  ~unpublished() {
    if (!position_ && parcel_.extent != 0) writer_.give_back(parcel_.extent);
  }

  bool try_once(effort e) {
    if (!prepare()) return false;
    position_ = e == effort::little ? writer_.publish(parcel_) : writer_.publish_with_more(parcel_);
    return position_.has_value();
  }
  [[nodiscard]] std::uint64_t position() const { return *position_; }

 private:
  // False: there is no memory for it now.
  bool prepare() {
    if (prepared_) return true;
    if (parcel_.size > inline_bytes_max) {
      const auto extent = writer_.reserve(parcel_.size);
      if (!extent) return false;
      parcel_.extent = *extent;
      store_payload(message_, writer_.payload(*extent));
    } else if (parcel_.size == message_.bytes.size()) {
      parcel_.here = message_.bytes.data();
    } else {
      store_payload(message_, here_);
      parcel_.here = here_;
    }
    return prepared_ = true;
  }

  Writer& writer_;
  const queue_core::outgoing& message_;
  parcel parcel_;
  std::byte here_[inline_bytes_max];
  bool prepared_ = false;
  std::optional<std::uint64_t> position_;
};

// Closed meanwhile: then readers may have been told of the end already.
[[gnu::noinline]] void take_back(lane_owner& writer, const queue_view& q, std::uint64_t position) {
  if (!writer.retract(position)) return;
  after_release(q, 1);  // who joins may have waited for just this one
  throw queue_closed();
}

// It was committed.
void after_commit(lane_owner& writer, const queue_view& q, std::uint64_t position) {
  if ((q.flags() & flag_closed) != 0) [[unlikely]]
    take_back(writer, q, position);
  wake_readers(q.header(), 1);
}

}  // namespace

bool queue_core::put(const outgoing& message, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  if (side.writer) side.writer->fetch_ahead();
  const std::size_t size = stored_size(message);
  refuse_if_too_large(side.q, size);
  return with_writer(side, [&](auto& w) {
    unpublished u(w, message, size);
    if (!put_when_room(w, side.q, until, stop, [&](effort e) { return u.try_once(e); })) return false;
    after_commit(w, side.q, u.position());
    return true;
  });
}

std::size_t queue_core::put_many(std::span<const outgoing> messages, const deadline& until,
                                 const stop_word* stop) const {
  queue_side& side = side_of(region_);
  queue_header& h = side.q.header();
  std::size_t done = 0;
  while (done < messages.size()) {
    sweep_if_needed(side.q);
    throw_if_refused(side.q);
    std::array<parcel, lane_writer::several_max> parcels;
    std::size_t n = 0;
    for (; n < parcels.size() && done + n < messages.size(); ++n) {
      const outgoing& m = messages[done + n];
      if (m.bytes.size() > inline_bytes_max || stored_size(m) != m.bytes.size()) break;
      parcels[n] = {.size = m.bytes.size(), .here = m.bytes.data()};
    }
    if (!side.writer) side.writer.emplace(side.q);
    const auto published = side.writer->publish_several(std::span(parcels).first(n));
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
    std::optional<std::uint64_t> extent;
    const auto once = [&](effort) { return (extent = w.reserve(bytes)).has_value(); };
    if (!put_when_room(w, side.q, until, stop, once)) return std::nullopt;
    return loan{*extent, {w.payload(*extent), bytes}};
  });
}

bool queue_core::publish(const loan& written, const deadline& until, const stop_word* stop) const {
  queue_side& side = side_of(region_);
  return with_writer(side, [&](auto& w) {
    if (!w.has_reserved(written.extent))
      throw std::logic_error("covey: a loan is published by the thread that took it, and once");
    const parcel p{.size = written.bytes.size(), .extent = written.extent, .in_place = true, .rank = written.rank};
    std::optional<std::uint64_t> position;
    const auto once = [&](effort e) {
      position = e == effort::little ? w.publish(p) : w.publish_with_more(p);
      return position.has_value();
    };
    if (!put_when_room(w, side.q, until, stop, once)) return false;
    after_commit(w, side.q, *position);
    return true;
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
    sweep_if_needed(side.q);
    throw_if_refused(side.q);
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
