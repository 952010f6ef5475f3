/// @file
/// How tasks fail when it is not their own exception.
#pragma once

#include <covey/process/exit_status.hpp>
#include <stdexcept>

namespace covey {

/// The worker that ran a task died: the task's own fault (a crash), or somebody killed the process. The pool goes on.
class worker_died : public std::runtime_error {
 public:
  /// Says how in one sentence; the frames are in backtrace().
  explicit worker_died(exit_status status)
      : std::runtime_error("covey: the worker of a task " + status.describe()), status_(std::move(status)) {}

  /// The signal that ended it, or 0 when it exited.
  [[nodiscard]] int signal() const noexcept { return status_.signal(); }

  /// Where it crashed, innermost first; empty when it was killed from outside.
  [[nodiscard]] const covey::backtrace& backtrace() const noexcept { return status_.backtrace(); }

  /// All that is known.
  [[nodiscard]] const exit_status& status() const noexcept { return status_; }

 private:
  exit_status status_;
};

/// The task was cancelled before it started.
class task_cancelled : public std::runtime_error {
 public:
  task_cancelled() : std::runtime_error("covey: the task was cancelled before it started") {}  ///< says so
};

}  // namespace covey
