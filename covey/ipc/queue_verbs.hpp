/// @file
/// What all queues can do: the put and get families, acknowledging, joining, closing, roles; once, for every order.
#pragma once

#include <algorithm>
#include <chrono>
#include <covey/ipc/get_forms.hpp>
#include <covey/ipc/queue_ends.hpp>
#include <covey/ipc/queue_in_place.hpp>
#include <covey/sync/handle.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

namespace covey {

/// The verbs of a queue `Self` of T. A message is *in flight* from the get() that returns it until the
/// same thread calls task_done() or gets again, or ends in order; when its consumer dies in between, the queue does
/// with it what queue_options::on_death says.
///
/// Safety: process-safe.
template <class Self, class T>
class queue_verbs : public get_forms<queue_verbs<Self, T>, T>, public in_place_forms<Self, T> {
  using forms = get_forms<queue_verbs<Self, T>, T>;

 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;       ///< what it carries

  /// Blocks while full. When it returns, the message is committed: it outlives this process.
  /// Throws queue_closed, no_consumers, std::length_error (larger than the queue), queue_damaged.
  void put(const T& value) const { self().put_until_deadline(value, std::nullopt, nullptr); }

  /// As put(), but returns false when `stop` was requested while it was full.
  [[nodiscard]] bool put(const T& value, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_until_deadline(value, std::nullopt, &stopped);
  }

  /// Returns false when full. Never blocks for room. Throws like put().
  [[nodiscard]] bool try_put(const T& value) const { return put_for(value, std::chrono::nanoseconds{0}); }

  /// Returns false when it stayed full for `timeout`, or `stop` was requested. Throws like put().
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const T& value, const std::chrono::duration<Rep, Period>& timeout,
                             std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_until_deadline(value, detail::deadline_in(timeout), &stopped);
  }

  /// As put_for, with a point in time. A clock that is set while this waits is not followed, here and below.
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(const T& value, const std::chrono::time_point<Clock, Duration>& until,
                               std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_until_deadline(value, detail::steady(until), &stopped);
  }

  /// Puts all of them in order; one after another, not all or nothing. Blocks while full. Throws like put(); what was
  /// put before stays put.
  void put_many(std::span<const T> values) const { self().put_many_until_deadline(values, std::nullopt, nullptr); }

  /// As put_many(), but only until `stop` was requested; returns how many were put.
  [[nodiscard]] std::size_t put_many(std::span<const T> values, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_many_until_deadline(values, std::nullopt, &stopped);
  }

  /// Puts as many as there is room for now, in order, and returns how many. Throws like put().
  [[nodiscard]] std::size_t try_put_many(std::span<const T> values) const {
    return put_many_for(values, std::chrono::nanoseconds{0});
  }

  /// As put_many(), until `timeout` passed or `stop` was requested; returns how many were put. Throws like put().
  template <class Rep, class Period>
  [[nodiscard]] std::size_t put_many_for(std::span<const T> values, const std::chrono::duration<Rep, Period>& timeout,
                                         std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_many_until_deadline(values, detail::deadline_in(timeout), &stopped);
  }

  /// As put_many_for, with a point in time.
  template <class Clock, class Duration>
  [[nodiscard]] std::size_t put_many_until(std::span<const T> values,
                                           const std::chrono::time_point<Clock, Duration>& until,
                                           std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().put_many_until_deadline(values, detail::steady(until), &stopped);
  }

  /// Blocks until a message comes, and takes it; nothing when the queue is closed and drained.
  /// Acknowledges this thread's message before. Throws no_producers, queue_damaged, bad_message.
  std::optional<T> get() const { return get_until_deadline(std::nullopt, nullptr); }
  using forms::get;

  /// Blocks until a message comes, and takes all that wait, but at most `max` and capacity(), in their order; none when
  /// the queue is closed and drained, or `max` is 0. All of them stay in flight, together, until this thread's next get
  /// of any kind, or one task_done() for each: a consumer that dies in the middle of the batch gets, or leaves to
  /// others, all that it had not acknowledged. Acknowledges this thread's messages before. Throws like get(); when one
  /// message cannot be read, that one is dropped and the others wait again.
  std::vector<T> get_many(std::size_t max) const { return get_many_until_deadline(max, std::nullopt, nullptr); }
  using forms::get_many;

  /// As get(), with the number of times that the message was delivered.
  std::optional<delivery<T>> get_delivery(std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_delivery_until_deadline(std::nullopt, &stopped);
  }

