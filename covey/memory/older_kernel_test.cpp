// This program is started anew with COVEY_LINUX=6.1 and finds what that kernel lacks.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/mutex.hpp>

#include <cerrno>

namespace {

int run_on(const char* version) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("COVEY_LINUX", version, 1);
    ::execl("/proc/self/exe", "older", "--gtest_filter=OlderKernel.DISABLED_Program", "--gtest_also_run_disabled_tests",
            nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

TEST(OlderKernel, RunsAllThatCoveyNeeds) { EXPECT_EQ(run_on("6.1"), 0); }

TEST(OlderKernel, IsNotAnyOther) {
  const int status = run_on("5.4");
  EXPECT_TRUE(WIFSIGNALED(status));
}

TEST(OlderKernel, DISABLED_Program) {
  for (const long number : {451L, 454L, 462L}) {
    EXPECT_EQ(::syscall(number, -1L, 0L, 0L, 0L), -1);
    EXPECT_EQ(errno, ENOSYS) << number;
  }
  EXPECT_EQ(::memfd_create("sealed", 0x8), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(::syscall(SYS_pidfd_open, ::getpid(), 0x80), -1);
  EXPECT_EQ(errno, EINVAL);
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  EXPECT_GE(pidfd, 0);
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  int value = 0;
  socklen_t bytes = sizeof value;
  EXPECT_EQ(::getsockopt(ends[0], SOL_SOCKET, 77, &value, &bytes), -1);  // SO_PEERPIDFD
  EXPECT_EQ(errno, ENOPROTOOPT);
  EXPECT_EQ(::getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &value, &bytes), 0);

  covey::queue<int> q{4};
  covey::mutex m;
  const auto text = covey::make_shared<covey::string>("as ever");
  covey::process p{[](covey::queue_reader<int> in, covey::mutex lock, covey::shared_ptr<covey::string> t) {
                     const std::scoped_lock held(lock);
                     errno = 0;
                     if (::syscall(451) != -1 || errno != ENOSYS) return 1;
                     return *in.get() == 7 && *t == "as ever" ? 0 : 2;
                   },
                   q.reader(), m, text};
  q.put(7);
  EXPECT_EQ(p.join().code(), 0);
}

}  // namespace
