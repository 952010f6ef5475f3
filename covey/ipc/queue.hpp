/// @file
/// queue<T>: values travel between processes and threads, and survive the death of any of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <covey/ipc/queue_core.hpp>
#include <memory>
#include <optional>
#include <stop_token>

namespace covey {

template <class T>
class queue_reader;
template <class T>
class queue_writer;

namespace detail {

/// A buffer of this thread that keeps its memory from one message to the next, unless the message was large. While it
/// is lent, others get one of their own: encoding may put to another queue.
template <class T>
class borrowed {
 public:
  borrowed() : from_spare_(!std::exchange(lent, true)), own_(from_spare_ ? nullptr : std::make_unique<T>()) {}
  borrowed(const borrowed&) = delete;
  borrowed& operator=(const borrowed&) = delete;
  ~borrowed() {
    if (!from_spare_) return;
    if (spare.bytes.capacity() > kept_bytes_max) spare = T{};
    lent = false;
  }
  T& operator*() const noexcept { return from_spare_ ? spare : *own_; }
  T* operator->() const noexcept { return &**this; }

 private:
  static constexpr std::size_t kept_bytes_max = 64 * 1024;
  static inline thread_local T spare{};
  static inline thread_local bool lent = false;
  bool from_spare_;
  std::unique_ptr<T> own_;
};

}  // namespace detail

/// A bounded first-in first-out queue of T between any number of producers and consumers, in threads and processes.
///
/// A message is *in flight* from the get() that returns it until the same thread calls task_done() or get() again, or
/// ends in order. When its consumer dies in between, the message is delivered again or dropped, as
/// queue_options::on_death says.
///
/// Handle:  a copy is the same queue; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   a participant killed at any instruction leaves every committed message in the queue, in flight at a living
/// consumer, or
///          consumed; a message that was being put is not seen. Nobody waits for the dead.
/// Order:   first in, first out; a redelivered message comes before newer ones. What happened before put() is visible
/// after the get() that
///          returned its message.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/queue.md. Example: examples/tour_04_queue.cpp
template <class T>
class queue {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;       ///< what it carries

  /// Makes a queue for `items` messages. Throws std::system_error if no shared memory can be had.
  explicit queue(std::size_t items = queue_options{}.items) : queue(queue_options{.items = items}) {}

  /// Makes a queue.
  explicit queue(const queue_options& options) : core_(options) { detail::require_travels<T>(); }

  /// Blocks while full. When it returns, the message is committed: it outlives this process.
  /// Throws queue_closed, no_consumers, std::length_error (larger than the queue), queue_damaged.
  void put(const T& value) const { put_until_deadline(value, std::nullopt, nullptr); }

  /// Returns false when full. Never blocks for room. Throws like put().
  [[nodiscard]] bool try_put(const T& value) const { return put_for(value, std::chrono::nanoseconds{0}); }

  /// Returns false when it stayed full for `timeout`, or `stop` was requested. Throws like put().
  [[nodiscard]] bool put_for(const T& value, std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_until_deadline(value, detail::deadline_in(timeout), &stopped);
  }

  /// As put_for, with a point in time.
  [[nodiscard]] bool put_until(const T& value, std::chrono::steady_clock::time_point until,
                               std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_until_deadline(value, until, &stopped);
  }

  /// Blocks until a message comes, and takes it; nothing when the queue is closed and drained.
  /// Acknowledges this thread's message before. Throws no_producers, queue_damaged, bad_message.
  std::optional<T> get() const { return get_until_deadline(std::nullopt, nullptr); }

  /// Takes a message if there is one. Never blocks.
  std::optional<T> try_get() const { return get_for(std::chrono::nanoseconds{0}); }

  /// As get(), but nothing also when none came within `timeout` or `stop` was requested; closed() tells which.
  std::optional<T> get_for(std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_until_deadline(detail::deadline_in(timeout), &stopped);
  }

  /// As get(), but nothing also when `stop` was requested.
  std::optional<T> get(std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return get_until_deadline(std::nullopt, &stopped);
  }

  /// As get_for, with a point in time.
  std::optional<T> get_until(std::chrono::steady_clock::time_point until, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_until_deadline(until, &stopped);
  }