  /// As try_get(), with that number.
  std::optional<delivery<T>> try_get_delivery() const { return get_delivery_for(std::chrono::nanoseconds{0}); }

  /// As get_for(), with that number.
  template <class Rep, class Period>
  std::optional<delivery<T>> get_delivery_for(const std::chrono::duration<Rep, Period>& timeout,
                                              std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_delivery_until_deadline(detail::deadline_in(timeout), &stopped);
  }

  /// As get_until(), with that number.
  template <class Clock, class Duration>
  std::optional<delivery<T>> get_delivery_until(const std::chrono::time_point<Clock, Duration>& until,
                                                std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_delivery_until_deadline(detail::steady(until), &stopped);
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
  /// them; but somebody must be there to take them: whether anybody still is, only the reader() role tells. Throws
  /// no_consumers when that was lost.
  void join() const { core_.join(std::nullopt, nullptr); }

  /// As join(), but returns false when `stop` was requested first.
  [[nodiscard]] bool join(std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return core_.join(std::nullopt, &stopped);
  }

  /// Returns false if `timeout` passed, or `stop` was requested, first.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return core_.join(detail::deadline_in(timeout), &stopped);
  }

  /// As join_for, with a point in time.
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(const std::chrono::time_point<Clock, Duration>& until,
                                std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return core_.join(detail::steady(until), &stopped);
  }

  /// From now on put() throws queue_closed. Readers get what waits, then the end; with discard the end at once. A
  /// message that comes back from a dead consumer after the others saw the end waits for whoever gets next.
  void close(close_mode mode = close_mode::drain) const { core_.close(mode); }

  /// Whether close() was called.
  [[nodiscard]] bool closed() const { return core_.closed(); }

  /// Messages waiting, exact at one instant during the call; never more than capacity(). What comes back from a dead
  /// consumer and finds the queue full counts as in flight until there is room; get() gets it all the same.
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

  /// For covey::room.
  [[nodiscard]] auto room_hook(std::size_t bytes) const {
    return detail::wait_hook{[c = &core_, n = std::max(bytes, detail::least_bytes<T>())] { return c->has_room(n); },
                             [c = &core_] { return c->arm_room(); }};
  }

  void encode_handle(detail::encoder& out) const { core_.memory().encode(out); }  ///< for covey

 private:
  friend Self;
  friend forms;
  friend in_place_forms<Self, T>;
  template <class>
  friend class reader_of;
  template <class>
  friend class writer_of;

  explicit queue_verbs(detail::queue_core core) : core_(std::move(core)) { detail::require_travels<T>(); }

  std::size_t put_many_until_deadline(std::span<const T> values, const detail::deadline& until,
                                      const detail::stop_word* stop) const {
    std::size_t done = 0;
    while (done < values.size() && self().put_until_deadline(values[done], until, stop)) ++done;
    return done;
  }

  // Throws queue_damaged if its producer wrote over it before it was read.
  static T decode_unchanged(const detail::queue_core::incoming& message) {
    const auto read = [&] {
      try {
        return detail::decode_message<T>(message.bytes);
      } catch (const bad_message&) {
        message.expect_unchanged();
        throw;
      }
    };
    T value = read();
    message.expect_unchanged();
    return value;
  }

  // What cannot be read will be no better the next time; but when there is no memory, somebody else may have some.
  T decode_in_hand(const detail::queue_core::incoming& message) const {
    try {
      return decode_unchanged(message);
    } catch (const std::bad_alloc&) {
      core_.drop_one_put_back_others(detail::queue_core::none);
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

  std::optional<delivery<T>> get_delivery_until_deadline(const detail::deadline& until,
                                                         const detail::stop_word* stop) const {
    detail::queue_core::incoming message;
    if (core_.get(message, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    return delivery<T>{decode_in_hand(message), message.deliveries};
  }

  std::vector<T> get_many_until_deadline(std::size_t max, const detail::deadline& until,
                                         const detail::stop_word* stop) const {
    if (max == 0) return {};
    const auto got = core_.get_many(max, until, stop);
    std::vector<T> values;
    detail::queue_core::incoming message;
    try {
      values.reserve(got.count);
      for (std::size_t n = 0; n < got.count; ++n) {
        detail::queue_core::look_at(got, n, message);
        values.push_back(decode_unchanged(message));
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

  detail::queue_core core_;
};

}  // namespace covey
