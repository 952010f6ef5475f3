#include <covey/testing/settle.hpp>

#include <signal.h>

#include <algorithm>
#include <covey/memory/park.hpp>
#include <covey/process/process.hpp>
#include <filesystem>
#include <fstream>
#include <string>

namespace covey::testing {

using namespace detail;

bool gone(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string id, name, state;
  stat >> id >> name >> state;
  return !stat || state == "Z" || state == "X";
}

// Who joined a process knows of its death from the ledger, before the keeper has dropped what it held.
arena_usage settled() {
  const auto held_by_the_dead = [] {
    const std::uint32_t used = std::min(family.book->edges_used.load(std::memory_order_acquire), edges_max);
    for (std::uint32_t i = 0; i < used; ++i) {
      const edge_entry& e = family.book->edges[i];
      const std::uint64_t from = e.from;
      if (e.to.load(std::memory_order_acquire) == 0 || (from & (edge_from_process | edge_from_arguments)) == 0)
        continue;
      if (!process_alive(from & ~(edge_from_process | edge_from_arguments))) return true;
    }
    return false;
  };
  (void)eventually([&] { return !held_by_the_dead(); });
  ask_keeper(keeper_op::sync, {}).value();
  return arena_in_use();
}

bool comes_back_to(const arena_usage& before) {
  return eventually([&] { return arena_in_use() == before; });
}

void learn_death_of(process_id id) {
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    if (!process_alive(id)) return;
    park(family.book->deaths, deaths, deaths, std::nullopt);
  }
}

void in_one_that_dies(const std::function<void()>& f) {
  process p = process::forked([&]() -> int {
    f();
    ::raise(SIGKILL);
    return 0;
  });
  p.join();
  learn_death_of(p.id());
}

std::ptrdiff_t descriptors_open() { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); }

}  // namespace covey::testing
