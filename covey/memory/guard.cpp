// A process here is either guard (reaps what it has, restarts the keeper) or keeper (serves and reaps); a keeper whose
// guard died becomes guard. docs/design/identity.md
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <covey/memory/family.hpp>
#include <covey/memory/fork.hpp>
#include <covey/memory/inherited.hpp>
#include <covey/memory/keeper.hpp>
#include <covey/memory/reaping.hpp>
#include <memory>

namespace covey::detail {
namespace {

void leave_the_terminal() {
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (nothing >= 0) ::dup2(nothing, fd);
  if (nothing > STDERR_FILENO) ::close(nothing);
}

// A keeper has a connection to each member: it takes as many descriptors as it may have.
void take_all_descriptors(program_settings& program) {
  ::getrlimit(RLIMIT_NOFILE, &program.files);
  rlimit most = program.files;
  most.rlim_cur = most.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &most);
}

void pause_for(long nanoseconds) {
  const timespec pause{0, nanoseconds};
  ::nanosleep(&pause, nullptr);
}

// Returns when the keeper is dead.
void guard(pid_t keeper_pid) {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  // An orphan of a former keeper: the keeper has the connections, so it drops the references.
  const auto tell_keeper_of = [keeper_pid](process_entry&) { ::kill(keeper_pid, SIGUSR1); };
  while (reap_children(keeper_pid, find_process, tell_keeper_of)) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(keeper_pid), &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == keeper_pid)
      ::kill(keeper_pid, SIGKILL);  // a stopped keeper serves nobody
    else
      ::sigwaitinfo(&child, &info);
  }
}

// In the guard it goes round: keeper dead → next keeper. A keeper whose guard died goes round as guard.
[[noreturn]] void guard_forever(const keeper_descriptors& keys, const program_settings& program) {
  for (;;) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    family.book->guard_pid.store(::getpid(), std::memory_order_relaxed);
    const int own_pidfd = open_pidfd(::getpid());
    const std::uint32_t keepers = family.book->keepers.load(std::memory_order_relaxed);
    const pid_t keeper_pid = our_fork();
    if (keeper_pid == 0) {
      ::prctl(PR_SET_NAME, "covey-keeper");
      if (!die_with(keys.life_fd)) ::_exit(127);
      {
        auto serving = std::make_unique<keeper>(keys, own_pidfd, program);
        serving->serve();
      }
      ::close(own_pidfd);
      ::prctl(PR_SET_NAME, "covey-guard");
      continue;
    }
    ::close(own_pidfd);
    if (keeper_pid > 0) guard(keeper_pid);
    // No processes or no memory to be had: not all of a processor's time shall go into trying.
    if (keeper_pid < 0 || family.book->keepers.load(std::memory_order_relaxed) == keepers) pause_for(10'000'000);
  }
}

}  // namespace

void guard_the_family(const keeper_descriptors& keys) noexcept {
  program_settings program;
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &program.signals);
  ::signal(SIGCHLD, SIG_DFL);  // the program may have been started with it ignored
  ::prctl(PR_SET_NAME, "covey-guard");
  leave_the_terminal();
  close_inherited_descriptors();
  take_all_descriptors(program);
  if (!die_with(keys.life_fd)) ::_exit(127);
  guard_forever(keys, program);
}

}  // namespace covey::detail
