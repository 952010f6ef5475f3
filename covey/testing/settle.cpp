#include <covey/testing/settle.hpp>

#include <signal.h>

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

arena_usage settled() {
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
