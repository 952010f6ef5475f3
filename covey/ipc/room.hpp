/// @file
/// room: waits until something may be put.
#pragma once

#include <concepts>
#include <covey/memory/waitable.hpp>
#include <cstddef>
#include <utility>

namespace covey {

/// Where room is waited for: queue, priority_queue, lifo_queue, a writer of one, pipe (what is put there), broadcast.
template <class T>
concept has_room_to_wait_for = requires(const T& object) {
  { object.room_hook(std::size_t{}).ready() } -> std::same_as<bool>;
};

/// What wait_any and pollable wait for on the writing side: that a message may be put.
///
///     covey::wait_any(covey::room{queue}, event);  // queue.try_put() finds room, unless another was faster
///     covey::pollable p{covey::room{queue}};       // its descriptor is readable when there is room
///
/// Ready while put() would not block: there is room, or put() throws (the queue is closed, its readers are gone, …). It
/// takes nothing and reserves nothing. A broadcast has no room only under slow_subscriber::block. A queue's writer() is
/// waited for in this way by itself.
///
/// A thread that waits so counts among those that put to the queue, from then on.
///
/// Safety: as a handle of what it was made of, of which it keeps a copy.
/// Death:  a consumer that dies may make room, or be the last one: both are seen. What it had in hand may come back and
///         wait again: then it was room for a moment. Whoever is killed while he waits costs others one needless wake.
/// Design: docs/design/waiting.md. Example: covey/process/pollable_test.cpp
template <has_room_to_wait_for Queue>
class room {
 public:
  /// For a message of `bytes`, but at least what the smallest message takes. A message that is larger may find no room
  /// though this is ready: a loop that waits for more again must say how much.
  explicit room(Queue queue, std::size_t bytes = 0) : queue_(std::move(queue)), bytes_(bytes) {}

  /// For wait_any.
  [[nodiscard]] auto wait_hook() const { return queue_.room_hook(bytes_); }

 private:
  Queue queue_;
  std::size_t bytes_;
};

}  // namespace covey
