/// @file
/// For tests of what processes wait for: processes that wait, and that are killed when they do.
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>

#include <fstream>
#include <initializer_list>
#include <string>
#include <thread>

namespace covey::testing {

/// Whether thread `id`, or the first thread of process `id`, sleeps in one of these system calls. Where the kernel does
/// not tell in which, whether it sleeps.
inline bool sleeps_in(std::initializer_list<long> calls, pid_t id) {
  const std::string about = "/proc/" + std::to_string(id);
  std::string text;
  std::getline(std::ifstream(about + "/stat"), text);
  const auto end = text.rfind(')');
  if (end == std::string::npos || text.substr(end + 2, 1) != "S") return false;
  std::ifstream syscall(about + "/syscall");
  if (!std::getline(syscall, text)) return true;
  return std::any_of(calls.begin(), calls.end(), [&](long c) { return text.starts_with(std::to_string(c) + ' '); });
}

/// Returns when the (first thread of the) process sleeps as waits of covey do (wait_any in ppoll, with a descriptor),
/// and not for what it needs to begin; false when it is gone.
inline bool until_asleep(const process& p) {
  while (p.alive()) {
    if (sleeps_in({SYS_futex, SYS_futex_waitv, SYS_ppoll}, p.pid())) return true;
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
