/// @file
/// queue_core: a bounded queue of byte messages in a region. docs/design/queue.md draws its states.
#pragma once

#include <array>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <covey/memory/waitable.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

namespace covey {

/// A put to a queue that was closed.
class queue_closed : public std::runtime_error {
 public:
  queue_closed() : std::runtime_error("covey: put to a queue that is closed") {}  ///< says so
};

/// The last process that had taken the reader role ended or died: nobody would read what is put.
class no_consumers : public std::runtime_error {
 public:
  no_consumers() : std::runtime_error("covey: the last reader of a queue is gone") {}  ///< says so
};

/// No process has the writer role any more, one of those that had taken it died before anybody closed the queue, and
/// all that they put has been read.
class no_producers : public std::runtime_error {
 public:
  no_producers() : std::runtime_error("covey: the last writer of a queue died without closing it") {}  ///< says so
};

/// The shared memory of a queue holds what it cannot: a participant has overwritten it. The queue is of no more use;
/// what else its participants do is not touched.
class queue_damaged : public std::runtime_error {
 public:
  queue_damaged()
      : std::runtime_error("covey: the shared memory of a queue was overwritten by one of its participants") {
  }  ///< says so
};

/// What becomes of a message that was in the hand of a consumer that died.
enum class in_flight_policy : std::uint8_t {
  redeliver,  ///< the next consumer gets it, before newer ones
  fail,       ///< it is set aside, for get_failed()
  drop,       ///< nobody gets it
};

/// What close() does with messages that nobody has read.
enum class close_mode : std::uint8_t {
  drain,    ///< readers get them, then the end
  discard,  ///< they are dropped
};

/// How to make a queue. Nothing is put into one that is full. What comes back from a dead consumer takes its room
/// before what is new does; if there is none left, it is as if still in flight until there is.
struct queue_options {
  std::size_t items = 1024;       ///< messages that may wait, from 1 (there is none without a bound)
  std::size_t bytes = 64U << 20;  ///< of all that wait; also the largest message. Memory is taken as needed.
  in_flight_policy on_death = in_flight_policy::redeliver;  ///< for messages in the hand of a consumer that died
  std::size_t deliveries_max = 0;  ///< a message that so many consumers died with fails, by any policy; 0: no end
};

namespace detail {

/// Which message goes first.
enum class queue_order : std::uint64_t {
  first_in,      ///< of one producer, the oldest
  by_rank,       ///< the smallest rank, and of equal ones the oldest
  newest_first,  ///< as by_rank: the newest has the smallest
};

enum class queue_role : std::uint32_t { reader = 1, writer = 2 };

struct message_slot;
struct queue_side;

class queue_core {
 public:
  queue_core() = default;
  explicit queue_core(const queue_options& options) : queue_core(options, queue_order{}) {}
  queue_core(const queue_options& options, queue_order order);

  /// False: full until `until`, or stopped. Throws queue_closed, no_consumers, std::length_error (too large for ever),
  /// queue_damaged.
  bool put(const encoder& message, const deadline& until, const stop_word* stop) const {
    return put(outgoing{{}, message.bytes, message.attachments}, until, stop);
  }
  struct outgoing {
    std::span<const std::byte> head{};  // goes before `bytes`
    std::span<const std::byte> bytes{};
    std::span<const std::uint64_t> attachments{};
    std::uint64_t rank = 0;  // where messages go by rank: the smallest goes first
  };
  bool put(const outgoing& message, const deadline& until, const stop_word* stop) const;

  /// As put, for several in order. How many were put: all, unless `until` passed, or stopped.
  std::size_t put_many(std::span<const outgoing> messages, const deadline& until, const stop_word* stop) const;

  /// Memory for a message that this thread writes in place and then publishes, or gives back.
  struct loan {
    std::uint64_t extent = 0;
    std::span<std::byte> bytes{};
    std::uint64_t rank = 0;  // to publish it with
  };
  /// Nothing: no memory until `until`, or stopped. Throws like put.
  std::optional<loan> borrow(std::size_t bytes, const deadline& until, const stop_word* stop) const;
  bool publish(const loan& written, const deadline& until, const stop_word* stop) const;
  /// Does nothing in a thread that has not borrowed it: then it comes back when that thread ends.
  void give_back(const loan& unwanted) const noexcept;

