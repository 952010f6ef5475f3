/// @file
/// For tests of what processes wait for: processes that wait, and that are killed when they do.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>

#include <fstream>
#include <string>
#include <thread>

namespace covey::testing {

/// Returns when the (first thread of the) process sleeps in the kernel; false when it is gone.
inline bool until_asleep(const process& p) {
  const std::string stat = "/proc/" + std::to_string(p.pid()) + "/stat";
  while (p.alive()) {
    std::string text;
    std::getline(std::ifstream(stat), text);
    if (const auto end = text.rfind(')'); end != std::string::npos && text.substr(end + 2, 1) == "S") return true;
    std::this_thread::yield();
  }
  return false;
}

/// Does nothing more.
[[noreturn]] inline void until_killed() {
  for (;;) ::pause();
}

/// A process that runs `f(args…, event)`; returns once that has set the event, which it does when it has what it wants.
template <class F, class... Args>
process started(F f, const Args&... args) {
  event there;
  process p{process_options{.name = "victim", .daemon = true}, f, args..., there};
  there.wait();
  return p;
}

/// Returns when it is dead and everybody can know it.
inline void kill_and_join(process& p) {
  p.kill();
  p.join();
}

}  // namespace covey::testing
