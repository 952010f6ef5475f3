/// @file
/// ordered_core: a bounded queue of byte messages that go by rank or newest first. docs/design/ordered_queue.md.
#pragma once

#include <covey/ipc/queue_core.hpp>

namespace covey::detail {

/// Which message goes first.
enum class queue_order : std::uint64_t {
  by_rank,  ///< the smallest rank, then the oldest
  newest_first,
};

/// As queue_core, from which its members have their names and meanings; but under one lock.
class ordered_core {
 public:
  using outgoing = queue_core::outgoing;
  using get_result = queue_core::get_result;
  using several = queue_core::several;
  using incoming = queue_core::incoming;

  ordered_core() = default;
  ordered_core(const queue_options& options, queue_order order);

  /// Among those of equal `rank` the oldest goes first. Not used when the newest goes first.
  bool put(const outgoing& message, std::uint64_t rank, const deadline& until, const stop_word* stop) const;

  get_result get(incoming& out, const deadline& until, const stop_word* stop) const;
  several get_many(std::size_t n, const deadline& until, const stop_word* stop) const;
  void look_at(std::size_t n, incoming& out) const;
  bool get_failed(incoming& out) const;
  [[nodiscard]] std::size_t failed() const;
  static constexpr std::size_t none = queue_core::none;
  void drop_one_put_back_others(std::size_t n) const;
  bool acknowledge() const;
  bool join(const deadline& until, const stop_word* stop) const;
  [[nodiscard]] bool ready() const;
  wait_word arm() const;
  void close(close_mode mode) const;
  [[nodiscard]] bool closed() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t size_approx() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept;
  void take_role(queue_role role) const;
  void leave_role(queue_role role) const noexcept;

  [[nodiscard]] const region& memory() const noexcept { return region_; }
  /// Throws bad_message when it is none of this order.
  static ordered_core decode(decoder& in, queue_order order);

 private:
  explicit ordered_core(region r) : region_(std::move(r)) {}
  region region_;
};

/// Acknowledges what this thread has in hand, in all such queues: it ended in order.
void acknowledge_all_ordered() noexcept;

}  // namespace covey::detail
