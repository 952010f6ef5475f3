/// @file
/// soak: producers, consumers and users of a mutex under random SIGKILL and SIGSTOP, and what must come out of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace covey::testing {

/// How long, and with how many.
struct soak_options {
  std::uint64_t kills = 5000;            ///< to make; 0: until `time` has passed
  std::chrono::nanoseconds time{0};      ///< how long to kill; 0: until `kills` are made
  unsigned producers = 3;                ///< processes that put
  unsigned consumers = 3;                ///< processes that get
  unsigned lockers = 2;                  ///< processes that change two counters under a mutex
  std::uint64_t seed = 1;                ///< of what is killed when; the processes' own timing remains
  std::chrono::nanoseconds patience = std::chrono::seconds(20);  ///< without progress for so long is stuck
};

/// What was done and what was found.
struct soak_result {
  std::uint64_t kills = 0;             ///< by SIGKILL
  std::uint64_t stops = 0;             ///< by SIGSTOP, for some milliseconds
  std::uint64_t committed = 0;         ///< messages whose put returned, or that arrived although it had not
  std::uint64_t redelivered = 0;       ///< got twice, because they were in the hand of a consumer that was killed
  std::uint64_t lost = 0;              ///< committed and not got
  std::uint64_t duplicated = 0;        ///< got more often than deaths explain
  std::uint64_t damaged = 0;           ///< got with other bytes than were put
  std::uint64_t locks = 0;             ///< sections under the mutex
  std::uint64_t torn = 0;              ///< sections that found what another had half done, without owner_died
  std::uint64_t repaired = 0;          ///< sections whose owner was killed inside
  std::uint64_t failed = 0;            ///< processes that ended by themselves with an error
  std::uint64_t stuck = 0;  ///< kinds of process of which none moved, and processes that did not end, for `patience`
  std::int64_t leaked_bytes = 0;       ///< of the arena, after everything was dropped
  std::int64_t leaked_fds = 0;         ///< of this process
  double rate_before = 0;              ///< messages a second before the first kill
  double rate_after = 0;               ///< and after the last, with fresh processes at the same queue

  /// Whether throughput after the last kill was what it was before: at least half of it, for another program on
  /// one of two processors takes the other half.
  [[nodiscard]] bool recovered() const { return rate_after >= 0.5 * rate_before; }

  /// Whether everything held.
  [[nodiscard]] bool held() const {
    return lost == 0 && duplicated == 0 && damaged == 0 && torn == 0 && failed == 0 && stuck == 0 &&
           leaked_bytes <= 0 && leaked_fds <= 0 && recovered();
  }
};

/// Runs it. `progress` is called about once a second.
soak_result run_soak(const soak_options& options, const std::function<void(const soak_result&)>& progress);

}  // namespace covey::testing
