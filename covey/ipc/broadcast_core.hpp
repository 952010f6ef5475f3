/// @file
/// broadcast_core: byte messages in a region, each for all who subscribed. docs/design/broadcast.md draws its states.
#pragma once

#include <covey/ipc/queue_core.hpp>

namespace covey {

/// A subscriber under slow_subscriber::drop did not get messages as fast as they came: it is none any more.
class too_slow : public std::runtime_error {
 public:
  too_slow() : std::runtime_error("covey: a subscriber was too slow, and is none any more") {}  ///< says so
};

/// What happens when a broadcast is full of messages that a subscriber has not got.
enum class slow_subscriber : std::uint8_t {
  lag,    ///< the oldest are overwritten; it goes on with the oldest there is, and subscriber::missed() counts
  drop,   ///< as lag, but it is no subscriber any more: its next get() throws too_slow
  block,  ///< put() waits for it, as long as it lives
};

/// How to make a broadcast.
struct broadcast_options {
  std::size_t items = 1024;        ///< messages that are kept for subscribers
  std::size_t bytes = 64U << 20;   ///< of all that are kept; also the largest message. Memory is taken as needed.
  std::size_t subscribers = 64;    ///< at one time; at most 4,096
  slow_subscriber when_slow = slow_subscriber::lag;  ///< what happens when one does not keep up
};

namespace detail {

/// One subscription: a place in the stream, for as long as anybody holds its region.
class subscription_core {
 public:
  using get_result = queue_core::get_result;

  subscription_core() = default;
  subscription_core(region broadcast, region own, std::uint32_t slot)
      : broadcast_(std::move(broadcast)), own_(std::move(own)), slot_(slot) {}
  subscription_core(const subscription_core&) = default;
  subscription_core(subscription_core&&) = default;
  subscription_core& operator=(subscription_core other) noexcept;
  ~subscription_core();

  /// A copy of the next message. It is this subscription's when take() says so.
  struct copied {
    std::vector<std::byte> bytes{};  // references first
    std::size_t attachments = 0;
    std::uint64_t cursor = 0;  // as it stood
    std::uint64_t number = 0;
    [[nodiscard]] std::span<const std::byte> payload() const noexcept {
      return std::span(bytes).subspan(attachments * sizeof(std::uint64_t));
    }
  };
  /// Throws too_slow, queue_damaged.
  get_result next(copied& out, const deadline& until, const stop_word* stop) const;
  /// False: what was read from it may be wrong, because the message left meanwhile or another holder has taken it.
  [[nodiscard]] bool take(const copied& message) const;

  [[nodiscard]] std::uint64_t missed() const;
  [[nodiscard]] bool closed() const;
  [[nodiscard]] bool ready() const;
  wait_word arm() const;

  [[nodiscard]] bool same(const subscription_core& other) const noexcept { return own_ == other.own_; }
  void encode(encoder& out) const;
  static subscription_core decode(decoder& in);

 private:
  region broadcast_;
  region own_;  // holds nothing: that somebody has it is all
  std::uint32_t slot_ = 0;
};

class broadcast_core {
 public:
  using outgoing = queue_core::outgoing;

  broadcast_core() = default;
  explicit broadcast_core(const broadcast_options& options);

  /// False: full until `until`, or stopped. Throws queue_closed, std::length_error (too large for ever), queue_damaged.
  bool put(const outgoing& message, const deadline& until, const stop_word* stop) const;
  /// Whether put() of a message of `bytes` would return, or throw, at once. Under slow_subscriber::block it makes this
  /// thread one that puts.
  [[nodiscard]] bool has_room(std::size_t bytes) const;
  wait_word arm_room() const;
  [[nodiscard]] subscription_core subscribe() const;
  [[nodiscard]] std::size_t subscribers() const;
  [[nodiscard]] std::size_t capacity() const;
  void close(close_mode mode) const;
  [[nodiscard]] bool closed() const;

  [[nodiscard]] const region& memory() const noexcept { return region_; }
  static broadcast_core decode(decoder& in) { return broadcast_core(region::decode(in, region_kind::broadcast)); }

 private:
  explicit broadcast_core(region r) : region_(std::move(r)) {}
  region region_;
};

}  // namespace detail
}  // namespace covey
