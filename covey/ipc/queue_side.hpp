/// @file
/// What one thread of one process has to do with one queue: its lane, and what it has in hand.
#pragma once

#include <covey/ipc/lane_writer.hpp>
#include <covey/ipc/ordered_writer.hpp>
#include <covey/ipc/queue_lanes.hpp>
#include <memory>

namespace covey::detail {

/// Safety: the thread's own.
struct queue_side {
  explicit queue_side(const queue_view& view) : q(view), name(this_name()) {}

  queue_view q;
  participant name;
  std::optional<lane_writer> writer;    // from the first put on, or
  std::optional<ordered_writer> by_rank;  // this, where messages go by rank
  std::vector<held_message> hand;       // oldest first
  region kept;                          // the queue, while something is in hand: that outlives the thread's handles
  std::vector<region> data;             // of lanes, those that were read from
  std::size_t next_lane = 0;
  lane_cursor cursor{};
  unsigned from_same_lane = 0;
  unsigned lane_limit = 1;
  unsigned takes = 0;
  std::chrono::steady_clock::time_point timed_at{};
  unsigned in_a_row = 0;                // takes that found something
  unsigned busy = 0;                    // how often it found something lately
  std::uint64_t last_position = 0;

  /// The region of lane `l`, with its larger payloads. Throws queue_damaged.
  std::span<const std::byte> data_of(std::size_t l);

  // For side_table.
  using shared_view = queue_view;
  static constexpr std::array kinds{region_kind::queue, region_kind::ordered_queue};
  static queue_view look_at(const region& queue);
  void leave() noexcept;
  static void before_thread_ends();
};

/// The queue's memory, checked. Throws queue_damaged. `tells`: as in queue_view.
queue_view view_of(const region& queue, bool tells = true);

/// The side of this thread. Made at the first call; gone with the thread, or with the last handle of the process.
/// Throws queue_damaged.
queue_side& side_of(const region& queue);

/// The sides of this thread that have something in hand.
std::vector<queue_side*> sides_with_messages();

}  // namespace covey::detail
