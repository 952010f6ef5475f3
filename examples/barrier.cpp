// A simulation in steps: nobody begins a step before all have done the one before. When one is killed the others are
// told who it was, rather than waiting for it for ever.
#include <fmt/format.h>
#include <signal.h>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace {

void say(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

void simulate(covey::barrier all, std::string name) {
  try {
    for (int step = 1;; ++step) {
      if (name == "heron" && step == 3) ::raise(SIGKILL);
      all.arrive_and_wait([&] { say(fmt::format("step {} is done", step)); });  // runs in whoever comes last
    }
  } catch (const covey::broken_barrier& e) {
    say(fmt::format("{} stops: {} is gone", name, e.process_name()));
  }
}

}  // namespace

int main() {
  const covey::barrier all{3};
  std::vector<covey::process> workers;
  for (const char* name : {"wren", "heron", "stork"})
    workers.emplace_back(covey::process_options{.name = name}, simulate, all, name);
  for (auto& w : workers) w.join();
}
