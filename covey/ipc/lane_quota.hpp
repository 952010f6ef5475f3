/// @file
/// Who may move quota between lanes, and how messages that come back get their room. docs/design/queue.md.
#pragma once

#include <covey/ipc/ordered_lanes.hpp>
#include <optional>

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

/// Room for messages that come back. While it is had, nobody puts but by a quota that he has gathered since, and who
/// gathers counts what came back and what is in dead hands.
///
/// Safety: the thread's own.
/// Death:  quotas are lower than they could be, until they are gathered.
class room_for_returned {
 public:
  explicit room_for_returned(const queue_view& q) : q_(q) {}

  /// Before each one is returned, once it is known that its hand is dead: lowers every lane's quotas to 0, unless that
  /// was done and nobody has moved any since.
  void have();

 private:
  const queue_view& q_;
  std::optional<quota_mover> mover_{};
};

}  // namespace covey::detail