  /// Blocks until a message comes, and takes all that wait, but at most `max`, oldest first; none when the queue is
  /// closed and drained. All of them stay in flight, together, until this thread's next get of any kind, or one
  /// task_done() for each: a consumer that dies in the middle of the batch gets, or leaves to others, all that it had
  /// not acknowledged. Acknowledges this thread's messages before. Throws like get(); when one message cannot be read,
  /// that one is dropped and the others wait again.
  std::vector<T> get_many(std::size_t max) const { return get_many_until_deadline(max, std::nullopt, nullptr); }

  /// As get_many(), but none also when none came within `timeout` or `stop` was requested; closed() tells which.
  std::vector<T> get_many_for(std::size_t max, std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_many_until_deadline(max, detail::deadline_in(timeout), &stopped);
  }

  /// The oldest message that this thread got is done: it will not be delivered again. Throws std::logic_error when
  /// there is none.
  void task_done() const {
    if (!core_.acknowledge()) throw std::logic_error("covey: task_done without a message in hand");
  }

  /// Blocks until every message that was put is done. The dead's are redelivered or dropped, so it never waits for
  /// them. Throws no_consumers when the reader role was lost.
  void join() const { core_.join(std::nullopt, nullptr); }

  /// Returns false if `timeout` passed, or `stop` was requested, first.
  [[nodiscard]] bool join_for(std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return core_.join(detail::deadline_in(timeout), &stopped);
  }

  /// From now on put() throws queue_closed. Readers get what waits, then the end; with discard the end at once. A
  /// message that comes back from a dead consumer after the others saw the end waits for whoever gets next.
  void close(close_mode mode = close_mode::drain) const { core_.close(mode); }

  /// Whether close() was called.
  [[nodiscard]] bool closed() const { return core_.closed(); }

  /// Messages waiting, exact at one instant during the call.
  [[nodiscard]] std::size_t size() const { return core_.size(); }

  /// Messages waiting, without a lock; may be stale.
  [[nodiscard]] std::size_t size_approx() const noexcept { return core_.size_approx(); }

  /// Whether no message waits, exact at one instant during the call.
  [[nodiscard]] bool empty() const { return size() == 0; }

  /// How many messages may wait.
  [[nodiscard]] std::size_t capacity() const noexcept { return core_.capacity(); }

  /// The reading end. Taken by the process that it arrives in or that first gets from it; when the last process that
  /// took it is gone, put() throws no_consumers.
  [[nodiscard]] queue_reader<T> reader() const { return queue_reader<T>(*this); }

  /// The writing end. Taken by the process that it arrives in or that first puts to it; when the last process that took
  /// it died without close(), get() drains and throws no_producers.
  [[nodiscard]] queue_writer<T> writer() const { return queue_writer<T>(*this); }

  /// Whether both name the same queue.
  bool operator==(const queue& other) const noexcept { return core_.memory() == other.core_.memory(); }

  void encode_handle(detail::encoder& out) const { core_.memory().encode(out); }  ///< for covey
  static queue decode_handle(detail::decoder& in) { return queue(detail::queue_core::decode(in)); }  ///< for covey

 private:
  friend class queue_reader<T>;
  friend class queue_writer<T>;
  explicit queue(detail::queue_core core) : core_(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    const detail::borrowed<detail::encoder> message;
    message->bytes.clear();
    message->attachments.clear();
    detail::encode(*message, value);
    return core_.put(*message, until, stop);
  }

