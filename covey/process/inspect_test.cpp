// What inspect() says of processes, regions and queues, also of such that are killed and stopped meanwhile.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

namespace {

using covey::testing::eventually;

const covey::process_info* find_process(const covey::snapshot& s, std::int64_t pid) {
  const auto it = std::ranges::find_if(s.processes, [&](const auto& p) { return p.pid == pid; });
  return it == s.processes.end() ? nullptr : &*it;
}

std::int64_t in_flight_at(const covey::snapshot& s, std::int64_t pid) {
  for (const auto& q : s.queues)
    for (const auto& h : q.in_flight)
      if (h.pid == pid) return h.count;
  return 0;
}

std::size_t regions_of(const covey::snapshot& s, const std::string& kind, std::int64_t pid) {
  return static_cast<std::size_t>(std::ranges::count_if(s.regions, [&](const auto& r) {
    return r.kind == kind && std::ranges::any_of(r.holders, [&](const auto& h) { return h.pid == pid; });
  }));
}

TEST(Inspect, NamesProcessesAndWhatTheyHold) {
  covey::event go;
  covey::process worker{covey::process_options{.name = "looked at"}, [](covey::event e) { e.wait(); }, go};
  ASSERT_TRUE(eventually([&] { return regions_of(covey::inspect(), "event", worker.pid()) == 1; }));
  const covey::snapshot s = covey::inspect();
  const auto* const w = find_process(s, worker.pid());
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->name, "looked at");
  EXPECT_EQ(w->state, "alive");
  EXPECT_EQ(w->parent, ::getpid());
  EXPECT_GT(w->age.count(), 0);
  EXPECT_NE(find_process(s, ::getpid()), nullptr);
  EXPECT_EQ(regions_of(s, "event", ::getpid()), 1U);
  go.set();
  worker.join();
}

TEST(Inspect, CountsWhatWaitsAndWhatIsInWhoseHand) {
  const covey::queue<int> q(100);
  covey::event taken;
  for (int i = 0; i < 5; ++i) q.put(i);
  covey::process worker{[](covey::queue<int> shared, covey::event e) {
                          (void)shared.get_many(2);
                          e.set();
                          covey::event().wait();
                        },
                        q, taken};
  taken.wait();
  covey::snapshot s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 1U);
  EXPECT_EQ(s.queues[0].capacity, 100U);
  EXPECT_EQ(s.queues[0].waiting, 3U);
  EXPECT_EQ(s.queues[0].put, 5U);
  EXPECT_FALSE(s.queues[0].closed);
  EXPECT_EQ(in_flight_at(s, worker.pid()), 2);
  // Stopped or killed, nobody waits for it.
  ::kill(worker.pid(), SIGSTOP);
  EXPECT_EQ(in_flight_at(covey::inspect(), worker.pid()), 2);
  const std::int64_t pid = worker.pid();
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([&] { return in_flight_at(covey::inspect(), pid) == 0; }));
  q.put(5);
  q.close();
  s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 1U);
  EXPECT_EQ(s.queues[0].put, 6U);
  EXPECT_TRUE(s.queues[0].closed);
}

TEST(Inspect, SaysThatAHolderWasKilled) {
  const auto shared = covey::make_shared<int>(1);
  const auto is_left = [] {
    const auto s = covey::inspect();
    return std::ranges::any_of(s.regions, [](const auto& r) { return r.kind == "object" && r.left_by_the_dead; });
  };
  EXPECT_FALSE(is_left());
  covey::event there;
  covey::process worker{[](covey::shared_ptr<int> held, covey::event e) {
                          e.set();
                          covey::event().wait();
                          (void)held;
                        },
                        shared, there};
  there.wait();
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually(is_left));
}

TEST(Inspect, SaysWhoHasALockAndThatItsOwnerDied) {
  covey::mutex m;
  EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
  covey::event locked;
  covey::process worker{[](covey::mutex shared, covey::event e) {
                          shared.lock();
                          e.set();
                          covey::event().wait();
                        },
                        m, locked};
  locked.wait();
  ::kill(worker.pid(), SIGSTOP);
  const covey::lock_info had = covey::inspect().locks.at(0);
  EXPECT_EQ(had.kind, "mutex");
  EXPECT_EQ(had.owner, worker.pid());
  EXPECT_FALSE(had.waited_for);
  EXPECT_FALSE(had.needs_recovery);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return covey::inspect().locks.at(0).needs_recovery; }));
  EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
  EXPECT_TRUE(m.recover([] {}));
  EXPECT_FALSE(covey::inspect().locks.at(0).needs_recovery);
}

TEST(Inspect, LooksWhileProcessesComeAndGo) {
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
      EXPECT_NE(find_process(s, ::getpid()), nullptr);
      EXPECT_FALSE(covey::to_text(s).empty());
    }
    if (workers.size() < 4) continue;
    workers.front().kill();
    workers.erase(workers.begin());
  }
  for (auto& w : workers) w.kill();
}

// What is being made, and what is given up, by another thread.
TEST(Inspect, LooksWhileAThreadMakesAndGivesUp) {
  std::atomic<bool> made_all = false;
  std::atomic<int> wrong = 0;
  std::thread maker([&] {
    for (int i = 0; i < 3'000; ++i) {
      try {
        const covey::queue<int> q(8);
        const covey::mutex m;
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
}

TEST(Inspect, IsReadByPeopleAndPrograms) {
  const covey::queue<int> q(3);
  q.put(1);
  const covey::snapshot s = covey::inspect();
  const std::string text = covey::to_text(s);
  EXPECT_NE(text.find("PID"), std::string::npos);
  EXPECT_NE(text.find(std::to_string(::getpid())), std::string::npos);
  const std::string json = covey::to_json(s);
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.back(), '}');
  EXPECT_EQ(json.find('\n'), std::string::npos);
  EXPECT_NE(json.find("\"waiting\":1"), std::string::npos);
  EXPECT_EQ(std::ranges::count(json, '{'), std::ranges::count(json, '}'));
  EXPECT_EQ(std::ranges::count(json, '['), std::ranges::count(json, ']'));
}

}  // namespace
