/// @file
/// Workers of a covey family: forked by covey, so that they may use its queues and locks.
#pragma once

#include <benchmarks/harness/workers.hpp>
#include <covey/process.hpp>

namespace bench {

class family_workers {
 public:
  pid_t start(const std::function<void()>& work) {
    return processes_
        .emplace_back(covey::process::forked(
            [&work, n = processes_.size()]() -> int {
              take_place(n);
              work();
              return 0;
            },
            {.name = "bench", .daemon = true}))
        .pid();
  }

  void kill_last() {
    processes_.back().kill();
    processes_.back().join();
    processes_.pop_back();
  }

 private:
  std::vector<covey::process> processes_;
};

}  // namespace bench
