// The family under fire: keeper and guard are killed, never both at once, while processes of all kinds start and end.
// Afterwards everything is as before: no entry, region, reference, zombie or descriptor is left. The fire is random,
// what must hold is not.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

namespace {

using namespace std::chrono_literals;
using namespace covey::detail;
using covey::testing::eventually;
using covey::testing::gone;

struct holdings {
  int processes = 0;
  int regions = 0;
  int edges = 0;
  std::ptrdiff_t descriptors = 0;
  bool operator==(const holdings&) const = default;
};

std::ostream& operator<<(std::ostream& out, const holdings& h) {
  return out << h.processes << " processes, " << h.regions << " regions, " << h.edges << " edges, " << h.descriptors
             << " descriptors";
}

holdings count_holdings() {
  holdings h;
  for (const process_entry& e : family.book->processes) h.processes += phase_of(e.state) != process_phase::free ? 1 : 0;
  for (std::uint32_t i = 0; i < family.book->regions_used; ++i) h.regions += family.book->regions[i].generation % 2;
  for (std::uint32_t i = 0; i < family.book->edges_used; ++i) h.edges += family.book->edges[i].to != 0 ? 1 : 0;
  h.descriptors = std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  return h;
}

std::string references() {
  std::ostringstream out;
  for (std::uint32_t i = 0; i < family.book->edges_used; ++i) {
    const edge_entry& e = family.book->edges[i];
    if (e.to != 0) out << std::hex << e.from << " holds " << e.to << ", " << std::dec << e.count << " times\n";
  }
  return out.str();
}

// Kills guard or keeper, and the next only when both are there again.
void fire(const std::atomic<bool>& stop, unsigned seed) {
  std::mt19937 random(seed);
  while (!stop) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));
    const pid_t keeper = family.book->keeper_pid;
    const pid_t guard = family.book->guard_pid;
    const bool at_keeper = random() % 2 == 0;
    if (keeper == guard || gone(keeper) || gone(guard)) continue;
    ::kill(at_keeper ? keeper : guard, random() % 4 == 0 && at_keeper ? SIGSTOP : SIGKILL);
    // A keeper whose guard died becomes guard; a keeper that died is replaced.
    (void)eventually([&] {
      const pid_t new_keeper = family.book->keeper_pid;
      const pid_t new_guard = family.book->guard_pid;
      return new_keeper != keeper && new_guard != new_keeper && !gone(new_keeper) && !gone(new_guard);
    });
  }
}

// A keeper and later its guard may have been killed while a process lived: then nobody can learn how it ended.
void expect_code(const covey::exit_status& status, int code) {
  EXPECT_TRUE(!status.known() || status.code() == code) << status.describe() << ", not with " << code;
}

void expect_signal(const covey::exit_status& status, int signal) {
  EXPECT_TRUE(!status.known() || status.signal() == signal) << status.describe() << ", not by " << signal;
}

int plain(int n) { return n; }

int with_handles(covey::event heard, covey::mutex lock, int n) {
  const std::scoped_lock held(lock);
  heard.set();
  return n;
}

int with_a_child(int n) {
  covey::process child{plain, n};
  return child.join().code();
}

int dies_with_a_lock(covey::mutex lock) {
  lock.lock();
  ::raise(SIGKILL);
  return 0;
}

void one_round(unsigned kind, int n) {
  switch (kind % 7) {
    case 0: expect_code(covey::process(plain, n).join(), n); break;
    case 1: {
      covey::event heard;
      covey::process child{with_handles, heard, covey::mutex{}, n};
      heard.wait();
      expect_code(child.join(), n);
      break;
    }
    case 2: (void)covey::process(with_a_child, n).join(); break;
    case 3: {
      covey::mutex lock;
      expect_signal(covey::process(dies_with_a_lock, lock).join(), SIGKILL);
      EXPECT_THROW(lock.lock(), covey::owner_died);
      break;
    }
    case 4: {
      covey::process sleeper{covey::process_options{.daemon = true}, [](covey::event e) { e.wait(); }, covey::event{}};
      break;  // killed by its destructor
    }
    case 5: expect_signal(covey::process([] { ::raise(SIGILL); }).join(), SIGILL); break;
    default: {
      const auto status = covey::process([](std::string text) { throw std::out_of_range(text); }, "far").join();
      EXPECT_THROW(status.check(), std::out_of_range);
    }
  }
}

void settle(const holdings& before) {
  EXPECT_EQ(covey::process(plain, 3).join().code(), 3);
  (void)eventually([&] { return count_holdings() == before; });
  EXPECT_EQ(count_holdings(), before) << references();
}

// What covey opens once and keeps (the line to the keeper) is open before the first count.
holdings warm_up() {
  EXPECT_EQ(covey::process(with_a_child, 3).join().code(), 3);
  covey::event{}.set();
  EXPECT_TRUE(eventually([] { return count_holdings().processes == 1 && count_holdings().regions == 0; }));
  return count_holdings();
}

TEST(Siege, LeavesNothingBehindWhileKeepersAndGuardsAreKilled) {
  const holdings before = warm_up();
  std::atomic<bool> stop = false;
  std::jthread enemy([&] { fire(stop, 1); });
  {
    std::vector<std::jthread> defenders;
    for (unsigned t = 0; t < 3; ++t)
      defenders.emplace_back([t] {
        for (int i = 0; i < 56; ++i) one_round(static_cast<unsigned>(i) + t, i);
      });
  }
  stop = true;
  enemy.join();
  settle(before);
}

#if defined(__has_feature)
constexpr bool can_fork = !__has_feature(thread_sanitizer);
#else
constexpr bool can_fork = true;
#endif

// forked wants one thread: the enemy is a process.
TEST(Siege, LeavesNothingBehindOfForkedProcesses) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  const holdings before = warm_up();
  covey::process enemy{[](std::stop_token token) {
    std::atomic<bool> stop = false;
    const std::stop_callback at_stop(token, [&] { stop = true; });
    fire(stop, 2);
  }};
  for (int i = 0; i < 40; ++i) {
    covey::event heard;
    covey::process child = covey::process::forked([&] {
      heard.set();
      if (i % 2 == 0) expect_code(covey::process(plain, i).join(), i);
      return i;
    });
    heard.wait();
    EXPECT_EQ(child.join().code(), i);
    covey::process dies = covey::process::forked([&]() -> int {
      heard.set();
      ::raise(SIGKILL);
      return 0;
    });
    EXPECT_EQ(dies.join().signal(), SIGKILL);
  }
  enemy.request_stop();
  EXPECT_NE(enemy.join().code(), 1) << "unknown at worst: keeper and guard have changed under it";
  enemy = {};
  settle(before);
}

TEST(Siege, LeavesNoZombies) {
  warm_up();
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream stat(entry.path() / "stat");
    std::string id, name, state;
    pid_t parent = 0;
    const bool zombie = stat >> id >> name >> state >> parent && state == "Z";
    if (zombie) {
      EXPECT_TRUE(parent != ::getpid() && parent != family.book->guard_pid && parent != family.book->keeper_pid) << id;
    }
  }
}

}  // namespace
