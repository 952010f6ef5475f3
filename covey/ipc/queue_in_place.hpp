/// @file
/// Messages that are written and read where they lie: what queues lend and show.
#pragma once

#include <chrono>
#include <covey/ipc/queue_messages.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <utility>

namespace covey {

template <class Queue, class T>
class in_place_forms;

/// Memory of a queue for one message, to be written in place: see loan() of queues. A range of its elements.
///
/// Safety: for the thread that borrowed it.
/// Death:  of its thread or process: the memory is the queue's again. Destroyed unpublished, it goes back at once.
template <class T>
class loaned {
 public:
  using value_type = typename T::value_type;  ///< of its elements
  loaned(loaned&& other) noexcept
      : core_(std::move(other.core_)), memory_(std::exchange(other.memory_, {})) {}  ///< leaves the other empty
  /// Gives back what it had.
  loaned& operator=(loaned&& other) noexcept {
    loaned taken(std::move(other));
    std::swap(core_, taken.core_);
    std::swap(memory_, taken.memory_);
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
  template <class, class>
  friend class in_place_forms;
  loaned(detail::queue_core core, const detail::queue_core::loan& memory, std::uint64_t n)
      : core_(std::move(core)), memory_(memory) {
    std::memcpy(memory_.bytes.data(), &n, sizeof n);  // as a vector is encoded
  }
  detail::queue_core core_;
  detail::queue_core::loan memory_;
};

/// A message that is read where it lies: see get_view() of queues. A range of its elements.
///
/// Safety: thread-compatible. The message counts as in the hand of the thread that got it: when that ends, it is
///         delivered again.
/// Death:  as of any message in flight.
template <class T>
class message_view {
 public:
  using value_type = typename T::value_type;  ///< of its elements
  message_view(message_view&& other) noexcept
      : core_(std::move(other.core_)),
        viewed_(std::move(other.viewed_)),
        held_(std::exchange(other.held_, false)) {}  ///< leaves the other released
  /// Releases what it had.
  message_view& operator=(message_view&& other) noexcept {
    message_view taken(std::move(other));
    std::swap(core_, taken.core_);
    std::swap(viewed_, taken.viewed_);
    std::swap(held_, taken.held_);
    return *this;
  }
  ~message_view() { release(); }

