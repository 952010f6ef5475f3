/// @file
/// What all queues can do: the put and get families, acknowledging, joining, closing, roles; once, over a core that
/// knows in which order messages go.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <covey/ipc/queue_core.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <stop_token>

namespace covey {

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
    if (spare.value.bytes.capacity() > kept_bytes_max) spare.value = T{};
    lent = false;
  }
  T& operator*() const noexcept { return from_spare_ ? spare.value : *own_; }
  T* operator->() const noexcept { return &**this; }

 private:
  static constexpr std::size_t kept_bytes_max = 64 * 1024;
  struct kept {
    T value{};
    ~kept() { lent = true; }  // other destructors may put and get after this one
  };
  static inline thread_local kept spare{};
  static inline constinit thread_local bool lent = false;
  bool from_spare_;
  std::unique_ptr<T> own_;
};

/// A vector or string of numbers, whose elements lie aligned in a message.
template <class T>
inline constexpr bool is_readable_in_place = false;
template <class T>
  requires(is_bulk<T>)
inline constexpr bool is_readable_in_place<T> = alignof(typename T::value_type) <= alignof(std::uint64_t);

/// The elements of a vector or string of numbers as it is encoded: their number, then they themselves.
template <class Element>
std::span<const Element> elements_of(std::span<const std::byte> message) {
  std::uint64_t n = 0;
  if (message.size() >= sizeof n) std::memcpy(&n, message.data(), sizeof n);
  if (message.size() < sizeof n || n != (message.size() - sizeof n) / sizeof(Element) ||
      (message.size() - sizeof n) % sizeof(Element) != 0)
    throw bad_message("covey: a message is not as long as it says");
  return {reinterpret_cast<const Element*>(message.data() + sizeof n), static_cast<std::size_t>(n)};
}

}  // namespace detail

/// A message, and how often it was delivered, with this time: more than once when consumers died with it in hand.
template <class T>
struct delivery {
  T value;              ///< the message
  unsigned deliveries;  ///< 1 the first time; 127 stands for more
};

namespace detail {

/// One process's share of a role: taken at the first use or at arrival, left when the last copy goes.
template <class Core>
class share_of_role {
 public:
  share_of_role(Core core, queue_role role) : core_(std::move(core)), role_(role) {}
  share_of_role(const share_of_role& other) : core_(other.core_), role_(other.role_) {
    if (other.taken()) take();
  }
  share_of_role& operator=(share_of_role other) noexcept {
    std::swap(core_, other.core_);
    std::swap(taken_by_, other.taken_by_);
    return *this;
  }
  ~share_of_role() {
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

  Core core_;
  queue_role role_;
  mutable process_id taken_by_ = 0;
};

/// Calls `put` with the message that `value` is, made without a copy where it can be.
template <class T, class Put>
bool put_message(const T& value, const Put& put) {
  if constexpr (is_bitwise<T>()) {
    return put(queue_core::outgoing{.bytes = std::as_bytes(std::span(&value, 1))});
  } else if constexpr (is_bulk<T>) {  // as it is encoded, but without a copy between
    const std::uint64_t n = value.size();
    return put(queue_core::outgoing{.head = std::as_bytes(std::span(&n, 1)),
                                    .bytes = std::as_bytes(std::span(value.data(), value.size()))});
  } else {
    const borrowed<encoder> message;
    message->bytes.clear();
    message->attachments.clear();
    encode(*message, value);
    return put(queue_core::outgoing{.bytes = message->bytes, .attachments = message->attachments});
  }
}

/// Makes an optional's value where it will stay.
template <class F>
struct made_by {
  F make;
  operator decltype(std::declval<const F&>()())() const { return make(); }  // NOLINT(google-explicit-constructor)
};

template <class T>
T decode_message(std::span<const std::byte> bytes) {
  if constexpr (is_bitwise<T>()) {
    if (bytes.size() != sizeof(T)) throw bad_message("covey: a message has not the size of what is read from it");
    if constexpr (std::is_trivially_default_constructible_v<T>) {
      T value;  // one copy, no more
      std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
      return value;
    } else {
      std::array<std::byte, sizeof(T)> all;
      std::memcpy(all.data(), bytes.data(), all.size());
      return std::bit_cast<T>(all);
    }
  } else if constexpr (is_readable_in_place<T>) {
    const auto elements = elements_of<typename T::value_type>(bytes);
    return T(elements.begin(), elements.end());
  } else {
    decoder in{bytes};
    T value = decode<T>(in);
    expect_end(in);
    return value;
  }
}

}  // namespace detail

/// The reading end of a queue: see reader() of any queue, whose the members are.
///
/// Safety: process-safe; one object is thread-compatible: give each thread its own copy.
template <class Queue>
class reader_of {
 public:
  using covey_handle = void;                    ///< may travel to other processes
  using value_type = typename Queue::value_type;  ///< what the queue carries

