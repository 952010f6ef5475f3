#include <covey/memory/reaping.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>

namespace covey::detail {
namespace {

// A child that ended but is not reaped yet, or 0.
pid_t ended_child(int& wait_status, rusage& usage) {
  siginfo_t info{};
  if (::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, &usage) < 0 || info.si_pid == 0)
    return 0;
  if (info.si_code == CLD_EXITED)
    wait_status = info.si_status << 8;
  else
    wait_status = info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
  return info.si_pid;
}

void record_end(process_entry& e, int wait_status, const rusage& usage) {
  e.wait_status.store(wait_status, std::memory_order_relaxed);
  e.cpu_us.store(static_cast<std::uint64_t>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000U +
                     static_cast<std::uint64_t>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec),
                 std::memory_order_relaxed);
  e.peak_bytes.store(static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U, std::memory_order_relaxed);
  e.status_known.store(1, std::memory_order_release);
}

}  // namespace

void wake_everybody() {
  family.book->deaths.fetch_add(1, std::memory_order_seq_cst);  // pairs with the load in park()
  ::syscall(SYS_futex, &family.book->deaths, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

process_entry* find_process(pid_t pid) {
  for (process_entry& e : family.book->processes) {
    const process_phase phase = phase_of(e.state.load(std::memory_order_relaxed));
    if ((phase == process_phase::alive || phase == process_phase::starting) &&
        e.pid.load(std::memory_order_relaxed) == pid)
      return &e;
  }
  return nullptr;
}

bool mark_dead(process_entry& e, std::uint64_t state) {
  const std::uint64_t dead = state_of(generation_of(state), process_phase::dead);
  const bool first = e.state.compare_exchange_strong(state, dead, std::memory_order_acq_rel);  // pairs with alive()
  wake_everybody();
  return first;
}

pid_t parent_of(pid_t pid) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* const stat = std::fopen(path, "re");
  if (stat == nullptr) return 0;
  char text[512];
  const std::size_t n = std::fread(text, 1, sizeof text - 1, stat);
  std::fclose(stat);
  text[n] = '\0';
  const char* const end_of_name = std::strrchr(text, ')');
  int parent = 0;
  return end_of_name != nullptr && std::sscanf(end_of_name, ") %*c %d", &parent) == 1 ? parent : 0;
}

bool reap_children(pid_t special, const std::function<process_entry*(pid_t)>& find,
                   const std::function<void(process_entry&)>& on_death) {
  bool special_lives = true;
  int wait_status = 0;
  rusage usage{};
  for (pid_t pid; (pid = ended_child(wait_status, usage)) != 0;) {
    process_entry* const e = find(pid);
    const std::uint64_t state = e != nullptr ? e->state.load(std::memory_order_relaxed) : 0;
    if (e != nullptr) record_end(*e, wait_status, usage);
    int ignored = 0;
    ::waitpid(pid, &ignored, 0);
    if (e != nullptr) {
      (void)mark_dead(*e, state);  // after reaping: whoever learns of the death finds no zombie
      on_death(*e);
    }
    if (pid == special) special_lives = false;
  }
  return special_lives;
}

}  // namespace covey::detail
