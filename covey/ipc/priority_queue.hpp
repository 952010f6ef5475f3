/// @file
/// priority_queue: messages go by priority, and first in, first out within one.
#pragma once

#include <cmath>
#include <concepts>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_verbs.hpp>
#include <functional>
#include <limits>
#include <utility>

namespace covey {

namespace detail {

template <class P>
concept priority_number =
    (std::integral<P> || std::floating_point<P>) && !std::same_as<P, bool> && sizeof(P) <= sizeof(std::uint64_t);

/// The priority that a value has by itself: a number its own, a value with a member `priority` that, a pair or tuple
/// its first element.
template <class T>
constexpr auto own_priority(const T& value) {
  if constexpr (priority_number<T>)
    return value;
  else if constexpr (requires { requires priority_number<std::remove_cvref_t<decltype(value.priority)>>; })
    return value.priority;
  else if constexpr (requires { requires priority_number<std::tuple_element_t<0, T>>; })
    return std::get<0>(value);
}

template <class T>
inline constexpr bool has_own_priority = !std::is_void_v<decltype(own_priority(std::declval<const T&>()))>;

template <class T>
struct priority_type_of {
  using type = std::int64_t;
};
template <class T>
  requires(has_own_priority<T>)
struct priority_type_of<T> {
  using type = decltype(own_priority(std::declval<const T&>()));
};

/// A number without sign whose order is that of `p`.
template <priority_number P>
std::uint64_t rank_of(P p) {
  constexpr std::uint64_t sign = 1ULL << 63;
  if constexpr (std::floating_point<P>) {
    if (std::isnan(p)) throw std::invalid_argument("covey: a priority that is not a number");
    const auto bits = std::bit_cast<std::uint64_t>(static_cast<double>(p) + 0.0);  // -0.0 is 0.0
    return (bits & sign) != 0 ? ~bits : bits | sign;
  } else if constexpr (std::signed_integral<P>) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(p)) ^ sign;
  } else {
    return static_cast<std::uint64_t>(p);
  }
}

}  // namespace detail

/// A bounded queue of T that go by priority, between any number of producers and consumers, in threads and processes.
/// Its verbs are queue's.
///
/// A priority is a number: the value itself where T is a number, its member `priority`, the first element of a pair or
/// tuple, or what put(value, priority) says. The smallest goes first, as in Python, whose queues these are: priority 1
/// before priority 2. `Compare` is std::priority_queue's: with std::less<> the greatest goes first, as std's does by
/// default.
///
/// Handle:  a copy is the same queue; give it to any task, process or message.
/// Safety:  process-safe. Who is stopped (SIGSTOP), at whatever instruction, stops nobody: there is no lock.
/// Death:   a participant killed at any instruction leaves every committed message in the queue, in flight at a living
///          consumer, or consumed; a message that was being put is not seen. Nobody waits for the dead: what a death
///          means for those who wait, they learn at once, or up to 10 ms later.
/// Order:   by priority; first in, first out within one, over all producers. A redelivered message comes back to the
///          place that it had. What happened before put() is visible after the get() that returned its message.
/// Limits:  256 threads put at a time; fewer where more than 200,000 items may wait (50 of a million), or where
/// RLIMIT_FSIZE
///          makes the address range smaller, but at least 8. put() throws std::length_error in one more. Getting has no
///          such limit. size(), size_approx() and a put that finds no room look at every message that waits.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/ordered_queue.md. Example: examples/priority_queue.cpp
template <class T, class Compare = std::greater<>>
class priority_queue : public queue_verbs<priority_queue<T, Compare>, T> {
  using verbs = queue_verbs<priority_queue<T, Compare>, T>;
  static_assert(std::same_as<Compare, std::greater<>> || std::same_as<Compare, std::less<>>,
                "covey: a priority_queue goes by std::greater<> (the smallest first) or std::less<>: no code of its "
                "users runs while it is locked");

 public:
  using priority_type = typename detail::priority_type_of<T>::type;  ///< of a priority

  /// Makes a queue for `items` messages. Throws std::invalid_argument (0, or more than 16 million), and
  /// std::system_error if no shared memory can be had.
  explicit priority_queue(std::size_t items = queue_options{}.items) : priority_queue(queue_options{.items = items}) {}

