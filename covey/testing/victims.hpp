/// @file
/// For tests of what processes wait for: processes that wait, and that are killed when they do.
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include <algorithm>
#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/settle.hpp>

#include <fstream>
#include <initializer_list>
#include <string>
#include <thread>

namespace covey::testing {

/// The letter by which the system tells what thread `id`, or the first thread of process `id`, does; 0 when it is no
/// more.
inline char state_of(pid_t id) {
  std::string text;
  std::getline(std::ifstream("/proc/" + std::to_string(id) + "/stat"), text);
  const auto end = text.rfind(')');
  return end != std::string::npos && end + 2 < text.size() ? text[end + 2] : '\0';
}

/// Whether thread `id`, or the first thread of process `id`, sleeps in one of these system calls. Where the kernel does
/// not tell in which, whether it sleeps.
inline bool sleeps_in(std::initializer_list<long> calls, pid_t id) {
  if (state_of(id) != 'S') return false;
  std::string text;
  std::ifstream syscall("/proc/" + std::to_string(id) + "/syscall");
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

/// Whether a thread of the process in that slot says that it waits for a lock that looks for deadlocks.
inline bool somebody_waits_for(std::uint32_t slot, std::uint32_t lock) {
  return std::ranges::any_of(detail::cells_of(slot).waits,
                             [&](const auto& w) { return w.lock == lock && w.epoch % 2 == 0; });
}

/// The same of a process.
inline bool says_that_it_waits_for(const process& p, std::uint32_t lock) {
  return somebody_waits_for(detail::slot_of_process(p.id()), lock);
}

/// Stops a process as SIGSTOP does; whether it stands within ten seconds.
inline bool stop_and_wait(const process& p) {
  ::kill(p.pid(), SIGSTOP);
  return eventually([&] { return state_of(p.pid()) == 'T'; });
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
