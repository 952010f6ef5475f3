// Nothing burns a processor while it waits: not those who do, each in a process of its own, and not those who watch
// over them.
#include <gtest/gtest.h>
#include <time.h>
#include <covey/ipc.hpp>
#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <fstream>
#include <mutex>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::family;
using covey::testing::eventually;
using covey::testing::sleeps_in;

// How often a process of one thread has been given a processor.
long turns_of(pid_t pid) {
  long all = 0;
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;)
    if (long n = 0; word.find("voluntary_ctxt_switches:") != std::string::npos && status >> n) all += n;
  return all;
}

// Processor time of a process.
std::chrono::nanoseconds used_by(pid_t pid) {
  clockid_t clock{};
  timespec t{};
  EXPECT_EQ(::clock_getcpuclockid(pid, &clock), 0);
  EXPECT_EQ(::clock_gettime(clock, &t), 0);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

#ifdef SYS_poll
constexpr long poll_call = SYS_poll;
#else
constexpr long poll_call = SYS_ppoll;
#endif

struct idler {
  const char* waits_in;
  pid_t pid;
  long turns = 0;
  std::chrono::nanoseconds used{};
};

// Sleepers look again once a second; who naps or polls has many more turns, and who spins one long one.
void expect_to_stay_idle(std::vector<idler>& all) {
  for (auto& i : all) {
    i.turns = turns_of(i.pid);
    i.used = used_by(i.pid);
    EXPECT_GT(i.turns, 0) << i.waits_in;
  }
  const auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(2s);  // what is measured is that nothing happens meanwhile
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  for (const auto& i : all) {
    EXPECT_LE(static_cast<double>(turns_of(i.pid) - i.turns), 4 + 4 * seconds.count()) << i.waits_in;
    EXPECT_LE(used_by(i.pid) - i.used, seconds / 20) << i.waits_in;
  }
}

TEST(Idle, WhoWaitsIsNotSeenByTheScheduler) {
  covey::queue<int> empty;
  covey::queue<int> full(1);
  full.put(1);
  covey::priority_queue<int> ranked;
  covey::broadcast<int> quiet;
  covey::mutex held;
  const std::scoped_lock mine(held);
  covey::shared_mutex read;
  read.lock_shared();
  covey::event never;
  covey::counting_semaphore<> none{0};
  covey::permits taken{1};
  taken.acquire();
  covey::condition_variable unsaid;
  covey::barrier missed{2};
  covey::latch closed{1};

  std::vector<covey::process> processes;
  std::vector<idler> all;
  const auto start = [&](const char* waits_in, const std::function<void()>& wait) {
    processes.push_back(covey::process::forked(
        [&] {
          wait();
          return 0;
        },
        {.name = waits_in, .daemon = true}));
    const pid_t pid = processes.back().pid();
    // Not in a nap any more: those are in futex.
    ASSERT_TRUE(eventually([&] { return sleeps_in({SYS_futex_waitv, poll_call}, pid); })) << waits_in;
    all.push_back({waits_in, pid});
  };
  start("queue::get", [&] { (void)empty.get(); });
  start("queue::put", [&] { full.put(2); });
  start("queue::join", [&] { full.join(); });
  start("priority_queue::get", [&] { (void)ranked.get(); });
  start("subscriber::get", [&] { (void)quiet.subscribe().get(); });
  start("mutex::lock", [&] { held.lock(); });
  start("shared_mutex::lock", [&] { read.lock(); });
  start("event::wait", [&] { never.wait(); });
  start("semaphore::acquire", [&] { none.acquire(); });
  start("permits::acquire", [&] { taken.acquire(); });
  start("condition_variable::wait", [&] {
    covey::mutex own;
    std::unique_lock lock(own);
    for (;;) unsaid.wait(lock);
  });
  start("barrier::arrive_and_wait", [&] { missed.arrive_and_wait(); });
  start("latch::wait", [&] { closed.wait(); });
  start("wait_any", [&] { (void)covey::wait_any(never, empty); });
  start("process::join", [&] { processes.front().join(); });

  all.push_back({"the keeper", family.book->keeper_pid});
  all.push_back({"its guard", family.book->guard_pid});
  expect_to_stay_idle(all);
  for (std::size_t n = 0; n < processes.size(); ++n)
    EXPECT_TRUE(processes[n].alive()) << all[n].waits_in << " returned";
}

}  // namespace
