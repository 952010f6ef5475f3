// Real processes: each test starts some and looks at what became of them.
#include <covey/process/process.hpp>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/memory/family.hpp>
#include <covey/memory/messages.hpp>

#include <filesystem>
#include <fstream>
#include <thread>

// Clang's sanitizers: TSan's own thread makes process::forked refuse; UBSan needs a descriptor of its own for each
// check.
#if defined(__has_feature)
constexpr bool can_fork = !__has_feature(thread_sanitizer);
constexpr bool can_lack_descriptors = !__has_feature(address_sanitizer);
#else
constexpr bool can_fork = true;
constexpr bool can_lack_descriptors = true;
#endif

namespace {

using namespace std::chrono_literals;

int add(int a, int b) { return a + b; }
int length(std::string_view text) { return static_cast<int>(text.size()); }

TEST(Process, RunsAFunctionAndReturnsItsNumberAsCode) {
  covey::process child{add, 3, 4};
  EXPECT_GT(child.pid(), 0);
  EXPECT_NE(child.pid(), ::getpid());
  const covey::exit_status status = child.join();
  EXPECT_TRUE(status.exited());
  EXPECT_EQ(status.code(), 7);
}

TEST(Process, ConvertsArgumentsToTheParameters) {
  covey::process literal{[](std::string who) { return static_cast<int>(who.size()); }, "world"};
  covey::process view{length, "four"};
  covey::process span{[](std::span<const int> all) { return all[0] + all[1]; }, std::vector<int>{20, 1}};
  covey::process generic{[](auto text) { return static_cast<int>(text.size()); }, "sixsix"};
  EXPECT_EQ(literal.join().code(), 5);
  EXPECT_EQ(view.join().code(), 4);
  EXPECT_EQ(span.join().code(), 21);
  EXPECT_EQ(generic.join().code(), 6);
}

struct counter {
  int value = 0;
  int plus(int n) const { return value + n; }
};

TEST(Process, RunsMemberFunctionsAndVouchedLambdas) {
  covey::process member{&counter::plus, counter{40}, 2};
  int seven = 7;
  covey::process vouched{covey::by_value([seven](int n) { return seven * n; }), 6};
  EXPECT_EQ(member.join().code(), 42);
  EXPECT_EQ(vouched.join().code(), 42);
}

TEST(Process, ReportsTheSignalThatKilledIt) {
  covey::process child{[] { ::pause(); }};
  EXPECT_TRUE(child.alive());
  child.kill();
  const auto status = child.join();
  EXPECT_EQ(status.signal(), SIGKILL);
  EXPECT_FALSE(status.exited());
  EXPECT_FALSE(child.alive());
  EXPECT_THROW(status.check(), std::runtime_error);
}

[[gnu::noinline]] void touch_null() {
  asm volatile("");  // GCC 12 takes a noinline function for pure, volatile store and all, and drops the call
  *static_cast<volatile int*>(nullptr) = 1;
}

TEST(Process, NamesTheFunctionThatCrashed) {
  covey::process child{[] { touch_null(); }};
  const auto status = child.join();
  EXPECT_EQ(status.signal(), SIGSEGV);
  ASSERT_FALSE(status.backtrace().empty());
  EXPECT_NE(covey::to_string(status.backtrace()).find("touch_null"), std::string::npos)
      << covey::to_string(status.backtrace());
}

TEST(Process, KeepsTheExceptionThatEscaped) {
  covey::process child{[] { throw std::out_of_range("shelf 9"); }};
  const auto status = child.join();
  EXPECT_EQ(status.code(), 1);
  EXPECT_THROW(status.check(), std::out_of_range);
}

TEST(Process, SeesGlobalsAsTheyWereBeforeMain) {
  static int global = 1;
  global = 2;
  covey::process child{[] { return global; }};
  EXPECT_EQ(child.join().code(), 1);
}

TEST(Process, TakesTheCallersDirectoryEnvironmentUmaskAndStdio) {
  const auto folder = std::filesystem::temp_directory_path() / ("covey_process_test." + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder);
  ::setenv("COVEY_TEST_WORD", "heron", 1);
  const mode_t mask = ::umask(077);
  covey::process child{[] {
    std::ofstream("made") << std::getenv("COVEY_TEST_WORD");
    return 0;
  }};
  EXPECT_EQ(child.join().code(), 0);
  ::umask(mask);
  std::string word;
  std::ifstream("made") >> word;
  EXPECT_EQ(word, "heron");
  EXPECT_EQ(std::filesystem::status("made").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::current_path(before);
  std::filesystem::remove_all(folder);
}

TEST(Process, StopsAFunctionThatTakesAToken) {
  covey::process child{[](std::stop_token stop, int n) {
                         while (!stop.stop_requested()) ::usleep(1000);
                         return n;
                       },
                       5};
  EXPECT_FALSE(child.join_for(20ms));
  EXPECT_FALSE(child.join_for(0.5ms));
  EXPECT_FALSE(child.join_for(std::chrono::hours::min()));
  EXPECT_FALSE(child.join_until(std::chrono::system_clock::now() + 1ms));
  child.request_stop();
  EXPECT_EQ(child.join().code(), 5);
}

TEST(Process, HearsARequestToStopThatCameBeforeItsFunctionBegan) {
  for (int i = 0; i < 50; ++i) {
    covey::process child{[](std::stop_token stop) {
      while (!stop.stop_requested()) ::usleep(100);
      return 7;
    }};
    child.request_stop();
    EXPECT_EQ(child.join().code(), 7);
  }
}

TEST(Process, IsKilledByItsDestructorWhenItDoesNotStopInItsGrace) {
  const auto begin = std::chrono::steady_clock::now();
  pid_t pid = 0;
  {
    covey::process child{covey::process_options{.stop_grace = 20ms}, [] {
                           ::signal(SIGTERM, SIG_IGN);
                           for (;;) ::pause();
                         }};
    pid = child.pid();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(Process, GivesAPidfdThatIsReadableWhenItEnded) {
  covey::process child{[] { ::pause(); }};
  pollfd p{child.native_handle(), POLLIN, 0};
  EXPECT_EQ(::poll(&p, 1, 0), 0);
  child.kill();
  EXPECT_EQ(::poll(&p, 1, 10'000), 1);
  EXPECT_EQ(child.join().signal(), SIGKILL);
}

TEST(Process, StartsProcessesOfItsOwn) {
  covey::process child{[] {
    covey::process grandchild{add, 20, 3};
    return grandchild.join().code() + 1;
  }};
  EXPECT_EQ(child.join().code(), 24);
}

TEST(Process, LeavesNoZombies) {
  for (int i = 0; i < 20; ++i) {
    covey::process child{add, i, 0};
    EXPECT_EQ(child.join().code(), i);
    EXPECT_EQ(::kill(child.pid(), 0), -1) << "still there, as a zombie or alive";
  }
}

TEST(Process, RunsManyAtOnceAndIsStartedFromManyThreads) {
  std::vector<std::jthread> threads;
  std::atomic<int> sum = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&sum] {
      for (int i = 0; i < 10; ++i) sum += covey::process{add, i, 1}.join().code();
    });
  threads.clear();
  EXPECT_EQ(sum, 4 * 55);
}

TEST(Process, ForkedCapturesAnythingAndSeesMemoryAsItIs) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  int here = 30;
  const std::string text = "abc";
  covey::process child = covey::process::forked([&] { return here + static_cast<int>(text.size()); });
  here = 0;
  EXPECT_EQ(child.join().code(), 33);
}

TEST(Process, ForkedMayStartProcessesAndBeKilled) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  covey::process child = covey::process::forked([] { return covey::process{add, 4, 5}.join().code(); });
  EXPECT_EQ(child.join().code(), 9);
  covey::process sleeper = covey::process::forked([]() -> int {
    for (;;) ::pause();
  });
  EXPECT_FALSE(sleeper.join_for(0.5ms));
  EXPECT_FALSE(sleeper.join_for(std::chrono::hours::min()));
  EXPECT_FALSE(sleeper.join_until(std::chrono::sys_seconds::min()));
  sleeper.kill();
  EXPECT_EQ(sleeper.join().signal(), SIGKILL);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child of ours is left; also covey's own are none";
}

// Without a pidfd of the child its starter waited for ever.
TEST(Process, ForkedIsJoinedOrRefusedWithFewDescriptors) {
  if (!can_fork || !can_lack_descriptors)
    GTEST_SKIP() << "the sanitizer has a thread, or needs descriptors, of its own";
  covey::process::forked([] { return 0; }).join();  // what is made once, is there
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  const rlimit few{64, old.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &few);
  std::vector<covey::unique_fd> all;
  for (int fd = -1; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) all.emplace_back(fd);
  bool was_right = false;
  for (int left = 0; left < 6; ++left, all.pop_back()) {
    try {
      const auto status = covey::process::forked([] { return 7; }, {.daemon = true}).join_for(10s);
      ASSERT_TRUE(status) << left;
      was_right = status->code() == 7;
      EXPECT_TRUE(was_right || status->code() == 127) << left;
    } catch (const std::system_error& e) {
      EXPECT_EQ(e.code().value(), EMFILE) << left;
    }
  }
  EXPECT_TRUE(was_right);
  ::setrlimit(RLIMIT_NOFILE, &old);
}

TEST(Process, ForkedRefusesASecondThread) {
  std::atomic<bool> go = true;
  std::jthread other([&] { go.wait(true); });
  EXPECT_THROW((void)covey::process::forked([] { return 0; }), std::system_error);
  go = false;
  go.notify_all();
}

// The kernel lists a thread for a moment after it was joined.
TEST(Process, ForkedIsAllowedAsSoonAsAThreadWasJoined) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  for (int i = 0; i < 300; ++i) {
    std::thread([] {}).join();
    ASSERT_FALSE(covey::detail::has_other_threads()) << "after " << i << " threads";
  }
  EXPECT_EQ(covey::process::forked([] { return 0; }).join().code(), 0);
}

TEST(Process, PassesALargeArgument) {
  const std::string big(8'000'000, 'x');
  covey::process child{[](const std::string& s) { return s.size() == 8'000'000 && s.back() == 'x' ? 0 : 1; }, big};
  EXPECT_EQ(child.join().code(), 0);
}

// Programs of their own, because they begin in a state that a test program does not have.
TEST(Program, WorksWhenStartedWithoutStdio) {
  const pid_t top = ::fork();
  if (top == 0) {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
    ::execl("/proc/self/exe", "program", "--gtest_filter=Program.DISABLED_StartsOne", "--gtest_also_run_disabled_tests",
            nullptr);
    ::_exit(127);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(top, &status, 0), top);
  EXPECT_EQ(status, 0);
}

TEST(Program, DISABLED_StartsOne) {
  EXPECT_EQ(covey::process(add, 3, 4).join().code(), 7);
  EXPECT_EQ(covey::process([] { return covey::process{add, 3, 4}.join().code(); }).join().code(), 7);
  for (int fd = 0; fd < 3; ++fd) EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "covey took the place of stdio: " << fd;
}

// Opened by static initialization: the workers have the object, and so they must have the descriptor.
const int opened_early = covey::detail::above_stdio(::open("/dev/null", O_RDONLY)).release();
constexpr int inherited_in = 40, inherited_out = 41;

TEST(Program, AloneHoldsWhatItWasStartedWith) {
  const pid_t top = ::fork();
  if (top == 0) {
    int ends[2];
    if (::pipe(ends) < 0 || ::dup2(ends[0], inherited_in) < 0 || ::dup2(ends[1], inherited_out) < 0) ::_exit(126);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execl("/proc/self/exe", "program", "--gtest_filter=Program.DISABLED_ClosesWhatItWasStartedWith",
            "--gtest_also_run_disabled_tests", nullptr);
    ::_exit(127);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(top, &status, 0), top);
  EXPECT_EQ(status, 0);
}

TEST(Program, DISABLED_ClosesWhatItWasStartedWith) {
  covey::process worker{covey::process_options{.daemon = true}, [] { ::pause(); }};
  EXPECT_EQ(covey::process([] { return ::fcntl(inherited_out, F_GETFD); }).join().code(), 255) << "a worker has it";
  EXPECT_EQ(covey::process([] { return ::fcntl(opened_early, F_GETFD); }).join().code(), 0) << "a worker lacks it";
  ::close(inherited_out);
  pollfd end{inherited_in, POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 10'000), 1) << "somebody of the family has it";
}

TEST(Program, IsToldWhichDescriptorCannotBeHad) {
  if (!can_lack_descriptors) GTEST_SKIP() << "the sanitizer cannot check without a free descriptor";
  covey::process child{[] {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    (void)covey::process(add, 0, 0).join();
    while (::dup(STDERR_FILENO) >= 0) {
    }
    for (int spare = 0; spare < 3; ++spare) {
      try {
        (void)covey::process(add, 0, 0).join();
        return 1;
      } catch (const std::system_error& e) {
        if (e.code() != std::errc::too_many_files_open) return 2;
      }
      if (spare < 2) ::close(static_cast<int>(files.rlim_cur) - 1 - spare);
    }
    return 0;
  }};
  EXPECT_EQ(child.join().code(), 0);
}

// Before and after the first connection; and other files that got the numbers are not taken for ours.
TEST(Program, IsToldThatItClosedCoveysDescriptors) {
  for (const bool connected : {false, true}) {
    covey::process child{[](bool first) {
                           if (first) (void)covey::process(add, 0, 0).join();
                           ::close_range(3, ~0U, 0);
                           int ends[2];
                           for (int i = 0; i < 20; ++i)
                             if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0) return 3;
                           try {
                             (void)covey::process(add, 0, 0).join();
                           } catch (const std::system_error& e) {
                             return std::string(e.what()).find("closed covey's descriptors") != std::string::npos ? 0
                                                                                                                  : 1;
                           }
                           return 2;
                         },
                         connected};
    EXPECT_EQ(child.join().code(), 0);
  }
}

// It killed or waited for its parent's process, or crashed.
TEST(Program, ForkedPastCoveyLeavesItsParentsProcessAlone) {
  auto child = std::make_unique<covey::process>(covey::process_options{.daemon = true}, [] {
    for (;;) ::pause();
  });
  const pid_t past = ::fork();
  if (past == 0) {
    child.reset();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(past, &status, 0), past);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(child->alive());
}

TEST(Program, ForkedPastCoveyIsToldSoAndItsParentGoesOn) {
  const pid_t past = ::fork();
  if (past == 0) {
    int code = 1;
    try {
      (void)covey::process(add, 0, 0).join();
    } catch (const std::system_error& e) {
      code = std::string(e.what()).find("forked past covey") != std::string::npos ? 0 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(past, &status, 0), past);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(covey::process(add, 3, 4).join().code(), 7);
}

}  // namespace