  /// Makes a queue. Throws as above, also for bytes (0, or more than 990 GiB) and deliveries_max (more than 126).
  explicit priority_queue(const queue_options& options)
      : verbs(detail::queue_core(options, detail::queue_order::by_rank)) {}

  using verbs::put;
  using verbs::put_for;
  using verbs::put_until;
  using verbs::try_put;

  /// As put(value), with this priority. Throws also std::invalid_argument: a priority that is not a number.
  void put(const T& value, priority_type priority) const { put_with(value, priority, std::nullopt, nullptr); }
  /// As put(value, stop), with this priority.
  [[nodiscard]] bool put(const T& value, priority_type priority, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return put_with(value, priority, std::nullopt, &stopped);
  }
  /// As try_put(value), with this priority.
  [[nodiscard]] bool try_put(const T& value, priority_type priority) const {
    return put_with(value, priority, std::chrono::steady_clock::now(), nullptr);
  }
  /// As put_for(value, timeout, stop), with this priority.
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const T& value, priority_type priority, const std::chrono::duration<Rep, Period>& timeout,
                             std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_with(value, priority, detail::deadline_in(timeout), &stopped);
  }
  /// As put_until(value, until, stop), with this priority.
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(const T& value, priority_type priority,
                               const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_with(value, priority, detail::steady(until), &stopped);
  }

  /// Puts what was written into `written`, with this priority; it is empty afterwards. Blocks while full. Only in the
  /// thread that borrowed it: throws std::logic_error elsewhere. Throws like put().
  void publish(loaned<T>& written, priority_type priority) const {
    this->publish_by_rank(written, rank_for(priority), std::nullopt, nullptr);
  }
  /// As above.
  void publish(loaned<T>&& written, priority_type priority) const { publish(written, priority); }
  /// Returns false, and leaves `written` as it is, when `stop` was requested while it was full. Throws like publish().
  [[nodiscard]] bool publish(loaned<T>& written, priority_type priority, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return this->publish_by_rank(written, rank_for(priority), std::nullopt, &stopped);
  }
  /// Returns false, and leaves `written` as it is, when full. Never blocks for room. Throws like publish().
  [[nodiscard]] bool try_publish(loaned<T>& written, priority_type priority) const {
    return this->publish_by_rank(written, rank_for(priority), std::chrono::steady_clock::now(), nullptr);
  }
  /// Returns false, and leaves `written` as it is, when it stayed full for `timeout`, or `stop` was requested. Throws
  /// like publish().
  template <class Rep, class Period>
  [[nodiscard]] bool publish_for(loaned<T>& written, priority_type priority,
                                 const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return this->publish_by_rank(written, rank_for(priority), detail::deadline_in(timeout), &stopped);
  }
  /// As publish_for, with a point in time.
  template <class Clock, class Duration>
  [[nodiscard]] bool publish_until(loaned<T>& written, priority_type priority,
                                   const std::chrono::time_point<Clock, Duration>& until,
                                   std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return this->publish_by_rank(written, rank_for(priority), detail::steady(until), &stopped);
  }

  /// For covey.
  static priority_queue decode_handle(detail::decoder& in) {
    return priority_queue(detail::queue_core::decode(in, detail::queue_order::by_rank));
  }

 private:
  friend verbs;
  friend class reader_of<priority_queue>;
  friend class writer_of<priority_queue>;
  friend in_place_forms<priority_queue, T>;
  explicit priority_queue(detail::queue_core core) : verbs(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    static_assert(detail::has_own_priority<T>, "covey: this T has no priority by itself: put(value, priority)");
    return put_with(value, detail::own_priority(value), until, stop);
  }

  static std::uint64_t rank_for(priority_type priority) {
    const std::uint64_t rank = detail::rank_of(priority);
    return std::same_as<Compare, std::greater<>> ? rank : ~rank;
  }

  bool put_with(const T& value, priority_type priority, const detail::deadline& until,
                const detail::stop_word* stop) const {
    const std::uint64_t rank = rank_for(priority);
    return detail::put_message(value, [&](auto m) {
      m.rank = rank;
      return this->core_.put(m, until, stop);
    });
  }
};

}  // namespace covey
