// The child marks the two ends of what it runs with instructions that trap: a breakpoint before, an undefined
// instruction after. Between them the tracer moves it. The tracer is its parent, so no permission beyond that is asked.
#include <covey/testing/tracee.hpp>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <covey/base/unique_fd.hpp>
#include <covey/testing/settle.hpp>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COVEY_SANITIZED
#endif
#endif

namespace covey::testing {
namespace {

constexpr int refused = 99;
constexpr int threw = 98;

#if defined(__x86_64__)
void mark_begin() { asm volatile("int3" ::: "memory"); }
void mark_end() { asm volatile("ud2" ::: "memory"); }

user_regs_struct registers_of(pid_t pid) {
  user_regs_struct r{};
  if (::ptrace(PTRACE_GETREGS, pid, nullptr, &r) < 0)
    throw std::system_error(errno, std::system_category(), "covey: read the registers of a stepped process");
  return r;
}
std::uint64_t next_of(pid_t pid) {
  errno = 0;
  const long rip = ::ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), nullptr);
  if (errno != 0) throw std::system_error(errno, std::system_category(), "covey: read where a stepped process stands");
  return static_cast<std::uint64_t>(rip);
}
#else
void mark_begin() {}
void mark_end() {}
std::uint64_t next_of(pid_t) { return 0; }
#endif

int live(const std::function<void()>& warm, const std::function<void()>& run) {
  try {
    warm();
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) < 0) ::_exit(refused);
    mark_begin();
    run();
    mark_end();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "stepper: a stepped process threw: %s\n", e.what());
    ::_exit(threw);
  }
  ::_exit(threw);
}

[[noreturn]] void refuse(int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == refused) throw std::runtime_error("ptrace is refused here");
  if (WIFEXITED(status))
    throw std::runtime_error("a stepped process ended with " + std::to_string(WEXITSTATUS(status)));
  throw std::runtime_error("a stepped process got signal " +
                           std::to_string(WIFSIGNALED(status) ? WTERMSIG(status) : WSTOPSIG(status)));
}

}  // namespace

std::optional<std::string> why_not_steppable() {
#if defined(COVEY_SANITIZED)
  return "the sanitizer's instructions would be stepped too";
#elif !defined(__x86_64__)
  return "the stepper knows the instructions of x86-64 only";
#else
  static const std::optional<std::string> why = []() -> std::optional<std::string> {
    try {
      tracee probe([] {}, [] {});
      (void)probe.step(false);
      return std::nullopt;
    } catch (const std::exception& e) {
      return e.what();
    }
  }();
  return why;
#endif
}

tracee::tracee(const std::function<void()>& warm, const std::function<void()>& run)
    : process_(process::forked([&] { return live(warm, run); }, {.name = "stepped", .daemon = true})) {
  if (wait(false) != state::stands) throw std::runtime_error("a process ended before it could be stepped");
}

tracee::state tracee::wait(bool may_sleep) {
  int status = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    const pid_t n = ::waitpid(process_.pid(), &status, may_sleep ? WNOHANG : 0);
    if (n > 0) break;
    if (n < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "waitpid of a stepped process");
    if (n < 0) continue;
    if (std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(3) && is_asleep()) return state::sleeps;
    ::sched_yield();
  }
  if (!WIFSTOPPED(status)) refuse(status);
  if (WSTOPSIG(status) == SIGTRAP) {
    next_ = next_of(process_.pid());
    return state::stands;
  }
  if (WSTOPSIG(status) == SIGILL) return state::ended;
  refuse(status);
}

// Sleepers sleep in futex_waitv, or nap in futex; what waits for the keeper's answer is about to go on.
bool tracee::is_asleep() const {
  char path[64], text[128] = {};
  std::snprintf(path, sizeof path, "/proc/%d/syscall", process_.pid());
  const unique_fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd || ::read(fd.get(), text, sizeof text - 1) <= 0) return false;
  long number = -1;
  return std::sscanf(text, "%ld", &number) == 1 && (number == SYS_futex_waitv || number == SYS_futex);
}

tracee::state tracee::step(bool may_sleep) {
  if (::ptrace(PTRACE_SINGLESTEP, process_.pid(), nullptr, 0) < 0)
    throw std::system_error(errno, std::system_category(), "covey: step a process");
  const state s = wait(may_sleep);
  return s == state::stands ? leave_the_clock() : s;
}

void tracee::let_go() {
  if (::ptrace(PTRACE_CONT, process_.pid(), nullptr, 0) < 0)
    throw std::system_error(errno, std::system_category(), "covey: continue a stepped process");
}

tracee::state tracee::go_on() {
  let_go();
  return wait(true);
}

#if defined(__x86_64__)

// It has the code that its parent has, at the same address.
bool tracee::enters_kernel_next() const {
  const auto* const code = reinterpret_cast<const unsigned char*>(next_);
  return code[0] == 0x0f && (code[1] == 0x05 || code[1] == 0x34);
}

namespace {

// A breakpoint of the processor, of this thread alone: it is not in the code that other threads of the process run.
void set_breakpoint(pid_t pid, std::uint64_t address) {
  constexpr std::uint64_t first_when_executed = 1;
  if (::ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), address) < 0 ||
      ::ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), first_when_executed) < 0)
    throw std::system_error(errno, std::system_category(), "covey: set a breakpoint");
}

void clear_breakpoint(pid_t pid) { ::ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0); }

// Where the kernel's code is that every process has mapped: the clock.
struct code_range {
  std::uint64_t begin = 0, end = 0;
};
code_range clock_code() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    code_range r;
    if (line.ends_with("[vdso]") && std::sscanf(line.c_str(), "%lx-%lx", &r.begin, &r.end) == 2) return r;
  }
  return {};
}

}  // namespace

tracee::state tracee::run_to(std::uint64_t address, bool may_sleep) {
  if (next_ == address) return state::stands;
  set_breakpoint(process_.pid(), address);
  let_go();
  const state s = wait(may_sleep);
  if (s == state::stands) clear_breakpoint(process_.pid());
  return s;
}

// Reading the clock is one step. It begins anew when the kernel's tick came between its first and its last instruction;
// stepped on a busy machine, it always does.
tracee::state tracee::leave_the_clock() {
  static const code_range clock = clock_code();
  if (next_ < clock.begin || next_ >= clock.end) return state::stands;
  const user_regs_struct at = registers_of(process_.pid());
  errno = 0;  // it was just called: where it returns to is at the top of the stack
  const long back = ::ptrace(PTRACE_PEEKDATA, process_.pid(), at.rsp, nullptr);
  if (errno != 0) throw std::system_error(errno, std::system_category(), "covey: read the stack of a stepped process");
  return run_to(static_cast<std::uint64_t>(back), false);
}

#else

tracee::state tracee::leave_the_clock() { return state::stands; }
bool tracee::enters_kernel_next() const { return false; }
tracee::state tracee::run_to(std::uint64_t, bool) { return state::ended; }

#endif

void tracee::kill() {
  if (!process_.joinable()) return;
  process_.kill();
  const auto id = process_.id();
  process_.join();
  learn_death_of(id);
}

}  // namespace covey::testing
