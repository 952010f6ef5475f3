/// @file
/// queue<T>: values travel between processes and threads, and survive the death of any of them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <covey/ipc/queue_verbs.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <stop_token>

namespace covey {

template <class T>
class queue;
template <class T>
class queue_reader;
template <class T>
class queue_writer;

/// Memory of a queue for one message, to be written in place: see queue::loan(). A range of its elements.
///
/// Safety: for the thread that borrowed it.
/// Death:  of its thread or process: the memory is the queue's again. Destroyed unpublished, it goes back at once.
template <class T>
class loaned {
 public:
  using value_type = typename T::value_type;  ///< of its elements
  loaned(loaned&& other) noexcept
      : core_(other.core_), memory_(std::exchange(other.memory_, {})) {}  ///< leaves the other empty
  /// Gives back what it had.
  loaned& operator=(loaned&& other) noexcept {
    std::swap(core_, other.core_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~loaned() {
    if (!memory_.bytes.empty()) core_.give_back(memory_);
  }

  /// The elements, to be written. Empty once published.
  [[nodiscard]] std::span<value_type> elements() const noexcept {
    if (memory_.bytes.empty()) return {};
    const auto payload = memory_.bytes.subspan(sizeof(std::uint64_t));
    return {reinterpret_cast<value_type*>(payload.data()), payload.size() / sizeof(value_type)};
  }
  [[nodiscard]] value_type* data() const noexcept { return elements().data(); }    ///< the first
  [[nodiscard]] std::size_t size() const noexcept { return elements().size(); }    ///< how many
  [[nodiscard]] value_type* begin() const noexcept { return data(); }              ///< the first
  [[nodiscard]] value_type* end() const noexcept { return data() + size(); }       ///< beyond the last
  value_type& operator[](std::size_t n) const noexcept { return data()[n]; }       ///< unchecked

 private:
  friend class queue<T>;
  loaned(detail::queue_core core, const detail::queue_core::loan& memory, std::uint64_t n)
      : core_(std::move(core)), memory_(memory) {
    std::memcpy(memory_.bytes.data(), &n, sizeof n);  // as a vector is encoded
  }
  detail::queue_core core_;
  detail::queue_core::loan memory_;
};

/// A message that is read where it lies: see queue::get_view(). A range of its elements.
///
/// Safety: thread-compatible. The message counts as in the hand of the thread that got it: when that ends, it is
///         delivered again.
/// Death:  as of any message in flight.
template <class T>
class message_view {
 public:
  using value_type = typename T::value_type;  ///< of its elements
  message_view(message_view&& other) noexcept
      : core_(other.core_),
        viewed_(other.viewed_),
        held_(std::exchange(other.held_, false)) {}  ///< leaves the other released
  message_view& operator=(message_view&&) = delete;
  ~message_view() { release(); }

  /// The elements. Valid until released.
  [[nodiscard]] std::span<const value_type> elements() const noexcept {
    const auto payload = viewed_.bytes().subspan(sizeof(std::uint64_t));
    return {reinterpret_cast<const value_type*>(payload.data()), payload.size() / sizeof(value_type)};
  }
  [[nodiscard]] const value_type* data() const noexcept { return elements().data(); }   ///< the first
  [[nodiscard]] std::size_t size() const noexcept { return elements().size(); }         ///< how many
  [[nodiscard]] const value_type* begin() const noexcept { return data(); }             ///< the first
  [[nodiscard]] const value_type* end() const noexcept { return data() + size(); }      ///< beyond the last
  const value_type& operator[](std::size_t n) const noexcept { return data()[n]; }      ///< unchecked
  [[nodiscard]] unsigned deliveries() const noexcept { return viewed_.deliveries; }     ///< as delivery::deliveries

  /// The message is done: it will not be delivered again, and its memory is the queue's.
  void release() noexcept {
    if (std::exchange(held_, false)) core_.finish(viewed_);
  }

 private:
  friend class queue<T>;
  message_view(detail::queue_core core, const detail::queue_core::viewed& v)
      : core_(std::move(core)), viewed_(v), held_(true) {
    try {
      detail::elements_of<value_type>(viewed_.bytes());
    } catch (const bad_message&) {
      release();
      throw;
    }
  }
  detail::queue_core core_;
  detail::queue_core::viewed viewed_;
  bool held_;
};

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
/// Order:   first in, first out for each producer (a thread); between producers none. A redelivered message comes
///          before newer ones. What happened before put() is visible after the get() that returned its message.
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

  /// Puts all of them in order, several at a time where there is room; one after another, not all or nothing. Blocks
  /// while full. Throws like put(); what was put before stays put.
  void put_many(std::span<const T> values) const { put_many_until_deadline(values, std::nullopt, nullptr); }

  /// Puts as many as there is room for now, in order, and returns how many. Throws like put().
  [[nodiscard]] std::size_t try_put_many(std::span<const T> values) const {
    return put_many_for(values, std::chrono::nanoseconds{0});
  }

  /// As put_many(), until `timeout` passed or `stop` was requested; returns how many were put. Throws like put().
  [[nodiscard]] std::size_t put_many_for(std::span<const T> values, std::chrono::nanoseconds timeout,
                                         std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_many_until_deadline(values, detail::deadline_in(timeout), &stopped);
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

  /// As get(), with the number of times that the message was delivered.
  std::optional<delivery<T>> get_delivery(std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    detail::queue_core::incoming message;
    if (core_.get(message, std::nullopt, &stopped) != detail::queue_core::get_result::got) return std::nullopt;
    return delivery<T>{decode_in_hand(message), message.deliveries};
  }

  /// Takes a message that failed: its consumer died and the queue's policy is `fail`, or it was delivered
  /// queue_options::deliveries_max times. Never blocks. It is in flight like any other; join() does not wait for those
  /// that nobody has taken. Throws queue_damaged, bad_message.
  std::optional<delivery<T>> get_failed() const {
    detail::queue_core::incoming message;
    if (!core_.get_failed(message)) return std::nullopt;
    return delivery<T>{decode_in_hand(message), message.deliveries};
  }

  /// How many failed messages wait for get_failed(); exact at one instant when nobody takes any meanwhile.
  [[nodiscard]] std::size_t failed() const { return core_.failed(); }

  /// Room for a message of `n` elements in the queue's own memory, to be written in place: without a copy, whatever its
  /// size. Blocks until there is memory for it. For T that are vectors or strings of numbers; the elements are not
  /// initialised. Throws like put().
  [[nodiscard]] loaned<T> loan(std::size_t n) const
    requires(detail::is_readable_in_place<T>)
  {
    return *loan_until(n, std::nullopt, nullptr);
  }

  /// Nothing when there is no memory for it now.
  [[nodiscard]] std::optional<loaned<T>> try_loan(std::size_t n) const
    requires(detail::is_readable_in_place<T>)
  {
    return loan_until(n, std::chrono::steady_clock::now(), nullptr);
  }

  /// Puts what was written into `written`, which is empty afterwards. Blocks while full. Only in the thread that
  /// borrowed it: throws std::logic_error elsewhere. Throws like put().
  void publish(loaned<T>& written) const { publish_until(written, std::nullopt, nullptr); }
  /// As above.
  void publish(loaned<T>&& written) const { publish_until(written, std::nullopt, nullptr); }

  /// Returns false, and leaves `written` as it is, when full. Never blocks for room. Throws like publish().
  [[nodiscard]] bool try_publish(loaned<T>& written) const {
    return publish_until(written, std::chrono::steady_clock::now(), nullptr);
  }

  /// As get(), but the message is read where it lies, without a copy (small ones are copied into the view). It is in
  /// flight until the view is released or destroyed. For T that are vectors or strings of numbers.
  std::optional<message_view<T>> get_view(std::stop_token stop = {}) const
    requires(detail::is_readable_in_place<T>)
  {
    const detail::stop_word stopped(std::move(stop));
    return get_view_until(std::nullopt, &stopped);
  }

  /// Takes a message if there is one, to be read where it lies. Never blocks.
  std::optional<message_view<T>> try_get_view() const
    requires(detail::is_readable_in_place<T>)
  {
    return get_view_until(std::chrono::steady_clock::now(), nullptr);
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

  /// For wait_any: ready when there is a message, or the end.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[c = &core_] { return c->ready(); }, [c = &core_] { return c->arm(); }};
  }

  void encode_handle(detail::encoder& out) const { core_.memory().encode(out); }  ///< for covey
  static queue decode_handle(detail::decoder& in) { return queue(detail::queue_core::decode(in)); }  ///< for covey

 private:
  friend class queue_reader<T>;
  friend class queue_writer<T>;
  explicit queue(detail::queue_core core) : core_(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    if constexpr (detail::is_bitwise<T>())
      return core_.put(whole(std::as_bytes(std::span(&value, 1))), until, stop);
    else if constexpr (detail::is_bulk<T>)
      return put_bulk(value, until, stop);
    else
      return put_encoded(value, until, stop);
  }

  bool put_encoded(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    const detail::borrowed<detail::encoder> message;
    message->bytes.clear();
    message->attachments.clear();
    detail::encode(*message, value);
    return core_.put(*message, until, stop);
  }

  static detail::queue_core::outgoing whole(std::span<const std::byte> bytes) { return {.bytes = bytes}; }

  // As it is encoded, but without a copy between.
  bool put_bulk(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    const std::uint64_t n = value.size();
    const detail::queue_core::outgoing m{.head = std::as_bytes(std::span(&n, 1)),
                                         .bytes = std::as_bytes(std::span(value.data(), value.size()))};
    return core_.put(m, until, stop);
  }

  std::optional<T> get_until_deadline(const detail::deadline& until, const detail::stop_word* stop) const {
    detail::queue_core::incoming message;
    if (core_.get(message, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    return decode_in_hand(message);
  }

  std::vector<T> get_many_until_deadline(std::size_t max, const detail::deadline& until,
                                         const detail::stop_word* stop) const {
    const std::size_t count = core_.get_many(max, until, stop).count;
    std::vector<T> values;
    detail::queue_core::incoming message;
    try {
      values.reserve(count);
      for (std::size_t n = 0; n < count; ++n) {
        core_.look_at(n, message);
        values.push_back(decode_message(message.bytes));
      }
    } catch (const std::bad_alloc&) {
      core_.drop_one_put_back_others(detail::queue_core::none);
      throw;
    } catch (...) {
      core_.drop_one_put_back_others(values.size());
      throw;
    }
    return values;
  }

  static T decode_message(std::span<const std::byte> bytes) {
    if constexpr (detail::is_bitwise<T>()) {
      std::array<std::byte, sizeof(T)> all;
      if (bytes.size() != all.size()) throw bad_message("covey: a message has not the size of what is read from it");
      std::memcpy(all.data(), bytes.data(), all.size());
      return std::bit_cast<T>(all);
    } else if constexpr (detail::is_readable_in_place<T>) {
      const auto elements = detail::elements_of<typename T::value_type>(bytes);
      return T(elements.begin(), elements.end());
    } else {
      detail::decoder in{bytes};
      T value = detail::decode<T>(in);
      detail::expect_end(in);
      return value;
    }
  }

  // What cannot be read will be no better the next time; but when there is no memory, somebody else may have some.
  T decode_in_hand(const detail::queue_core::incoming& message) const {
    try {
      return decode_message(message.bytes);
    } catch (const std::bad_alloc&) {
      core_.drop_one_put_back_others(detail::queue_core::none);
      throw;
    } catch (...) {
      core_.acknowledge();
      throw;
    }
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
      for (std::size_t n = 0; n < values.size(); ++n) messages[n] = whole(std::as_bytes(values.subspan(n, 1)));
      return core_.put_many(std::span(messages).first(values.size()), until, stop);
    } else {
      const detail::borrowed<detail::encoder> all;
      all->bytes.clear();
      all->attachments.clear();
      std::array<std::pair<std::size_t, std::size_t>, 17> ends{};
      for (std::size_t n = 0; n < values.size(); ++n) {
        detail::encode(*all, values[n]);
        ends[n + 1] = {all->bytes.size(), all->attachments.size()};
      }
      for (std::size_t n = 0; n < values.size(); ++n) {
        const auto [bytes, attachments] = ends[n];
        messages[n].bytes = std::span(all->bytes).subspan(bytes, ends[n + 1].first - bytes);
        messages[n].attachments = std::span(all->attachments).subspan(attachments, ends[n + 1].second - attachments);
      }
      return core_.put_many(std::span(messages).first(values.size()), until, stop);
    }
  }

  std::optional<loaned<T>> loan_until(std::size_t n, const detail::deadline& until,
                                      const detail::stop_word* stop) const {
    if (n > (~std::size_t{0} - sizeof(std::uint64_t)) / sizeof(typename T::value_type))
      throw std::length_error("covey: a loan is larger than memory");
    const std::size_t bytes = sizeof(std::uint64_t) + n * sizeof(typename T::value_type);
    const auto memory = core_.borrow(bytes, until, stop);
    if (!memory) return std::nullopt;
    return loaned<T>(core_, *memory, n);
  }

  bool publish_until(loaned<T>& written, const detail::deadline& until, const detail::stop_word* stop) const {
    if (written.core_.memory() != core_.memory())
      throw std::logic_error("covey: a loan is published to the queue from which it is");
    if (!core_.publish(written.memory_, until, stop)) return false;
    written.memory_ = {};
    return true;
  }

  std::optional<message_view<T>> get_view_until(const detail::deadline& until, const detail::stop_word* stop) const {
    detail::queue_core::viewed v;
    if (core_.get_view(v, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    return message_view<T>(core_, v);
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
  /// For wait_any: as queue's. Takes the role.
  [[nodiscard]] auto wait_hook() const { return taken().wait_hook(); }
  /// Takes the role now, not at the first get.
  void take_role() const { share_.take(); }
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
  /// Takes the role now, not at the first put.
  void take_role() const { share_.take(); }
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
