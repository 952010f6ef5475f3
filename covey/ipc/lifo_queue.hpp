/// @file
/// lifo_queue: the newest message goes first.
#pragma once

#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_verbs.hpp>

namespace covey {

/// A bounded queue of T from which the newest message is got first, between any number of producers and consumers, in
/// threads and processes. Its verbs are queue's.
///
/// Handle:  a copy is the same queue; give it to any task, process or message.
/// Safety:  process-safe. Who is stopped (SIGSTOP), at whatever instruction, stops nobody: there is no lock.
/// Death:   a participant killed at any instruction leaves every committed message in the queue, in flight at a living
///          consumer, or consumed; a message that was being put is not seen. Nobody waits for the dead: what a death
///          means for those who wait, they learn at once, or up to 10 ms later.
/// Order:   last in, first out, over all producers. A redelivered message comes back to the place that it had. What
///          happened before put() is visible after the get() that returned its message.
/// Limits:  256 threads put at a time; fewer where more than 200,000 items may wait (50 of a million), or where
/// RLIMIT_FSIZE
///          makes the address range smaller, but at least 8. put() throws std::length_error in one more. Getting has no
///          such limit. size(), size_approx() and a put that finds no room look at every message that waits.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/ordered_queue.md
template <class T>
class lifo_queue : public queue_verbs<lifo_queue<T>, T> {
  using verbs = queue_verbs<lifo_queue<T>, T>;

 public:
  /// Makes a queue for `items` messages. Throws std::invalid_argument (0, or more than 16 million), and
  /// std::system_error if no shared memory can be had.
  explicit lifo_queue(std::size_t items = queue_options{}.items) : lifo_queue(queue_options{.items = items}) {}

  /// Makes a queue. Throws as above, also for bytes (0, or more than 990 GiB) and deliveries_max (more than 126).
  explicit lifo_queue(const queue_options& options)
      : verbs(detail::queue_core(options, detail::queue_order::newest_first)) {}

  /// For covey.
  static lifo_queue decode_handle(detail::decoder& in) {
    return lifo_queue(detail::queue_core::decode(in, detail::queue_order::newest_first));
  }

 private:
  friend verbs;
  friend class reader_of<lifo_queue>;
  friend class writer_of<lifo_queue>;
  friend in_place_forms<lifo_queue, T>;
  explicit lifo_queue(detail::queue_core core) : verbs(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    return detail::put_message(value, [&](const auto& m) { return this->core_.put(m, until, stop); });
  }

  bool publish_until_deadline(loaned<T>& written, const detail::deadline& until, const detail::stop_word* stop) const {
    return this->publish_by_rank(written, 0, until, stop);
  }
};

}  // namespace covey
