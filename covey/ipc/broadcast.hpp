/// @file
/// broadcast: what one puts, all who subscribed get.
#pragma once

#include <algorithm>
#include <covey/ipc/broadcast_core.hpp>
#include <covey/ipc/get_forms.hpp>
#include <covey/ipc/queue_messages.hpp>
#include <covey/sync/handle.hpp>
#include <iterator>

namespace covey {

template <class T>
class broadcast;

/// A place in the stream of a broadcast: it gets every message that was put after broadcast::subscribe() made it.
///
/// It lives as long as anybody has a copy: a process, a message, a shared object. Copies are one subscription and share
/// its messages: each goes to one of them. To give two processes all messages, subscribe twice.
///
/// A message that was got is the getter's: when it dies, no other holder of this subscription gets it again.
///
/// Handle:  a copy is the same subscription; subscribe first and give it to the process that shall miss nothing.
/// Safety:  process-safe. It takes no lock: who is stopped (SIGSTOP) at any instruction hinders nobody, but under
///          slow_subscriber::block those who put, once the broadcast is full of what it has not got.
/// Death:   when the last process that has it dies it is forgotten at once, with all that was kept for it.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/broadcast.md
template <class T>
class subscriber : public get_forms<subscriber<T>, T> {
  using forms = get_forms<subscriber<T>, T>;

 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;  ///< what it gets

  /// Blocks until a message comes; nothing when the broadcast is closed and all was got. It does not know who puts: to
  /// wait for that process too, see wait_any. Throws too_slow (under slow_subscriber::drop, from then on for ever),
  /// bad_message (one that cannot be read is skipped), queue_damaged.
  std::optional<T> get() const { return get_until_deadline(std::nullopt, nullptr); }
  using forms::get;

  /// Blocks until a message comes, and takes all that are there, but at most `max`, in their order; none when the
  /// broadcast is closed and all was got. Throws like get(), but only when it has got none before.
  std::vector<T> get_many(std::size_t max) const { return get_many_until_deadline(max, std::nullopt, nullptr); }
  using forms::get_many;

  /// How many messages this subscription did not get because they were overwritten first (slow_subscriber::lag), in
  /// all; they lie before the message that it got last. Ask after each get to learn where the gaps are.
  [[nodiscard]] std::uint64_t missed() const { return core_.missed(); }

  /// Whether broadcast::close() was called.
  [[nodiscard]] bool closed() const { return core_.closed(); }

  /// For wait_any: ready when get() would return, or throw, at once.
  [[nodiscard]] auto wait_hook() const {
    return detail::wait_hook{[c = &core_] { return c->ready(); }, [c = &core_] { return c->arm(); }};
  }

  /// Goes through the messages as they come: `for (const auto& message : subscriber)` blocks in get() and ends with it.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;  ///< goes once
    using value_type = T;  ///< a message
    using difference_type = std::ptrdiff_t;  ///< unused
    const T& operator*() const noexcept { return *message_; }  ///< the message
    const T* operator->() const noexcept { return &*message_; }  ///< the message
    /// The next one.
    iterator& operator++() {
      message_ = from_->get();
      return *this;
    }
    void operator++(int) { ++*this; }  ///< the next one
    bool operator==(std::default_sentinel_t) const noexcept { return !message_; }  ///< whether there is no more

   private:
    friend class subscriber;
    explicit iterator(const subscriber& from) : from_(&from), message_(from.get()) {}
    const subscriber* from_;
    std::optional<T> message_;
  };
  [[nodiscard]] iterator begin() const { return iterator(*this); }  ///< gets the first message
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }  ///< closed, and all was got

  /// Whether both are the same subscription.
  bool operator==(const subscriber& other) const noexcept { return core_.same(other.core_); }

  void encode_handle(detail::encoder& out) const { core_.encode(out); }  ///< for covey
  /// For covey.
  static subscriber decode_handle(detail::decoder& in) { return subscriber(detail::subscription_core::decode(in)); }

 private:
  friend forms;
  friend class broadcast<T>;
  explicit subscriber(detail::subscription_core core) : core_(std::move(core)) {}

  enum class unreadable : std::uint8_t { is_skipped, stays };

  // What was read counts when take() says that the message was there all the time.
  std::optional<T> get_until_deadline(const detail::deadline& until, const detail::stop_word* stop,
                                      unreadable then = unreadable::is_skipped) const {
    const detail::borrowed<detail::subscription_core::copied> message;
    while (core_.next(*message, until, stop) == detail::subscription_core::get_result::got) {
      std::optional<T> value;
      try {
        value.emplace(detail::decode_message<T>(message->payload()));
      } catch (const std::bad_alloc&) {
        throw;  // it is there for another try
      } catch (...) {
        if (then == unreadable::stays || core_.take(*message)) throw;
        continue;
      }
      if (core_.take(*message)) return value;
    }
    return std::nullopt;
  }

  std::vector<T> get_many_until_deadline(std::size_t max, const detail::deadline& until,
                                         const detail::stop_word* stop) const {
    std::vector<T> values;
    if (max == 0) return values;
    auto first = get_until_deadline(until, stop);
    if (!first) return values;
    values.push_back(std::move(*first));
    try {
      while (values.size() < max) {
        auto next = get_until_deadline(std::chrono::steady_clock::now(), nullptr, unreadable::stays);
        if (!next) break;
        values.push_back(std::move(*next));
      }
    } catch (const std::exception&) {
      // Nothing was taken that is not here: the next get says it again.
    }
    return values;
  }

  detail::subscription_core core_;
};

