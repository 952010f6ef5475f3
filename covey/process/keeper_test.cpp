// Kills those who watch: the program goes on, and still learns what becomes of its processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/testing/settle.hpp>

#include <filesystem>
#include <fstream>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::family;
using covey::testing::eventually;
using covey::testing::gone;

pid_t keeper_pid() { return family.book->keeper_pid; }
pid_t guard_pid() { return family.book->guard_pid; }

TEST(Keeper, WorkersOutliveItAndTheirStatusIsStillLearnt) {
  covey::process stays{[] {
    ::usleep(200'000);
    return 9;
  }};
  covey::process crashes{[] {
    ::usleep(100'000);
    ::raise(SIGILL);
  }};
  ::kill(keeper_pid(), SIGKILL);
  EXPECT_EQ(covey::process([] { return 3; }).join().code(), 3);
  EXPECT_EQ(crashes.join().signal(), SIGILL);
  EXPECT_EQ(stays.join().code(), 9);
}

TEST(Keeper, IsReplacedWhenItIsStopped) {
  const pid_t before = keeper_pid();
  ::kill(before, SIGSTOP);
  EXPECT_EQ(covey::process([] { return 4; }).join().code(), 4);
  EXPECT_NE(keeper_pid(), before);
}

TEST(Keeper, BecomesTheGuardWhenItsGuardDies) {
  const pid_t keeper = keeper_pid();
  covey::process stays{[] {
    ::usleep(200'000);
    return 9;
  }};
  ::kill(guard_pid(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return guard_pid() == keeper && keeper_pid() != keeper; }));
  EXPECT_EQ(covey::process([] { return 5; }).join().code(), 5);
  EXPECT_EQ(stays.join().code(), 9);
}

TEST(Keeper, MayBeKilledAgainAndAgainWhileProcessesStart) {
  std::atomic<bool> stop = false;
  std::jthread killer([&] {
    for (int i = 0; !stop; ++i) {
      std::this_thread::sleep_for(3ms);
      const pid_t victim = i % 2 == 0 ? keeper_pid() : guard_pid();
      const pid_t other = i % 2 == 0 ? guard_pid() : keeper_pid();
      if (victim != other) ::kill(victim, SIGKILL);
      // One at a time: the next only when both are there again.
      (void)eventually([&] {
        return stop || (!gone(keeper_pid()) && !gone(guard_pid()) && keeper_pid() != victim && guard_pid() != victim);
      });
    }
  });
  for (int i = 0; i < 150; ++i) EXPECT_EQ(covey::process([](int n) { return n; }, i).join().code(), i);
  stop = true;
}

// The tree dies with its top, in whatever way that dies, also workers of workers in busy loops. The top is a program of
// its own here.
TEST(Tree, EndsWithItsTopAlsoBySigkill) {
  const auto list = std::filesystem::temp_directory_path() / ("covey_tree." + std::to_string(::getpid()));
  std::filesystem::remove(list);
  const pid_t top = ::fork();
  if (top == 0) {
    ::execl("/proc/self/exe", "tree", "--gtest_filter=Tree.DISABLED_Top", "--gtest_also_run_disabled_tests",
            list.c_str(), nullptr);
    ::_exit(127);
  }
  std::vector<pid_t> pids;
  ASSERT_TRUE(eventually([&] {
    std::ifstream in(list);
    pids.assign(std::istream_iterator<pid_t>(in), {});
    return pids.size() == 4;
  }));
  ::kill(top, SIGKILL);
  ::waitpid(top, nullptr, 0);
  for (const pid_t pid : pids) EXPECT_TRUE(eventually([&] { return gone(pid); })) << pid;
  std::filesystem::remove(list);
}

// Not a test of its own: the program that Tree.EndsWithItsTopAlsoBySigkill starts and kills.
TEST(Tree, DISABLED_Top) {
  const std::string list = ::testing::internal::GetArgvs().back();
  covey::process child{[](std::string file) {
                         covey::process grandchild{[] {
                           std::atomic<bool> busy = true;
                           while (busy) {
                           }
                         }};
                         std::ofstream(file, std::ios::app) << ::getpid() << '\n' << grandchild.pid() << '\n';
                         for (;;) ::pause();
                       },
                       list};
  std::ofstream(list, std::ios::app) << keeper_pid() << '\n' << guard_pid() << '\n';
  child.join();
}

TEST(Tree, EndsAWorkersOwnWorkersWithIt) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
#endif
#endif
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  covey::process middle = covey::process::forked([&]() -> int {
    covey::process leaf{[] {
      for (;;) ::pause();
    }};
    const pid_t pid = leaf.pid();
    [[maybe_unused]] const auto n = ::write(ends[1], &pid, sizeof pid);
    for (;;) ::pause();
  });
  pid_t leaf = 0;
  ASSERT_EQ(::read(ends[0], &leaf, sizeof leaf), static_cast<ssize_t>(sizeof leaf));
  middle.kill();
  EXPECT_EQ(middle.join().signal(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return gone(leaf); }));
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
