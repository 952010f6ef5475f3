/// @file
/// ordered_writer: puts into a lane whose messages go by rank. docs/design/ordered_queue.md.
#pragma once

#include <covey/ipc/lane_owner.hpp>
#include <deque>
#include <map>
#include <utility>

namespace covey::detail {

/// Puts into a lane that one thread owns from its first put to its end. The lane has a list of its messages by rank, in
/// shared memory; where in it each one stands, its owner knows from a map of its own.
///
/// Safety: the thread's own.
/// Death:  see docs/design/ordered_queue.md.
class ordered_writer : public lane_owner {
 public:
  /// Makes this thread the owner of a lane. Throws std::length_error when all have one, queue_damaged.
  explicit ordered_writer(const queue_view& q);

  /// Commits it, if there is room; its references are the message's by then. Its position, or nullopt. Throws
  /// queue_damaged, std::system_error.
  std::optional<std::uint64_t> publish(const parcel& p);

  /// As publish, with room that other lanes have and do not use: lane_owner::publish_with_more().
  std::optional<std::uint64_t> publish_with_more(const parcel& p) { return lane_owner::publish_with_more(*this, p); }

  /// Whether publish_with_more() would commit such a message. Throws queue_damaged.
  [[nodiscard]] bool has_room_for(const parcel& p) { return lane_owner::has_room_for(*this, p); }

  /// Whether the message that goes first was taken since the last look, or nothing waits here.
  [[nodiscard]] bool might_have_room() const noexcept;

 private:
  friend lane_owner;

  using order = std::pair<std::uint64_t, std::uint64_t>;  // rank, number
  struct listed {
    std::uint64_t index;
    std::uint64_t position;
    std::uint64_t size;
    bool waits = false;  // for the first time, as last seen
  };
  using listed_messages = std::map<order, listed>;

  struct free_slot {
    std::uint64_t index;
    std::uint64_t position;  // the next
    std::uint32_t left;  // the list, after so many puts
  };

  void adopt();
  [[nodiscard]] bool has_room(const parcel& p, std::uint64_t gate);
  [[nodiscard]] std::uint64_t gate_now() const { return checked_gate(puts_); }
  [[nodiscard]] bool has_room_anywhere(const parcel& p, std::uint64_t gate);
  [[nodiscard]] bool fits_now(const parcel& p, std::uint64_t gate) const noexcept;
  [[nodiscard]] need need_for(const parcel& p) const noexcept { return {waiting_.items + 1, waiting_.bytes + p.size}; }
  void tidy_up();
  void look(std::size_t until_so_many_wait);
  void set_waiting(listed& m, bool waits) noexcept;
  [[nodiscard]] bool has_slot();
  std::optional<free_slot> next_slot();
  void hurry();
  void commit_slot(std::uint64_t index);
  void give_slot_back(const free_slot& slot);
  void link(std::uint64_t at, std::uint64_t to);
  [[nodiscard]] std::uint64_t before(listed_messages::const_iterator it) const;
  [[nodiscard]] std::uint64_t after(listed_messages::const_iterator it) const;
  bool unlist(listed_messages::iterator it);
  void list(listed_messages::const_iterator it);
  void unlist_those_behind(listed_messages::iterator it);
  void show(const order& o, std::uint64_t index);
  bool reserve_slot(const free_slot& slot, const parcel& p, std::uint64_t gate);
  bool publish_in(const free_slot& slot, const order& o, const parcel& p);
  void attach_to(const free_slot& slot, std::span<const std::uint64_t> references);

  std::uint32_t puts_ = 0;  // as in the gate
  need waiting_{0, 0};  // as last seen, so that many or more
  listed_messages list_;
  std::size_t tidy_at_ = 64;
  std::deque<free_slot> free_;  // longest free first
  std::uint64_t slots_used_ = 0;
  std::uint64_t slots_committed_ = 0;
};

}  // namespace covey::detail
