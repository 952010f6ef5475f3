/// @file
/// dispatcher: the pool without types. Who runs what, who died, what is tried again.
#pragma once

#include <covey/pool/future.hpp>
#include <covey/process/callable.hpp>
#include <functional>
#include <memory>
#include <string>

namespace covey::detail {

/// Runs packed tasks on worker processes. docs/design/pool.md draws the states.
///
/// Safety: thread-safe.
class dispatcher {
 public:
  dispatcher(std::size_t workers, std::string name, std::size_t bytes);
  dispatcher(const dispatcher&) = delete;
  dispatcher& operator=(const dispatcher&) = delete;

  /// Finishes what was submitted, then ends the workers.
  ~dispatcher();

  /// Runs `call`, which answers `count` times, into `sink`. Returns the task's number.
  std::uint64_t submit(packed_call call, std::size_t count, std::shared_ptr<task_sink> sink, unsigned retries = 0);

  /// Takes back a task that no worker has; its sink gets task_cancelled for each answer. False when it was too late.
  bool cancel(std::uint64_t task);

  /// cancel() for those who may outlive this: false then.
  [[nodiscard]] std::function<bool(std::uint64_t)> canceller() const;

  [[nodiscard]] std::size_t workers() const noexcept;
  [[nodiscard]] std::vector<pid_t> worker_pids() const;
  [[nodiscard]] std::size_t waiting_approx() const;
  [[nodiscard]] std::uint64_t workers_replaced() const;

 private:
  struct state;
  std::shared_ptr<state> state_;
};

}  // namespace covey::detail