  /// As the queue's.
  std::optional<value_type> get() const { return taken().get(); }
  /// As the queue's.
  std::optional<value_type> get(std::stop_token stop) const { return taken().get(std::move(stop)); }
  /// As the queue's.
  std::optional<value_type> try_get() const { return taken().try_get(); }
  /// As the queue's.
  std::optional<value_type> get_for(std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    return taken().get_for(timeout, std::move(stop));
  }
  /// As the queue's.
  std::vector<value_type> get_many(std::size_t max) const { return taken().get_many(max); }
  /// As the queue's.
  std::vector<value_type> get_many_for(std::size_t max, std::chrono::nanoseconds timeout,
                                       std::stop_token stop = {}) const {
    return taken().get_many_for(max, timeout, std::move(stop));
  }
  /// As the queue's.
  void task_done() const { taken().task_done(); }
  /// For wait_any: as the queue's. Takes the role.
  [[nodiscard]] auto wait_hook() const { return taken().wait_hook(); }
  /// Takes the role now, not at the first get.
  void take_role() const { share_.take(); }
  /// The queue itself, without the role.
  [[nodiscard]] const Queue& queue() const noexcept { return queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static reader_of decode_handle(detail::decoder& in) {
    reader_of r(Queue::decode_handle(in));
    r.take_role();
    return r;
  }

 private:
  friend Queue;
  template <class, class, class>
  friend class queue_verbs;
  explicit reader_of(Queue q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::reader) {}
  const Queue& taken() const {
    share_.take();
    return queue_;
  }
  Queue queue_;
  detail::share_of_role<typename Queue::core_type> share_;
};

/// The writing end of a queue: see writer() of any queue, whose the members are.
///
/// Safety: process-safe; one object is thread-compatible: give each thread its own copy.
template <class Queue>
class writer_of {
 public:
  using covey_handle = void;                    ///< may travel to other processes
  using value_type = typename Queue::value_type;  ///< what the queue carries

  /// As the queue's, with what that takes.
  template <class... Rank>
  void put(const value_type& value, const Rank&... rank) const {
    taken().put(value, rank...);
  }
  /// As the queue's, with what that takes.
  template <class... Rank>
  [[nodiscard]] bool try_put(const value_type& value, const Rank&... rank) const {
    return taken().try_put(value, rank...);
  }
  /// As the queue's.
  [[nodiscard]] bool put_for(const value_type& value, std::chrono::nanoseconds timeout,
                             std::stop_token stop = {}) const {
    return taken().put_for(value, timeout, std::move(stop));
  }
  /// As the queue's.
  void close(close_mode mode = close_mode::drain) const { taken().close(mode); }
  /// Takes the role now, not at the first put.
  void take_role() const { share_.take(); }
  /// The queue itself, without the role.
  [[nodiscard]] const Queue& queue() const noexcept { return queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static writer_of decode_handle(detail::decoder& in) {
    writer_of w(Queue::decode_handle(in));
    w.take_role();
    return w;
  }

 private:
  friend Queue;
  template <class, class, class>
  friend class queue_verbs;
  explicit writer_of(Queue q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::writer) {}
  const Queue& taken() const {
    share_.take();
    return queue_;
  }
  Queue queue_;
  detail::share_of_role<typename Queue::core_type> share_;
};

/// The verbs of a queue `Self` of T over a `Core`. A message is *in flight* from the get() that returns it until the
/// same thread calls task_done() or gets again, or ends in order; when its consumer dies in between, the queue does
/// with it what queue_options::on_death says.
///
/// Safety: process-safe.
template <class Self, class T, class Core>
class queue_verbs {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;       ///< what it carries

  /// Blocks while full. When it returns, the message is committed: it outlives this process.
  /// Throws queue_closed, no_consumers, std::length_error (larger than the queue), queue_damaged.
  void put(const T& value) const { self().put_until_deadline(value, std::nullopt, nullptr); }

  /// Returns false when full. Never blocks for room. Throws like put().
  [[nodiscard]] bool try_put(const T& value) const { return put_for(value, std::chrono::nanoseconds{0}); }

