#include <covey/memory/reaping.hpp>

#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

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
    if (phase != process_phase::free && phase != process_phase::dead && pid_of(e) == pid) return &e;
  }
  return nullptr;
}

bool mark_dead(process_entry& e, std::uint64_t state) {
  const std::uint64_t dead = state_of(generation_of(state), process_phase::dead);
  const std::uint64_t elsewhere = state_of(generation_of(state), process_phase::elsewhere);
  bool first = e.state.compare_exchange_strong(state, dead, std::memory_order_acq_rel);  // pairs with alive()
  if (!first && state == elsewhere) first = e.state.compare_exchange_strong(state, dead, std::memory_order_acq_rel);
  wake_everybody();
  return first;
}

bool mark_elsewhere(process_entry& e, std::uint64_t state) {
  const std::uint64_t elsewhere = state_of(generation_of(state), process_phase::elsewhere);
  const bool first = e.state.compare_exchange_strong(state, elsewhere, std::memory_order_acq_rel);
  wake_everybody();
  return first;
}

namespace {

// Whether `file` is in the memory of `pid`. Nothing when that cannot be seen: one that is ending, or whose main thread
// has ended, shows no memory at all. What others unmap while this reads is not what is looked for.
std::optional<bool> has_mapped(pid_t pid, const struct stat& file) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE* const maps = std::fopen(path, "re");
  if (maps == nullptr) return std::nullopt;
  char* line = nullptr;
  std::size_t room = 0;
  bool any = false, found = false;
  while (!found && ::getline(&line, &room, maps) > 0) {
    unsigned major = 0, minor = 0;
    unsigned long inode = 0;
    if (std::sscanf(line, "%*x-%*x %*s %*x %x:%x %lu", &major, &minor, &inode) != 3) continue;
    any = true;
    found = inode == file.st_ino && makedev(major, minor) == file.st_dev;
  }
  const bool read_all = std::ferror(maps) == 0;
  std::free(line);
  std::fclose(maps);
  if (!found && (!any || !read_all)) return std::nullopt;
  return found;
}

}  // namespace

bool runs_another_program(pid_t pid, int ledger_fd) {
  struct stat ledger{};
  if (::fstat(ledger_fd, &ledger) < 0) return false;
  static bool can_tell = false;
  can_tell = can_tell || has_mapped(::getpid(), ledger) == true;  // there may be no descriptor to look, for a while
  return can_tell && has_mapped(pid, ledger) == false;
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
