/// @file
/// What takers and sweepers do with the lanes of a queue that goes by rank. docs/design/ordered_queue.md.
#pragma once

#include <covey/ipc/queue_lanes.hpp>
#include <optional>

namespace covey::detail {

/// Takes the message of the smallest rank, and of those the oldest. Throws queue_damaged.
std::optional<held_message> take_first(const queue_view& q);

/// Whether take_first would find one.
bool anything_in_order(const queue_view& q);

/// Whether something waits or is in flight; or was put during the call.
bool anything_unfinished(const queue_view& q);

/// Who looks for messages of lane `l` begins at the front of its list again.
void begin_anew(const queue_view& q, std::size_t l);

/// What waits in a lane for the first time, or is being put there.
lane_load load_of(const queue_view& q, std::size_t l);

/// The index of the slot to which link `word` leads, and 1; 0: the end. `at` is where it stands: such an index, or 0
/// for the list's first link. Nothing: somebody wrote over it.
std::optional<std::uint64_t> link_target(const queue_view& q, std::uint64_t at, std::uint64_t word);

}  // namespace covey::detail
