/// @file
/// The messages of a queue under its lock. docs/design/ordered_queue.md.
#pragma once

#include <covey/ipc/ordered_layout.hpp>

namespace covey::detail {

/// The lock is taken while it lives (see locked() and unlock()), what the dead left was repaired, and the damaged is
/// refused. Who is to be woken is woken after the lock.
class ordered_lists {
 public:
  /// Throws queue_damaged. Not locked() when `limit` was over before its turn came.
  ordered_lists(const ordered_memory& m, const time_limit& limit);
  /// Without the lock, for what needs none.
  explicit ordered_lists(const ordered_memory& m);
  ordered_lists(const ordered_lists&) = delete;
  ordered_lists& operator=(const ordered_lists&) = delete;
  ~ordered_lists() {
    if (locked_) unlock();
  }
  void unlock();
  [[nodiscard]] bool locked() const { return locked_; }

  /// A descriptor and blocks for `size` bytes, in my hand; `nothing` when there is no room now.
  std::uint32_t reserve(std::uint64_t size, std::uint64_t attachments);
  void copy_in(std::uint32_t i, std::span<const std::byte> head, std::span<const std::byte> rest) const {
    blocks_.copy_in(m_.descriptor(i).first_block, {head, rest});
  }
  void commit(std::uint32_t i, std::uint64_t rank, std::uint64_t payload_sum);

  /// The one that goes first, into my hand. Some message is queued.
  std::uint32_t take();
  /// Any that failed, into my hand; `nothing` when there is none.
  std::uint32_t take_failed();
  [[nodiscard]] bool in_my_hand(std::uint32_t i) const;
  void release(std::uint32_t i);
  /// Nobody saw it.
  void put_back(std::uint32_t i);
  /// Queued and failed ones are nobody's.
  void discard();

  /// What was put, checked; references first. It is in my hand: the lock need not be held.
  void copy_out(std::uint32_t i, std::vector<std::byte>& out) const;
  [[nodiscard]] std::size_t references_in(std::uint32_t i) const;
  [[nodiscard]] std::uint64_t deliveries(std::uint32_t i) const { return m_.state(m_.descriptor(i)).deliveries(); }

  [[nodiscard]] std::uint32_t flags() const { return m_.flags(); }
  [[nodiscard]] std::uint32_t queued() const { return b_.queued; }
  [[nodiscard]] bool idle() const { return b_.queued == 0 && b_.held == 0; }
  [[nodiscard]] ordered_books& books() const { return b_; }

  /// Everybody who sleeps shall look, and count itself again.
  void wake_all();

 private:
  void rebuild();
  void sweep();
  void return_from_the_dead(std::uint32_t i);

  void free_descriptor(std::uint32_t i);
  std::uint32_t take_descriptor();
  void count_out(std::uint32_t i, slot_state was);

  void set_queued(std::uint32_t n);
  void add(std::uint32_t i);
  std::uint32_t remove_first();
  void sink(std::uint32_t n);
  [[nodiscard]] bool goes_before(std::uint32_t a, std::uint32_t b) const;

  [[nodiscard]] std::uint64_t size_of(const message_descriptor& d) const;

  void readers_may_look(int how_many);
  void writers_may_look();
  void after_leaving_hand();

  const ordered_memory& m_;
  ordered_header& h_;
  ordered_books& b_;
  block_chains blocks_;
  bool locked_ = false;
  int wake_readers_ = 0, wake_writers_ = 0, wake_joiners_ = 0;
  bool wake_pollers_ = false;
};

/// What commit() is to know of the payload.
std::uint64_t payload_sum_of(const ordered_memory& m, std::span<const std::byte> head,
                             std::span<const std::byte> rest) noexcept;

}  // namespace covey::detail
