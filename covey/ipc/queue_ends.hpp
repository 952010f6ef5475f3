/// @file
/// reader_of, writer_of: the ends of a queue, whose loss is seen.
#pragma once

#include <chrono>
#include <covey/ipc/queue_messages.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

namespace covey {

/// A message, and how often it was delivered, with this time: more than once when consumers died with it in hand.
template <class T>
struct delivery {
  T value;              ///< the message
  unsigned deliveries;  ///< 1 the first time; 126 stands for more
};

namespace detail {

/// One process's share of a role: taken at the first use or at arrival, left when the last copy goes.
class share_of_role {
 public:
  share_of_role(queue_core core, queue_role role) : core_(std::move(core)), role_(role) {}
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

  queue_core core_;
  queue_role role_;
  mutable process_id taken_by_ = 0;
};

/// Whether a queue lends its memory and shows messages where they lie.
template <class Queue>
concept shows_in_place = requires(const Queue& q) { q.get_view(); };

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
  template <class Rep, class Period>
  std::optional<value_type> get_for(const std::chrono::duration<Rep, Period>& timeout,
                                    std::stop_token stop = {}) const {
    return taken().get_for(timeout, std::move(stop));
  }
  /// As the queue's.
  template <class Clock, class Duration>
  std::optional<value_type> get_until(const std::chrono::time_point<Clock, Duration>& until,
                                      std::stop_token stop = {}) const {
    return taken().get_until(until, std::move(stop));
  }

  /// As the queue's.
  std::vector<value_type> get_many(std::size_t max, std::stop_token stop = {}) const {
    return taken().get_many(max, std::move(stop));
  }
  /// As the queue's.
  std::vector<value_type> try_get_many(std::size_t max) const { return taken().try_get_many(max); }
  /// As the queue's.
  template <class Rep, class Period>
  std::vector<value_type> get_many_for(std::size_t max, const std::chrono::duration<Rep, Period>& timeout,
                                       std::stop_token stop = {}) const {
    return taken().get_many_for(max, timeout, std::move(stop));
  }
  /// As the queue's.
  template <class Clock, class Duration>
  std::vector<value_type> get_many_until(std::size_t max, const std::chrono::time_point<Clock, Duration>& until,
                                         std::stop_token stop = {}) const {
    return taken().get_many_until(max, until, std::move(stop));
  }

  /// As the queue's.
  std::optional<delivery<value_type>> get_delivery(std::stop_token stop = {}) const {
    return taken().get_delivery(std::move(stop));
  }
  /// As the queue's.
  std::optional<delivery<value_type>> try_get_delivery() const { return taken().try_get_delivery(); }
  /// As the queue's.
  template <class Rep, class Period>
  std::optional<delivery<value_type>> get_delivery_for(const std::chrono::duration<Rep, Period>& timeout,
                                                       std::stop_token stop = {}) const {
    return taken().get_delivery_for(timeout, std::move(stop));
  }
  /// As the queue's.
  template <class Clock, class Duration>
  std::optional<delivery<value_type>> get_delivery_until(const std::chrono::time_point<Clock, Duration>& until,
                                                         std::stop_token stop = {}) const {
    return taken().get_delivery_until(until, std::move(stop));
  }
  /// As the queue's.
  std::optional<delivery<value_type>> get_failed() const { return taken().get_failed(); }

  /// As the queue's, where it has it.
  auto get_view(std::stop_token stop = {}) const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().get_view(std::move(stop));
  }
  /// As the queue's, where it has it.
  auto try_get_view() const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().try_get_view();
  }
  /// As the queue's, where it has it.
  template <class Rep, class Period>
  auto get_view_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().get_view_for(timeout, std::move(stop));
  }
  /// As the queue's, where it has it.
  template <class Clock, class Duration>
    requires(detail::shows_in_place<Queue>)
  auto get_view_until(const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) const {
    return taken().get_view_until(until, std::move(stop));
  }

  /// As the queue's.
  void task_done() const { taken().task_done(); }
  /// As the queue's.
  [[nodiscard]] bool closed() const { return queue_.closed(); }
  /// For wait_any: as the queue's. Takes the role.
  [[nodiscard]] auto wait_hook() const { return taken().wait_hook(); }
  /// Takes the role now, not at the first get.
  void take_role() const { share_.take(); }
  /// The queue itself, without the role.
  [[nodiscard]] const Queue& queue() const noexcept { return queue_; }

  /// Whether both are such an end of the same queue.
  bool operator==(const reader_of& other) const noexcept { return queue_ == other.queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static reader_of decode_handle(detail::decoder& in) {
    reader_of r(Queue::decode_handle(in));
    r.take_role();
    return r;
  }

 private:
  friend Queue;
  template <class, class>
  friend class queue_verbs;
  explicit reader_of(Queue q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::reader) {}
  const Queue& taken() const {
    share_.take();
    return queue_;
  }
  Queue queue_;
  detail::share_of_role share_;
};

/// The writing end of a queue: see writer() of any queue, whose the members are.
///
/// Safety: process-safe; one object is thread-compatible: give each thread its own copy.
template <class Queue>
class writer_of {
 public:
  using covey_handle = void;                    ///< may travel to other processes
  using value_type = typename Queue::value_type;  ///< what the queue carries

