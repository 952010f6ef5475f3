/// @file
/// queue<T>: values travel between processes and threads, and survive the death of any of them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <covey/ipc/queue_verbs.hpp>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>

namespace covey {

/// A bounded first-in first-out queue of T between any number of producers and consumers, in threads and processes.
///
/// A message is *in flight* from the get() that returns it until the same thread calls task_done() or get() again, or
/// ends in order. When its consumer dies in between, the message is delivered again or dropped, as
/// queue_options::on_death says.
///
/// Handle:  a copy is the same queue; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   a participant killed at any instruction leaves every committed message in the queue, in flight at a living
///          consumer, or consumed; a message that was being put is not seen. Nobody waits for the dead: what a death
///          means for those who wait (a message again, a lost role), they learn at once, or up to 10 ms later.
/// Order:   first in, first out for each producer (a thread); between producers none. A redelivered message comes
///          before newer ones. What happened before put() is visible after the get() that returned its message.
/// Limits:  256 threads put at a time; fewer where more than 400,000 items may wait (64 of a million),
///          or where RLIMIT_FSIZE makes the address range smaller, but at least 8. put() throws
///          std::length_error in one more. Getting has no such limit.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/queue.md. Example: examples/tour_04_queue.cpp; without a copy: examples/frames.cpp
template <class T>
class queue : public queue_verbs<queue<T>, T> {
  using verbs = queue_verbs<queue<T>, T>;

 public:
  /// Makes a queue for `items` messages. Throws std::invalid_argument (0, or more than 16 million), and
  /// std::system_error if no shared memory can be had.
  explicit queue(std::size_t items = queue_options{}.items) : queue(queue_options{.items = items}) {}

  /// Makes a queue. Throws as above, also for bytes (0, or more than 990 GiB) and deliveries_max (more than 126).
  explicit queue(const queue_options& options) : verbs(detail::queue_core(options)) {}

  /// For covey.
  static queue decode_handle(detail::decoder& in) { return queue(detail::queue_core::decode(in)); }

 private:
  friend verbs;
  friend class reader_of<queue>;
  friend class writer_of<queue>;
  friend in_place_forms<queue, T>;
  using verbs::core_;
  explicit queue(detail::queue_core core) : verbs(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    return detail::put_message(value, [&](const auto& m) { return core_.put(m, until, stop); });
  }

  bool publish_until_deadline(loaned<T>& written, const detail::deadline& until, const detail::stop_word* stop) const {
    return this->publish_by_rank(written, 0, until, stop);
  }

  std::size_t put_many_until_deadline(std::span<const T> values, const detail::deadline& until,
                                      const detail::stop_word* stop) const {
    constexpr std::size_t at_once = 16;
    for (std::size_t done = 0; done < values.size();) {
      const auto some = values.subspan(done, std::min(at_once, values.size() - done));
      const std::size_t put = put_some(some, until, stop);
      done += put;
      if (put < some.size()) return done;
    }
    return values.size();
  }

  // At most 16.
  std::size_t put_some(std::span<const T> values, const detail::deadline& until, const detail::stop_word* stop) const {
    std::array<detail::queue_core::outgoing, 16> messages;
    if constexpr (detail::is_bitwise<T>()) {
      for (std::size_t n = 0; n < values.size(); ++n) messages[n].bytes = std::as_bytes(values.subspan(n, 1));
      return core_.put_many(std::span(messages).first(values.size()), until, stop);
    } else {
      const detail::borrowed<detail::encoder> all;
      all->bytes.clear();
      all->attachments.clear();
      std::array<std::pair<std::size_t, std::size_t>, 17> ends{};
      std::exception_ptr refused;
      std::size_t encoded = 0;
      try {
        for (; encoded < values.size(); ++encoded) {
          detail::encode(*all, values[encoded]);
          ends[encoded + 1] = {all->bytes.size(), all->attachments.size()};
        }
      } catch (...) {
        refused = std::current_exception();  // what comes before is put all the same
      }
      for (std::size_t n = 0; n < encoded; ++n) {
        const auto [bytes, attachments] = ends[n];
        messages[n].bytes = std::span(all->bytes).subspan(bytes, ends[n + 1].first - bytes);
        messages[n].attachments = std::span(all->attachments).subspan(attachments, ends[n + 1].second - attachments);
      }
      const std::size_t put = core_.put_many(std::span(messages).first(encoded), until, stop);
      if (refused && put == encoded) std::rethrow_exception(refused);
      return put;
    }
  }
};

/// The reading end of a queue: see queue::reader().
template <class T>
using queue_reader = reader_of<queue<T>>;

/// The writing end of a queue: see queue::writer().
template <class T>
using queue_writer = writer_of<queue<T>>;

}  // namespace covey