  struct taken {
    std::vector<std::byte> bytes;
    std::uint32_t deliveries = 0;  // with this one
  };
  enum class get_result { got, ended, not_now };

  /// Takes the oldest into `out`; it stays in flight in the hand of this thread. `ended`: closed and drained. `not_now`
  /// also when the family's deaths are no longer `*deaths`, if given. Throws no_producers, queue_damaged.
  get_result get(taken& out, const deadline& until, const stop_word* stop, const std::uint32_t* deaths = nullptr) const;

  /// A message in the hand of this thread, where it lies: large ones in memory that only their producer can write.
  struct incoming {
    alignas(8) std::array<std::byte, 72> small;  // a small one is copied
    std::span<const std::byte> bytes{};
    std::span<const std::byte> large{};  // all of its payload, if it lies there
    const queue_side* side = nullptr;  // whose thread has it
    const message_slot* slot = nullptr;
    std::uint32_t deliveries = 0;

    /// After it was read: throws queue_damaged when its producer has written over it.
    void expect_unchanged() const {
      if (!large.empty()) check();
    }

   private:
    void check() const;
  };
  /// As above, without a copy. Its bytes are there until it is acknowledged. What was read of them counts once
  /// expect_unchanged() has said nothing.
  get_result get(incoming& out, const deadline& until, const stop_word* stop) const;

  struct several {
    get_result result = get_result::not_now;
    std::size_t count = 0;  // got
    queue_side* side = nullptr;  // whose thread has them
  };

  /// Takes as many as wait, at most `n` and no more than `items`; all of them stay in flight.
  several get_many(std::size_t n, const deadline& until, const stop_word* stop) const;
  /// The `n`th of `those`, which are still in the hand of this thread.
  static void look_at(const several& those, std::size_t n, incoming& out);

  /// A message that is read in place. It stays in flight until it is given to finish(), whatever else its thread gets.
  struct viewed {
    std::uint32_t lane = 0;
    std::uint64_t position = 0;
    participant hand = 0;
    std::uint32_t deliveries = 0;
    std::size_t small_bytes = 0;
    std::array<std::byte, 72> small;  // a small message is copied
    std::span<const std::byte> large;  // memory that only its producer can write
    region data{};  // that memory: it outlives the thread's own hold of it
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
  };
  get_result get_view(viewed& out, const deadline& until, const stop_word* stop) const;
  void finish(const viewed& v) const noexcept;

  /// Takes one that failed; it is in flight in the hand of this thread. False when there is none.
  bool get_failed(incoming& out) const;
  [[nodiscard]] std::size_t failed() const;

  /// Of what this thread has in hand, the `n`th is acknowledged; the others wait again at their old places.
  static constexpr std::size_t none = ~std::size_t{0};
  void drop_one_put_back_others(std::size_t n) const;

  /// Acknowledges the oldest message in the hand of this thread. False when there is none.
  bool acknowledge() const;

  /// False: `until` passed first.
  bool join(const deadline& until, const stop_word* stop) const;

  /// For who waits for this among other things: whether get() would return at once, having released what this thread
  /// has in hand. Once the writers are lost it may still wait for what other consumers have in hand.
  [[nodiscard]] bool ready() const;
  wait_word arm() const;

  /// The same for who waits for room: whether put() of a message of `bytes` would return, or throw, at once. Makes this
  /// thread one that puts.
  [[nodiscard]] bool has_room(std::size_t bytes) const;
  wait_word arm_room() const;

  void close(close_mode mode) const;
  [[nodiscard]] bool closed() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t size_approx() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept;

  /// This process takes, or gives back, a role; counted.
  void take_role(queue_role role) const;
  void leave_role(queue_role role) const noexcept;

  [[nodiscard]] const region& memory() const noexcept { return region_; }
  /// Throws bad_message when it is none of this order.
  static queue_core decode(decoder& in, queue_order order = {});

 private:
  explicit queue_core(region r) : region_(std::move(r)) {}
  inline several take(queue_side& side, std::size_t n, const deadline& until, const stop_word* stop,
                      const std::uint32_t* deaths) const;
  struct found_nothing;
  several take_later(queue_side& side, std::size_t n, const deadline& until, const stop_word* stop,
                     const std::uint32_t* deaths, found_nothing seen) const;
  region region_;
};

/// Acknowledges what this thread has in hand, in all queues: it ended in order.
void acknowledge_all() noexcept;

}  // namespace detail
}  // namespace covey
