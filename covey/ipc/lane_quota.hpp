/// @file
/// Who may move quota between lanes, and how messages that come back get their room. docs/design/queue.md.
#pragma once

#include <covey/ipc/ordered_lanes.hpp>

namespace covey::detail {

/// Who may move quota from lane to lane: one at a time. Nothing else waits for it. It may be killed, or stopped, at any
/// time: then the next one takes its place, and gives every lane's quotas another turn, so that what the former still
/// wants to store, if it goes on one day, is refused. There is nothing to repair: quota that was in its hand is
/// nobody's, for all sums are taken anew.
class quota_mover {
 public:
  /// Waits for who is at it, but not for long: then it takes his place.
  explicit quota_mover(const queue_view& q);
  quota_mover(const quota_mover&) = delete;
  quota_mover& operator=(const quota_mover&) = delete;
  ~quota_mover();

 private:
  void next_turn();

  const queue_view& q_;
  std::atomic<participant>& holder_;
};

/// Before messages come back from the dead, or `more` of them from this thread's hand: when they and all that may be
/// put are more than the queue may hold, nobody may put any more, until he has looked (gather_quota()). The caller may
/// move quota; until he may not any longer, nobody takes that room.
void give_room_to_returned(const queue_view& q, const lane_load& more = {});

}  // namespace covey::detail
