// inspect() looks at what is written over, killed, stopped, made and given up meanwhile, and is none the worse for it.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>
#include <covey/testing/scribbler.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

using covey::testing::eventually;
using shelf = covey::vector<covey::string>;

// One of each kind that is looked into.
struct one_of_each {
  covey::mutex m;
  covey::recursive_mutex r;
  covey::shared_mutex s;
  covey::event e;
  covey::counting_semaphore<> c{1};
  covey::permits p{2};
  covey::latch l{3};
  covey::barrier b{4};
  covey::condition_variable v;
  covey::once_flag o;
  covey::guarded<int> g{5};
  covey::queue<int> q{6};
  covey::priority_queue<int> x{7};
  covey::broadcast<int> y{{.items = 8}};
  covey::subscriber<int> z = y.subscribe();
  covey::shared_ptr<shelf> w = covey::make_shared<shelf>(shelf{"a", "text that takes memory of the heap: it is long"});
};

void expect_no_more_than_there_is(const covey::snapshot& s) {
  EXPECT_EQ(s.locks.size(), 3U);
  EXPECT_GE(s.counts.size(), 8U);
  EXPECT_LE(s.queues.size(), 2U);
  EXPECT_LE(s.broadcasts.size(), 1U);
  EXPECT_LE(s.objects.size(), 1U);
  EXPECT_EQ(covey::to_json(s).back(), '}');
  EXPECT_FALSE(covey::to_text(s).empty());
  // It may have been in the making, so it is not for who looks to say this.
  EXPECT_TRUE(std::ranges::none_of(s.regions, [](const auto& r) { return r.damaged; }));
}

// Nothing is crashed by it, and nothing read without end; the numbers are what was written there.
TEST(InspectDamage, LooksAtWhatSomebodyWroteOver) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    for (const auto how : covey::testing::fillings) {
      const one_of_each all;
      all.q.put(1);
      all.x.put(1, 1);
      all.y.put(1);
      covey::testing::scribble(how, seed);
      expect_no_more_than_there_is(covey::inspect());
    }
  }
}

// Also when it is written while it is read.
TEST(InspectDamage, LooksWhileSomebodyWritesOverEverything) {
  for (const auto how : covey::testing::fillings) {
    const one_of_each all;
    covey::process worker = covey::process::forked([&] {
      for (unsigned seed = 0;; ++seed) covey::testing::scribble(how, seed);
      return 0;
    });
    EXPECT_TRUE(eventually([] { return covey::inspect().queues.empty(); }));
    for (int i = 0; i < 40; ++i) expect_no_more_than_there_is(covey::inspect());
    worker.kill();
    worker.join();
  }
}

TEST(InspectDamage, LooksWhileProcessesComeAndGo) {
  const covey::queue<int> q(8);
  std::vector<covey::process> workers;
  for (int round = 0; round < 40; ++round) {
    workers.emplace_back(
        [](covey::queue<int> shared) {
          for (;;) {
            shared.put(1);
            (void)shared.get();
          }
        },
        q);
    for (int i = 0; i < 5; ++i) {
      const covey::snapshot s = covey::inspect();
      EXPECT_TRUE(std::ranges::any_of(s.processes, [](const auto& p) { return p.pid == ::getpid(); }));
      EXPECT_FALSE(covey::to_text(s).empty());
    }
    if (round % 3 == 0) ::kill(workers.back().pid(), SIGSTOP);
    if (workers.size() < 4) continue;
    workers.front().kill();
    workers.erase(workers.begin());
  }
  for (auto& w : workers) w.kill();
}

// What is being made, and what is given up, by another thread.
TEST(InspectDamage, LooksWhileAThreadMakesAndGivesUp) {
  std::atomic<bool> made_all = false;
  std::atomic<int> wrong = 0;
  std::thread maker([&] {
    const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    for (int i = 0; i < 1'000 && std::chrono::steady_clock::now() < enough; ++i) {
      try {
        const covey::queue<int> q(8);
        const covey::mutex m;
        const auto object = covey::make_shared<shelf>(shelf{"a text that is too long for a small string"});
        q.put(i);
        if (q.get() != i) ++wrong;
      } catch (const std::exception&) {
        ++wrong;
      }
    }
    made_all = true;
  });
  while (!made_all) (void)covey::inspect();
  maker.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(covey::inspect().queues.empty());
  EXPECT_TRUE(covey::inspect().objects.empty());
}

}  // namespace