  /// As the queue's, with what that takes: a priority, where it has those, and a stop_token, which makes it a bool.
  template <class... Rest>
  auto put(const value_type& value, const Rest&... rest) const {
    return taken().put(value, rest...);
  }
  /// As the queue's, with what that takes.
  template <class... Rank>
  [[nodiscard]] bool try_put(const value_type& value, const Rank&... rank) const {
    return taken().try_put(value, rank...);
  }
  /// As the queue's, with what that takes.
  template <class... Rest>
  [[nodiscard]] bool put_for(const value_type& value, const Rest&... rest) const {
    return taken().put_for(value, rest...);
  }
  /// As the queue's, with what that takes.
  template <class... Rest>
  [[nodiscard]] bool put_until(const value_type& value, const Rest&... rest) const {
    return taken().put_until(value, rest...);
  }

  /// As the queue's.
  void put_many(std::span<const value_type> values) const { taken().put_many(values); }
  /// As the queue's.
  [[nodiscard]] std::size_t put_many(std::span<const value_type> values, std::stop_token stop) const {
    return taken().put_many(values, std::move(stop));
  }
  /// As the queue's.
  [[nodiscard]] std::size_t try_put_many(std::span<const value_type> values) const {
    return taken().try_put_many(values);
  }
  /// As the queue's.
  template <class Rep, class Period>
  [[nodiscard]] std::size_t put_many_for(std::span<const value_type> values,
                                         const std::chrono::duration<Rep, Period>& timeout,
                                         std::stop_token stop = {}) const {
    return taken().put_many_for(values, timeout, std::move(stop));
  }
  /// As the queue's.
  template <class Clock, class Duration>
  [[nodiscard]] std::size_t put_many_until(std::span<const value_type> values,
                                           const std::chrono::time_point<Clock, Duration>& until,
                                           std::stop_token stop = {}) const {
    return taken().put_many_until(values, until, std::move(stop));
  }

  /// As the queue's, where it has it.
  [[nodiscard]] auto loan(std::size_t n) const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().loan(n);
  }
  /// As the queue's, where it has it.
  [[nodiscard]] auto loan(std::size_t n, std::stop_token stop) const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().loan(n, std::move(stop));
  }
  /// As the queue's, where it has it.
  [[nodiscard]] auto try_loan(std::size_t n) const
    requires(detail::shows_in_place<Queue>)
  {
    return taken().try_loan(n);
  }
  /// As the queue's, where it has it: with a timeout, and perhaps a stop_token.
  template <class... Rest>
    requires(detail::shows_in_place<Queue>)
  [[nodiscard]] auto loan_for(std::size_t n, const Rest&... rest) const {
    return taken().loan_for(n, rest...);
  }
  /// As the queue's, where it has it.
  template <class... Rest>
    requires(detail::shows_in_place<Queue>)
  [[nodiscard]] auto loan_until(std::size_t n, const Rest&... rest) const {
    return taken().loan_until(n, rest...);
  }
  /// As the queue's, where it has it, with what that takes: a priority, where it has those, and a stop_token, which
  /// makes it a bool.
  template <class Loan, class... Rest>
    requires(detail::shows_in_place<Queue>)
  auto publish(Loan&& written, const Rest&... rest) const {
    return taken().publish(std::forward<Loan>(written), rest...);
  }
  /// As the queue's, where it has it, with what that takes.
  template <class Loan, class... Rank>
    requires(detail::shows_in_place<Queue>)
  [[nodiscard]] bool try_publish(Loan& written, const Rank&... rank) const {
    return taken().try_publish(written, rank...);
  }
  /// As the queue's, where it has it, with what that takes.
  template <class Loan, class... Rest>
    requires(detail::shows_in_place<Queue>)
  [[nodiscard]] bool publish_for(Loan& written, const Rest&... rest) const {
    return taken().publish_for(written, rest...);
  }
  /// As the queue's, where it has it, with what that takes.
  template <class Loan, class... Rest>
    requires(detail::shows_in_place<Queue>)
  [[nodiscard]] bool publish_until(Loan& written, const Rest&... rest) const {
    return taken().publish_until(written, rest...);
  }
  /// As the queue's.
  void close(close_mode mode = close_mode::drain) const { taken().close(mode); }
  /// For wait_any: ready when there is room, as covey::room says. Takes the role.
  [[nodiscard]] auto wait_hook() const { return room_hook(0); }
  /// For covey::room. Takes the role.
  [[nodiscard]] auto room_hook(std::size_t bytes) const { return taken().room_hook(bytes); }
  /// Takes the role now, not at the first put.
  void take_role() const { share_.take(); }
  /// The queue itself, without the role.
  [[nodiscard]] const Queue& queue() const noexcept { return queue_; }

  /// Whether both are such an end of the same queue.
  bool operator==(const writer_of& other) const noexcept { return queue_ == other.queue_; }

  void encode_handle(detail::encoder& out) const { queue_.encode_handle(out); }  ///< for covey
  /// For covey.
  static writer_of decode_handle(detail::decoder& in) {
    writer_of w(Queue::decode_handle(in));
    w.take_role();
    return w;
  }

 private:
  friend Queue;
  template <class, class>
  friend class queue_verbs;
  explicit writer_of(Queue q) : queue_(std::move(q)), share_(queue_.core_, detail::queue_role::writer) {}
  const Queue& taken() const {
    share_.take();
    return queue_;
  }
  Queue queue_;
  detail::share_of_role share_;
};

}  // namespace covey
