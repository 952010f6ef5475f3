/// @file
/// What can be seen of queues and broadcasts without touching them. docs/design/inspect.md.
#pragma once

#include <covey/memory/ledger.hpp>
#include <optional>
#include <vector>

namespace covey::detail {

/// Of a queue, priority_queue or lifo_queue.
struct queue_sight {
  const char* kind = "queue";
  std::size_t capacity = 0;
  std::size_t waiting = 0;
  std::size_t failed = 0;
  std::uint64_t put = 0;  // of a queue: positions given to messages, in all lanes
  std::uint64_t got = 0;  // of these, those that are in no slot any more
  bool closed = false;
  std::uint32_t getters = 0, putters = 0;  // asleep; the killed stay counted until somebody is woken
  std::vector<participant> hands{};  // one for each message in flight
};

/// Of a broadcast.
struct broadcast_sight {
  struct subscriber {
    std::uint64_t region = 0;  // whose holders are the subscriber
    std::uint64_t behind = 0;
    std::uint64_t missed = 0;
  };
  std::size_t capacity = 0;
  std::size_t kept = 0;
  std::uint64_t put = 0;
  bool closed = false;
  std::vector<subscriber> subscribers{};
};

/// Of the queue with that region, which this process holds. Nothing when it holds it no longer, or it is damaged, or of
/// another kind. Reads only.
std::optional<queue_sight> inspect_queue(std::uint64_t region_id);

/// The same of a broadcast.
std::optional<broadcast_sight> inspect_broadcast(std::uint64_t region_id);

}  // namespace covey::detail
