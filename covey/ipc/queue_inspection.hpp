/// @file
/// What can be seen of a queue without touching it. docs/design/inspect.md.
#pragma once

#include <covey/memory/ledger.hpp>
#include <optional>
#include <vector>

namespace covey::detail {

struct queue_sight {
  std::size_t capacity = 0;
  std::size_t waiting = 0;
  std::uint64_t put = 0;  // positions given to messages, in all lanes
  bool closed = false;
  std::vector<participant> hands{};  // one for each message in flight
};

/// Of the queue with that region, which this process holds. Nothing when it holds it no longer, or it is damaged.
/// Reads only.
std::optional<queue_sight> inspect_queue(std::uint64_t region_id);

}  // namespace covey::detail
