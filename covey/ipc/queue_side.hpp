/// @file
/// What one thread of one process has to do with one queue: its lane, and what it has in hand.
#pragma once

#include <covey/ipc/lane_writer.hpp>
#include <covey/ipc/ordered_writer.hpp>
#include <covey/ipc/queue_lanes.hpp>
#include <covey/ipc/side_table.hpp>
#include <memory>

namespace covey::detail {

/// Safety: the thread's own.
struct queue_side {
  explicit queue_side(const queue_view& view) : q(view), name(this_name()) { hand.reserve(1); }

  queue_view q;
  participant name;
  std::optional<lane_writer> writer;    // from the first put on, or
  std::optional<ordered_writer> by_rank;  // this, where messages go by rank
  std::vector<held_message> hand;       // oldest first; room is made before one is taken, or it might be lost
  region kept;                          // the queue, while something is in hand: that outlives the thread's handles
  // The region of a lane that was read from, with its larger payloads.
  struct lane_data {
    std::span<const std::byte> bytes;
    region held;
  };
  std::vector<lane_data> data;          // by lane
  std::size_t next_lane = 0;
  lane_cursor cursor{};
  unsigned from_same_lane = 0;
  unsigned lane_limit = 1;
  unsigned takes = 0;
  std::chrono::steady_clock::time_point timed_at{};
  unsigned in_a_row = 0;                // takes that found something
  unsigned busy = 0;                    // how often it found something lately

  /// Throws queue_damaged.
  std::span<const std::byte> data_of(std::size_t l) {
    const std::uint64_t id = q.lane(l).data.load(std::memory_order_acquire);
    return l < data.size() && data[l].held.id() == id && id != 0 ? data[l].bytes : open_data(l, id);
  }

  // For side_table.
  using shared_view = queue_view;
  static constexpr std::array kinds{region_kind::queue, region_kind::ordered_queue};
  static queue_view look_at(const region& queue);
  void leave() noexcept;
  static void before_thread_ends();

 private:
  std::span<const std::byte> open_data(std::size_t l, std::uint64_t id);
};

/// The queue's memory, checked. Throws queue_damaged. `tells`: as in queue_view.
queue_view view_of(const region& queue, bool tells = true);

/// The side of this thread. Made at the first call; gone with the thread, or with the last handle of the process.
/// Throws queue_damaged.
inline queue_side& side_of(const region& queue) { return side_table<queue_side>::of(queue); }

/// The sides of this thread that have something in hand.
std::vector<queue_side*> sides_with_messages();

}  // namespace covey::detail
