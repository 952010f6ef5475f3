#include <benchmarks/harness/workers.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <system_error>
#include <thread>

namespace bench {
namespace {

std::atomic<int> staying{0};
std::atomic<bool> threads_end{false};
bool pinned = false;

}  // namespace

void stay() noexcept {
  ++staying;
  for (;;) ::pause();
}

void pin_workers() noexcept { pinned = true; }

void take_place(std::size_t n) noexcept {
  if (!pinned) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(n % static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN)), &one);
  ::sched_setaffinity(0, sizeof one, &one);
}

void work_and_exit(const std::function<void()>& work) noexcept {
  try {
    work();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "a worker: %s\n", e.what());
    ::_exit(1);
  }
  ::_exit(0);
}

pid_t forked_workers::start(const std::function<void()>& work) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    take_place(pids_.size());
    work_and_exit(work);
  }
  pids_.push_back(pid);
  return pid;
}

void forked_workers::kill_last() {
  ::kill(pids_.back(), SIGKILL);
  ::waitpid(pids_.back(), nullptr, 0);
  pids_.pop_back();
}

forked_workers::~forked_workers() {
  for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
  for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
}

pid_t thread_workers::start(const std::function<void()>& work) {
  std::thread([work, n = started_] {
    take_place(static_cast<std::size_t>(n));
    work_and_exit(work);
  }).detach();
  ++started_;
  return ::getpid();
}

bool thread_workers::ending() noexcept { return threads_end.load(std::memory_order_relaxed); }

thread_workers::~thread_workers() {
  threads_end = true;
  while (staying.load() < started_) ::usleep(100);
}

}  // namespace bench