  /// Returns false when it stayed full for `timeout`, or `stop` was requested. Throws like put().
  [[nodiscard]] bool put_for(const T& value, std::chrono::nanoseconds timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_until_deadline(value, detail::deadline_in(timeout), &stopped);
  }

  /// As put_for, with a point in time.
  [[nodiscard]] bool put_until(const T& value, std::chrono::steady_clock::time_point until,
                               std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_until_deadline(value, until, &stopped);
  }

  /// Puts all of them in order; one after another, not all or nothing. Blocks while full. Throws like put(); what was
  /// put before stays put.
  void put_many(std::span<const T> values) const { self().put_many_until_deadline(values, std::nullopt, nullptr); }

  /// Puts as many as there is room for now, in order, and returns how many. Throws like put().
  [[nodiscard]] std::size_t try_put_many(std::span<const T> values) const {
    return put_many_for(values, std::chrono::nanoseconds{0});
  }

  /// As put_many(), until `timeout` passed or `stop` was requested; returns how many were put. Throws like put().
  [[nodiscard]] std::size_t put_many_for(std::span<const T> values, std::chrono::nanoseconds timeout,
                                         std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_many_until_deadline(values, detail::deadline_in(timeout), &stopped);
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

  /// Blocks until a message comes, and takes all that wait, but at most `max`, in their order; none when the queue is
  /// closed and drained, or `max` is 0. All of them stay in flight, together, until this thread's next get of any kind,
  /// or one task_done() for each: a consumer that dies in the middle of the batch gets, or leaves to others, all that
  /// it had not acknowledged. Acknowledges this thread's messages before. Throws like get(); when one message cannot be
  /// read, that one is dropped and the others wait again.
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
  /// took it is gone, put() throws no_consumers. Taking it throws std::length_error in more than 512 processes.
  [[nodiscard]] auto reader() const { return reader_of<Self>(self()); }

  /// The writing end. Taken by the process that it arrives in or that first puts to it; when no process has it any
  /// more, get() drains and then says the end, or throws no_producers if any of them died before close(). Taking it
  /// throws as reader().
  [[nodiscard]] auto writer() const { return writer_of<Self>(self()); }

  /// Whether both name the same queue.
  bool operator==(const queue_verbs& other) const noexcept { return core_.memory() == other.core_.memory(); }

  /// For wait_any: ready when there is a message, or the end.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[c = &core_] { return c->ready(); }, [c = &core_] { return c->arm(); }};
  }

  void encode_handle(detail::encoder& out) const { core_.memory().encode(out); }  ///< for covey

 private:
  friend Self;
  template <class>
  friend class reader_of;
  template <class>
  friend class writer_of;

  using core_type = Core;
  explicit queue_verbs(Core core) : core_(std::move(core)) { detail::require_travels<T>(); }

  std::size_t put_many_until_deadline(std::span<const T> values, const detail::deadline& until,
                                      const detail::stop_word* stop) const {
    std::size_t done = 0;
    while (done < values.size() && self().put_until_deadline(values[done], until, stop)) ++done;
    return done;
  }

  // What cannot be read will be no better the next time; but when there is no memory, somebody else may have some.
  T decode_in_hand(const detail::queue_core::incoming& message) const {
    try {
      return detail::decode_message<T>(message.bytes);
    } catch (const std::bad_alloc&) {
      core_.drop_one_put_back_others(Core::none);
      throw;
    } catch (...) {
      core_.acknowledge();
      throw;
    }
  }

  [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }

  std::optional<T> get_until_deadline(const detail::deadline& until, const detail::stop_word* stop) const {
    detail::queue_core::incoming message;
    if (core_.get(message, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    if constexpr (std::is_aggregate_v<T>)  // others may have constructors that take anything
      return std::optional<T>(std::in_place, detail::made_by{[&] { return decode_in_hand(message); }});
    else
      return decode_in_hand(message);
  }

  std::vector<T> get_many_until_deadline(std::size_t max, const detail::deadline& until,
                                         const detail::stop_word* stop) const {
    if (max == 0) return {};
    const std::size_t count = core_.get_many(max, until, stop).count;
    std::vector<T> values;
    detail::queue_core::incoming message;
    try {
      values.reserve(count);
      for (std::size_t n = 0; n < count; ++n) {
        core_.look_at(n, message);
        values.push_back(detail::decode_message<T>(message.bytes));
      }
    } catch (const std::bad_alloc&) {
      core_.drop_one_put_back_others(Core::none);
      throw;
    } catch (...) {
      core_.drop_one_put_back_others(values.size());
      throw;
    }
    return values;
  }

  Core core_;
};

}  // namespace covey
