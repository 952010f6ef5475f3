/// @file
/// What a pool's worker process runs, and the channels to it.
#pragma once

#include <covey/ipc/queue_core.hpp>
#include <covey/pool/task.hpp>

namespace covey::detail {

/// A queue of raw messages that travels as an argument.
struct pool_channel {
  using covey_handle = void;
  queue_core core;
  void encode_handle(encoder& out) const { core.memory().encode(out); }
  static pool_channel decode_handle(decoder& in) { return {queue_core::decode(in)}; }
};

/// What stands before the task's own bytes.
struct task_head {
  std::uint64_t task = 0;
  std::uint64_t entry = 0;
  std::uint64_t first = 0;  // answers below were given by a worker that died
};

/// What stands before an answer's own bytes.
struct answer_head {
  std::uint64_t task = 0;
  std::uint64_t index = 0;
  bool is_value = false;
};

/// Runs tasks until `tasks` is closed and drained.
void run_pool_worker(pool_channel tasks, pool_channel answers);

}  // namespace covey::detail
