/// @file
/// exit_status: how a process ended.
#pragma once

#include <covey/process/backtrace.hpp>
#include <exception>
#include <string>

namespace covey {

/// How a process ended.
///
/// Safety: thread-compatible.
class exit_status {
 public:
  exit_status() = default;

  /// From a status as waitpid gives it; for covey and for tests.
  explicit exit_status(int wait_status) : wait_status_(wait_status), known_(true) {}

  /// Whether it ended by itself, with a code.
  [[nodiscard]] bool exited() const noexcept;

  /// The exit code, or 128 + signal as shells say it, or -1 when unknown.
  [[nodiscard]] int code() const noexcept;

  /// The signal that ended it, or 0.
  [[nodiscard]] int signal() const noexcept;

  /// Whether it exited with code 0.
  [[nodiscard]] bool success() const noexcept { return exited() && code() == 0; }

  /// False when both keeper processes were killed and nobody was left to learn the status.
  [[nodiscard]] bool known() const noexcept { return known_; }

  /// The exception that escaped its function (then the code is 1), or null.
  [[nodiscard]] const std::exception_ptr& exception() const noexcept { return exception_; }

  /// Where a crash happened, innermost first; empty when it did not crash or was killed.
  [[nodiscard]] const covey::backtrace& backtrace() const noexcept { return backtrace_; }

  /// Throws the exception that escaped, or std::runtime_error when it did not end with code 0.
  void check() const;

  /// One phrase: `exited with 3`, `killed by signal 11 (Segmentation fault)`.
  [[nodiscard]] std::string describe() const;

  void set_exception(std::exception_ptr e) { exception_ = std::move(e); }      ///< for covey
  void set_backtrace(covey::backtrace b) { backtrace_ = std::move(b); }        ///< for covey

 private:
  int wait_status_ = 0;
  bool known_ = false;
  std::exception_ptr exception_;
  covey::backtrace backtrace_;
};

}  // namespace covey