  /// The elements. Valid until released; none afterwards.
  [[nodiscard]] std::span<const value_type> elements() const noexcept {
    if (!held_) return {};
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
  template <class, class>
  friend class in_place_forms;
  message_view(detail::queue_core core, detail::queue_core::viewed v)
      : core_(std::move(core)), viewed_(std::move(v)), held_(true) {
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

/// What a queue of T can do without a copy; for T that are vectors or strings of numbers.
template <class Queue, class T>
class in_place_forms {
 public:
  /// Room for a message of `n` elements in the queue's own memory, to be written in place: without a copy, whatever its
  /// size. Blocks until there is memory for it. For T that are vectors or strings of numbers; the elements are not
  /// initialised. Throws like put().
  [[nodiscard]] loaned<T> loan(std::size_t n) const
    requires(detail::is_readable_in_place<T>)
  {
    return *loan_until_deadline(n, std::nullopt, nullptr);
  }

  /// As loan(), but nothing when `stop` was requested while there was no memory for it.
  [[nodiscard]] std::optional<loaned<T>> loan(std::size_t n, std::stop_token stop) const
    requires(detail::is_readable_in_place<T>)
  {
    const detail::stop_word stopped(std::move(stop));
    return loan_until_deadline(n, std::nullopt, &stopped);
  }

  /// Nothing when there is no memory for it now.
  [[nodiscard]] std::optional<loaned<T>> try_loan(std::size_t n) const
    requires(detail::is_readable_in_place<T>)
  {
    return loan_until_deadline(n, std::chrono::steady_clock::now(), nullptr);
  }

  /// Nothing when there was no memory for it within `timeout`, or `stop` was requested.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<loaned<T>> loan_for(std::size_t n, const std::chrono::duration<Rep, Period>& timeout,
                                                  std::stop_token stop = {}) const
    requires(detail::is_readable_in_place<T>)
  {
    const detail::stop_word stopped(std::move(stop));
    return loan_until_deadline(n, detail::deadline_in(timeout), &stopped);
  }

  /// As loan_for, with a point in time.
  template <class Clock, class Duration>
    requires(detail::is_readable_in_place<T>)
  [[nodiscard]] std::optional<loaned<T>> loan_until(std::size_t n,
                                                    const std::chrono::time_point<Clock, Duration>& until,
                                                    std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return loan_until_deadline(n, detail::steady(until), &stopped);
  }

  /// Puts what was written into `written`, which is empty afterwards. Blocks while full. Only in the thread that
  /// borrowed it: throws std::logic_error elsewhere. Throws like put().
  void publish(loaned<T>& written) const { self().publish_until_deadline(written, std::nullopt, nullptr); }
  /// As above.
  void publish(loaned<T>&& written) const { self().publish_until_deadline(written, std::nullopt, nullptr); }

  /// Returns false, and leaves `written` as it is, when `stop` was requested while it was full. Throws like publish().
  [[nodiscard]] bool publish(loaned<T>& written, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return self().publish_until_deadline(written, std::nullopt, &stopped);
  }

  /// Returns false, and leaves `written` as it is, when full. Never blocks for room. Throws like publish().
  [[nodiscard]] bool try_publish(loaned<T>& written) const {
    return self().publish_until_deadline(written, std::chrono::steady_clock::now(), nullptr);
  }

  /// Returns false, and leaves `written` as it is, when it stayed full for `timeout`, or `stop` was requested. Throws
  /// like publish().
  template <class Rep, class Period>
  [[nodiscard]] bool publish_for(loaned<T>& written, const std::chrono::duration<Rep, Period>& timeout,
                                 std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().publish_until_deadline(written, detail::deadline_in(timeout), &stopped);
  }

  /// As publish_for, with a point in time.
  template <class Clock, class Duration>
  [[nodiscard]] bool publish_until(loaned<T>& written, const std::chrono::time_point<Clock, Duration>& until,
                                   std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return self().publish_until_deadline(written, detail::steady(until), &stopped);
  }

  /// As get(), but the message is read where it lies, without a copy (small ones are copied into the view). It is in
  /// flight until the view is released or destroyed. For T that are vectors or strings of numbers.
  std::optional<message_view<T>> get_view(std::stop_token stop = {}) const
    requires(detail::is_readable_in_place<T>)
  {
    const detail::stop_word stopped(std::move(stop));
    return get_view_until_deadline(std::nullopt, &stopped);
  }

  /// Takes a message if there is one, to be read where it lies. Never blocks.
  std::optional<message_view<T>> try_get_view() const
    requires(detail::is_readable_in_place<T>)
  {
    return get_view_until_deadline(std::chrono::steady_clock::now(), nullptr);
  }

  /// As get_view(), but nothing also when none came within `timeout` or `stop` was requested.
  template <class Rep, class Period>
  std::optional<message_view<T>> get_view_for(const std::chrono::duration<Rep, Period>& timeout,
                                              std::stop_token stop = {}) const
    requires(detail::is_readable_in_place<T>)
  {
    const detail::stop_word stopped(std::move(stop));
    return get_view_until_deadline(detail::deadline_in(timeout), &stopped);
  }

  /// As get_view_for, with a point in time.
  template <class Clock, class Duration>
    requires(detail::is_readable_in_place<T>)
  std::optional<message_view<T>> get_view_until(const std::chrono::time_point<Clock, Duration>& until,
                                                std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return get_view_until_deadline(detail::steady(until), &stopped);
  }

 protected:
  in_place_forms() noexcept = default;

  /// Puts `written`, of which a queue that goes by rank takes that one.
  bool publish_by_rank(loaned<T>& written, std::uint64_t rank, const detail::deadline& until,
                       const detail::stop_word* stop) const {
    if (written.core_.memory() != core().memory())
      throw std::logic_error("covey: a loan is published to the queue from which it is");
    written.memory_.rank = rank;
    if (!core().publish(written.memory_, until, stop)) return false;
    written.memory_ = {};
    return true;
  }

 private:
  [[nodiscard]] const Queue& self() const noexcept { return static_cast<const Queue&>(*this); }
  [[nodiscard]] const detail::queue_core& core() const noexcept { return self().core_; }

  std::optional<loaned<T>> loan_until_deadline(std::size_t n, const detail::deadline& until,
                                               const detail::stop_word* stop) const {
    if (n > (~std::size_t{0} - sizeof(std::uint64_t)) / sizeof(typename T::value_type))
      throw std::length_error("covey: a loan is larger than memory");
    const std::size_t bytes = sizeof(std::uint64_t) + n * sizeof(typename T::value_type);
    const auto memory = core().borrow(bytes, until, stop);
    if (!memory) return std::nullopt;
    return loaned<T>(core(), *memory, n);
  }

  std::optional<message_view<T>> get_view_until_deadline(const detail::deadline& until,
                                                         const detail::stop_word* stop) const {
    detail::queue_core::viewed v;
    if (core().get_view(v, until, stop) != detail::queue_core::get_result::got) return std::nullopt;
    return message_view<T>(core(), std::move(v));
  }
};

}  // namespace covey