  std::optional<T> get_until_deadline(const detail::deadline& until, const detail::stop_word* stop) const {
    const detail::borrowed<detail::queue_core::taken> message;
    if (core_.get(*message, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    detail::decoder in{message->bytes};
    try {
      T value = detail::decode<T>(in);
      detail::expect_end(in);
      return value;
    } catch (...) {
      core_.acknowledge();  // it will be no better the next time
      throw;
    }
  }

  std::vector<T> get_many_until_deadline(std::size_t max, const detail::deadline& until,
                                         const detail::stop_word* stop) const {
    std::vector<detail::queue_core::taken> messages(std::min(max, capacity()));
    const std::size_t count = core_.get_many(messages, until, stop).count;
    std::vector<T> values;
    values.reserve(count);
    try {
      for (std::size_t n = 0; n < count; ++n) {
        detail::decoder in{messages[n].bytes};
        values.push_back(detail::decode<T>(in));
        detail::expect_end(in);
      }
    } catch (...) {
      core_.drop_one_put_back_others(values.size());
      throw;
    }
    return values;
  }

  detail::queue_core core_;
};

namespace detail {

/// One process's share of a role: taken at the first use or at arrival, left when the last copy goes.
template <class T>
class role_share {
 public:
  role_share(queue_core core, queue_role role) : core_(std::move(core)), role_(role) {}
  role_share(const role_share& other) : core_(other.core_), role_(other.role_) {
    if (other.taken()) take();
  }
  role_share& operator=(role_share other) noexcept {
    std::swap(core_, other.core_);
    std::swap(taken_by_, other.taken_by_);
    return *this;
  }
  ~role_share() {
    if (taken()) core_.leave_role(role_);
  }
  void take() const {
    if (taken()) return;
    core_.take_role(role_);
    taken_by_ = this_process_id();
  }

 private:
  // A forked child has a copy that its parent has taken.
  [[nodiscard]] bool taken() const { return taken_by_ == this_process_id(); }

  queue_core core_;
  queue_role role_;
  mutable process_id taken_by_ = 0;
};

}  // namespace detail

/// The reading end of a queue: see queue::reader(). Its members are the queue's.
///
/// Safety: process-safe; one object is thread-compatible: give each thread its own copy.
template <class T>
class queue_reader {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// See queue::get().
  std::optional<T> get() const { return taken().get(); }
  /// See queue::get().
  std::optional<T> get(std::stop_token stop) const { return taken().get(std::move(stop)); }
  /// See queue::try_get().
  std::optional<T> try_get() const { return taken().try_get(); }
  /// See queue::get_for().
  std::optional<T> get_for(std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    return taken().get_for(timeout, std::move(stop));
  }
  /// See queue::get_many().
  std::vector<T> get_many(std::size_t max) const { return taken().get_many(max); }
  /// See queue::get_many_for().
  std::vector<T> get_many_for(std::size_t max, std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    return taken().get_many_for(max, timeout, std::move(stop));
  }
  /// See queue::task_done().
  void task_done() const { taken().task_done(); }
  /// The queue itself, without the role.
  [[nodiscard]] const covey::queue<T>& queue() const noexcept { return queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static queue_reader decode_handle(detail::decoder& in) {
    queue_reader r(covey::queue<T>::decode_handle(in));
    r.share_.take();
    return r;
  }

 private:
  friend class covey::queue<T>;
  explicit queue_reader(covey::queue<T> q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::reader) {}
  const covey::queue<T>& taken() const {
    share_.take();
    return queue_;
  }
  covey::queue<T> queue_;
  detail::role_share<T> share_;
};

/// The writing end of a queue: see queue::writer(). Its members are the queue's.
///
/// Safety: process-safe; one object is thread-compatible: give each thread its own copy.
template <class T>
class queue_writer {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// See queue::put().
  void put(const T& value) const { taken().put(value); }
  /// See queue::try_put().
  [[nodiscard]] bool try_put(const T& value) const { return taken().try_put(value); }
  /// See queue::put_for().
  [[nodiscard]] bool put_for(const T& value, std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    return taken().put_for(value, timeout, std::move(stop));
  }
  /// See queue::close().
  void close(close_mode mode = close_mode::drain) const { taken().close(mode); }
  /// The queue itself, without the role.
  [[nodiscard]] const covey::queue<T>& queue() const noexcept { return queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static queue_writer decode_handle(detail::decoder& in) {
    queue_writer w(covey::queue<T>::decode_handle(in));
    w.share_.take();
    return w;
  }

 private:
  friend class covey::queue<T>;
  explicit queue_writer(covey::queue<T> q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::writer) {}
  const covey::queue<T>& taken() const {
    share_.take();
    return queue_;
  }
  covey::queue<T> queue_;
  detail::role_share<T> share_;
};

}  // namespace covey
