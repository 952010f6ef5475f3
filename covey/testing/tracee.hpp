/// @file
/// tracee: a member of the family that is run one instruction at a time.
#pragma once

#include <covey/process/process.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace covey::testing {

/// Why processes of this machine cannot be stepped; nothing if they can.
std::optional<std::string> why_not_steppable();

/// A forked process that stands before the first instruction of `run` when the constructor returns. It runs only as far
/// as it is told to, and is killed at the latest by the destructor. x86-64 only.
class tracee {
 public:
  /// Forks a process that runs `warm` freely, then stops before `run`. Throws std::runtime_error with what `warm`
  /// threw.
  tracee(const std::function<void()>& warm, const std::function<void()>& run);
  tracee(const tracee&) = delete;
  tracee& operator=(const tracee&) = delete;
  ~tracee() { kill(); }

  /// Where it stands after it ran.
  enum class state {
    stands,  ///< before its next instruction
    ended,  ///< `run` has returned
    sleeps,  ///< in the kernel, until somebody wakes it
  };

  /// Runs one instruction; reading the clock counts as one. An exception that leaves `run`, or a signal, is a
  /// std::runtime_error. `may_sleep`: look whether it has gone to sleep; costs time.
  state step(bool may_sleep);

  /// Runs until it is about to execute the instruction at `address`.
  state run_to(std::uint64_t address, bool may_sleep);

  /// Lets it run freely, until it has ended or sleeps.
  state go_on();

  /// The address of the next instruction.
  [[nodiscard]] std::uint64_t next() const { return next_; }

  /// Whether its next instruction enters the kernel.
  [[nodiscard]] bool enters_kernel_next() const;

  /// Kills it where it stands, and returns when the family knows.
  void kill();

 private:
  void let_go();
  state wait(bool may_sleep);
  state leave_the_clock();
  [[nodiscard]] bool is_asleep() const;

  process process_;
  std::uint64_t next_ = 0;
};

}  // namespace covey::testing