/// A bounded stream of T from any number of publishers to any number of subscribers, in threads and processes: every
/// subscriber gets every message that was put after it subscribed. A message is stored once, for all.
///
/// The last broadcast_options::items messages, of at most `bytes` bytes, are kept for subscribers that are behind; what
/// happens to one that falls further behind, broadcast_options::when_slow says. Nobody need be there: a message to
/// nobody is put all the same, and gone.
///
/// Handle:  a copy is the same broadcast; give it to any task, process or message.
/// Safety:  process-safe. There is no lock: who is stopped (SIGSTOP) at any instruction, publisher or subscriber,
///          hinders nobody, but under slow_subscriber::block as a subscriber that does not get.
/// Death:   a participant killed at any instruction leaves every committed message to all subscribers; a message that
///          was being put is not seen. Nobody waits for the dead.
/// Limits:  256 threads may put, each from its first put until it ends or its process has no handle any more; the next
///          one's put throws std::length_error. Each takes address space for twice `bytes`, and memory for what it has
///          put lately.
/// Order:   first in, first out, over all publishers: every subscriber gets the messages in the same order. What
///          happened before put() is visible after the get() that returned its message.
/// Memory:  shared objects in a message are held until the last subscriber has got it, or it is overwritten.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/broadcast.md. Example: examples/broadcast.cpp
template <class T>
class broadcast {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;  ///< what it carries

  /// Makes a broadcast that keeps `items` messages. Throws std::system_error if no shared memory can be had.
  explicit broadcast(std::size_t items = broadcast_options{}.items) : broadcast(broadcast_options{.items = items}) {}

  /// Makes a broadcast. Throws std::invalid_argument (a bound that is 0 or too large), std::system_error.
  explicit broadcast(const broadcast_options& options) : core_(options) { detail::require_travels<T>(); }

  /// When it returns, the message is committed: it outlives this process. Blocks under slow_subscriber::block while a
  /// living subscriber has not got what is kept. A thread's first put asks the keeper for its own memory, which takes
  /// longer. Throws queue_closed, std::length_error (larger than `bytes`, or too many threads put), std::system_error
  /// (no memory), queue_damaged.
  void put(const T& value) const { (void)put_until_deadline(value, std::nullopt, nullptr); }

  /// As put(), but returns false when `stop` was requested while it had to wait.
  [[nodiscard]] bool put(const T& value, std::stop_token stop) const {
    const detail::stop_word stopped(std::move(stop));
    return put_until_deadline(value, std::nullopt, &stopped);
  }

  /// Returns false when it would have to wait for a subscriber. Throws like put().
  [[nodiscard]] bool try_put(const T& value) const { return put_for(value, std::chrono::nanoseconds{0}); }

  /// Returns false when it had to wait for `timeout`, or `stop` was requested. Throws like put().
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const T& value, const std::chrono::duration<Rep, Period>& timeout,
                             std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_until_deadline(value, detail::deadline_in(timeout), &stopped);
  }

  /// As put_for, with a point in time.
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(const T& value, const std::chrono::time_point<Clock, Duration>& until,
                               std::stop_token stop = {}) const {
    const detail::stop_word stopped(std::move(stop));
    return put_until_deadline(value, detail::steady(until), &stopped);
  }

  /// A new subscription: it gets every message whose put() begins after this returned. Never blocks. Throws
  /// std::length_error when there are broadcast_options::subscribers of them, std::system_error.
  [[nodiscard]] subscriber<T> subscribe() const { return subscriber<T>(core_.subscribe()); }

  /// From now on put() throws queue_closed. Subscribers get what is kept for them, then the end; with discard the end
  /// at once. A put() that is under way at that moment is before it or throws. Never blocks.
  void close(close_mode mode = close_mode::drain) const { core_.close(mode); }

  /// Whether close() was called.
  [[nodiscard]] bool closed() const { return core_.closed(); }

  /// How many subscriptions somebody has, also such that were dropped. Asks the keeper: about 15 µs.
  [[nodiscard]] std::size_t subscribers() const { return core_.subscribers(); }

  /// For covey::room.
  [[nodiscard]] auto room_hook(std::size_t bytes) const {
    return detail::wait_hook{[c = &core_, n = std::max(bytes, detail::least_bytes<T>())] { return c->has_room(n); },
                             [c = &core_] { return c->arm_room(); }};
  }

  /// How many messages are kept.
  [[nodiscard]] std::size_t capacity() const { return core_.capacity(); }

  /// Whether both name the same broadcast.
  bool operator==(const broadcast& other) const noexcept { return core_.memory() == other.core_.memory(); }

  void encode_handle(detail::encoder& out) const { core_.memory().encode(out); }  ///< for covey
  /// For covey.
  static broadcast decode_handle(detail::decoder& in) { return broadcast(detail::broadcast_core::decode(in)); }

 private:
  explicit broadcast(detail::broadcast_core core) : core_(std::move(core)) {}

  bool put_until_deadline(const T& value, const detail::deadline& until, const detail::stop_word* stop) const {
    return detail::put_message(value, [&](const auto& m) { return core_.put(m, until, stop); });
  }

  detail::broadcast_core core_;
};

}  // namespace covey
