// Publishers and subscribers are killed, or stopped for ever, at random: those who live get every committed message
// once, in order, and nothing is left behind.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/broadcast_layout.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <array>
#include <fstream>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::broadcast;
using covey::slow_subscriber;
using covey::subscriber;

constexpr int rounds = 100;
using message = std::tuple<int, int, std::string, covey::shared_ptr<int>>;
using counts = std::array<std::atomic<int>, rounds>;

std::string filler(int number) { return std::string(static_cast<std::size_t>(number % 7 * 300), 'x'); }

void puts_until_killed(const broadcast<message>& to, int who, const covey::shared_ptr<counts>& committed) {
  for (int n = 0;; ++n) {
    to.put({who, n, filler(n), n % 10 == 0 ? covey::make_shared<int>(n) : nullptr});
    (*committed)[static_cast<std::size_t>(who)] = n + 1;
  }
}

// How many it got of each publisher; a first entry of -1 when they were not in order.
std::vector<int> gets_in_order(const subscriber<message>& from) {
  std::vector<int> next(rounds, 0);
  for (const auto& [who, n, text, object] : from) {
    const bool right = next.at(static_cast<std::size_t>(who))++ == n && text == filler(n) &&
                       (n % 10 != 0 || (object != nullptr && *object == n));
    if (!right) return {-1};
  }
  return next;
}

TEST(BroadcastKill, SurvivorsGetEveryCommittedMessageOnceInOrder) {
  const auto before = covey::testing::settled();
  {
    const broadcast<message> b{{.items = 16, .bytes = 64 << 10, .when_slow = slow_subscriber::block}};
    const auto committed = covey::make_shared<counts>();
    const covey::queue<std::vector<int>> results;
    std::vector<covey::process> survivors;
    for (int i = 0; i < 2; ++i)
      survivors.emplace_back(
          [](subscriber<message> from, covey::queue<std::vector<int>> to) { to.put(gets_in_order(from)); },
          b.subscribe(), results);
    covey::process publisher{[](broadcast<message> to, covey::shared_ptr<counts> c) {
                               for (int n = 0; n < 2'000; ++n) {
                                 to.put({0, n, filler(n), n % 10 == 0 ? covey::make_shared<int>(n) : nullptr});
                                 (*c)[0] = n + 1;
                               }
                             },
                             b, committed};
    std::mt19937 random(1);
    for (int who = 1; who < rounds; ++who) {
      covey::process putter{
          [](broadcast<message> to, int id, covey::shared_ptr<counts> c) { puts_until_killed(to, id, c); }, b, who,
          committed};
      covey::process getter{[](broadcast<message> all) { (void)gets_in_order(all.subscribe()); }, b};
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 8'000));
      putter.kill();
      getter.kill();
      putter.join();
      getter.join();
    }
    publisher.join();  // a quiet phase: nobody waits for the dead
    b.close();
    const auto first = results.get().value();
    ASSERT_EQ(first.size(), rounds);
    EXPECT_EQ(first, results.get().value());
    results.task_done();
    EXPECT_EQ(results.try_get(), std::nullopt);
    EXPECT_EQ(first[0], 2'000);
    int unannounced = 0;
    for (std::size_t who = 0; who < rounds; ++who) {
      EXPECT_GE(first[who], (*committed)[who]);
      EXPECT_LE(first[who], (*committed)[who] + 1);
      unannounced += first[who] - (*committed)[who];
    }
    std::printf("killed %d publishers, %d between commit and return\n", rounds - 1, unannounced);
    survivors.clear();
    EXPECT_TRUE(covey::testing::eventually([&] { return b.subscribers() == 0; }));
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

// Messages are overwritten all the time, by publishers that are killed in it.
TEST(BroadcastKill, LaggingSurvivorsGetOrCountEveryMessage) {
  const auto before = covey::testing::settled();
  {
    const broadcast<message> b{{.items = 5, .bytes = 4'000}};
    const auto committed = covey::make_shared<counts>();
    const covey::queue<std::uint64_t> results;
    std::vector<covey::process> survivors;
    for (int i = 0; i < 2; ++i)
      survivors.emplace_back(
          [](subscriber<message> from, covey::queue<std::uint64_t> to) {
            std::vector<int> next(rounds, 0);
            std::uint64_t got = 0;
            for (const auto& [who, n, text, object] : from) {
              int& least = next.at(static_cast<std::size_t>(who));
              const bool right = n >= least && text == filler(n) && (n % 10 != 0 || *object == n);
              if (!right) ::_exit(1);
              least = n + 1;
              ++got;
            }
            to.put(got + from.missed());
          },
          b.subscribe(), results);
    std::mt19937 random(3);
    for (int who = 1; who < rounds; ++who) {
      covey::process putter{
          [](broadcast<message> to, int id, covey::shared_ptr<counts> c) { puts_until_killed(to, id, c); }, b, who,
          committed};
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 4'000));
      putter.kill();
      putter.join();
    }
    b.put({0, 0, filler(0), covey::make_shared<int>(0)});  // what was missed before the last is counted with it
    b.close();
    for (auto& s : survivors) ASSERT_EQ(s.join().code(), 0);
    const std::uint64_t all = results.get().value();
    EXPECT_EQ(all, results.get().value());
    results.task_done();
    std::uint64_t announced = 1;
    for (const auto& c : *committed) announced += static_cast<std::uint64_t>(c.load());
    EXPECT_GE(all, announced);
    EXPECT_LE(all, announced + rounds);
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

TEST(BroadcastKill, WhoBlocksGoesOnWhenTheSlowestDies) {
  const broadcast<int> b{{.items = 2, .when_slow = slow_subscriber::block}};
  covey::process slow = covey::testing::started(
      [](subscriber<int>, covey::event e) {
        e.set();
        covey::testing::until_killed();
      },
      b.subscribe());
  b.put(1);
  b.put(2);
  EXPECT_FALSE(b.put_for(3, 1ms));
  covey::process putter{[](broadcast<int> to) { to.put(3); }, b};
  EXPECT_TRUE(covey::testing::until_asleep(putter));
  slow.kill();
  EXPECT_EQ(putter.join().code(), 0);
  EXPECT_EQ(b.subscribers(), 0U);
}

TEST(BroadcastKill, WhatTheDeadHadNotGotIsGivenBackWithoutAnybodysHelp) {
  const broadcast<covey::shared_ptr<int>> b;
  const auto living = b.subscribe();
  const auto before = covey::testing::settled().regions;
  covey::process dies = covey::testing::started(
      [](subscriber<covey::shared_ptr<int>>, covey::event e) {
        e.set();
        covey::testing::until_killed();
      },
      b.subscribe());
  covey::process waits{[](subscriber<covey::shared_ptr<int>> s) { (void)s.get(); }, b.subscribe()};
  b.put(covey::make_shared<int>(1));
  EXPECT_EQ(**living.get(), 1);
  waits.join();
  covey::process sleeps{[](subscriber<covey::shared_ptr<int>> s) { (void)s.get(); }, living};
  EXPECT_TRUE(covey::testing::until_asleep(sleeps));
  covey::testing::kill_and_join(dies);
  EXPECT_TRUE(covey::testing::eventually([&] { return covey::testing::settled().regions == before + 1; }));
  b.close();
}

// As who overwrites a message leaves it when it is killed after its compare-and-swap: nobody can see the message any
// more, but what it named is still held for it, and its place will be another's.
class BroadcastEvictor : public ::testing::TestWithParam<bool> {};

TEST_P(BroadcastEvictor, WhatTheMessageNamedIsGivenBackByWhoComesNext) {
  namespace d = covey::detail;
  const d::broadcast_core b{covey::broadcast_options{.items = 2}};
  const auto listens = b.subscribe();
  d::region named({.bytes = d::page_bytes});
  const std::array ids{named.id()};
  ASSERT_TRUE(b.put({.attachments = ids}, std::nullopt, nullptr));
  named = d::region();
  (void)covey::testing::settled();
  ASSERT_TRUE(d::is_held_by_somebody(ids[0]));
  covey::testing::in_one_that_dies([&] {
    const d::broadcast_memory m(b.memory());
    ASSERT_TRUE(m.swap(0, m.at(0), m.at(0).evicted()));
  });
  const bool by_a_sweep = GetParam();
  if (!by_a_sweep)  // but who puts there
    reinterpret_cast<d::broadcast_header*>(b.memory().data())->swept_deaths = d::deaths_seen();
  for (int n = 0; n < (by_a_sweep ? 1 : 4); ++n) ASSERT_TRUE(b.put({}, std::nullopt, nullptr));
  EXPECT_TRUE(covey::testing::eventually([&] { return !d::is_held_by_somebody(ids[0]); }));
}

INSTANTIATE_TEST_SUITE_P(Both, BroadcastEvictor, ::testing::Bool());

// Who pushes a message out tells the keeper, and does not wait for it. Both are killed before it is read.
TEST(BroadcastKill, KeepsNothingThatAKilledKeeperWasTold) {
  using handle = covey::shared_ptr<int>;
  for (int round = 0; round < 30; ++round) {
    const covey::broadcast<handle> b({.items = 1});
    const auto listener = b.subscribe();
    b.put(handle());
    covey::event knows_all_lanes, full;
    covey::process pusher{[](covey::broadcast<handle> out, covey::event ready, covey::event go) {
                            out.put(handle());
                            ready.set();
                            go.wait();
                            ::kill(covey::detail::family.book->keeper_pid, SIGKILL);
                            out.put(handle());
                            ::kill(::getpid(), SIGKILL);
                          },
                          b, knows_all_lanes, full};
    knows_all_lanes.wait();
    auto object = covey::make_shared<int>(5);
    const covey::weak_ptr<int> seen(object);
    b.put(object);
    object.reset();
    full.set();
    EXPECT_EQ(pusher.join().signal(), SIGKILL);
    if (round % 2 == 0) b.put(handle());
    EXPECT_TRUE(covey::testing::eventually([&] {
      (void)listener.try_get();
      return seen.expired();
    })) << round;
  }
}

class BroadcastStop : public ::testing::TestWithParam<slow_subscriber> {};

TEST_P(BroadcastStop, ASubscriberThatIsStoppedForEverHindersNobody) {
  const broadcast<std::pair<int, std::string>> b{{.items = 8, .bytes = 64 << 10, .when_slow = GetParam()}};
  const auto s = b.subscribe();
  std::mt19937 random(2);
  std::vector<covey::process> stopped;
  for (int round = 0; round < 30; ++round) {
    stopped.emplace_back(
        [](subscriber<std::pair<int, std::string>> in) {
          try {
            for (;;) (void)in.get();
          } catch (const covey::too_slow&) {
            covey::testing::until_killed();
          }
        },
        b.subscribe());
    for (int n = 0; n < 100; ++n) {
      ASSERT_TRUE(b.try_put({n, filler(n)}));
      ASSERT_EQ(s.get().value().first, n);
      if (n == 50) std::this_thread::sleep_for(std::chrono::microseconds(random() % 2'000));
      if (n == 60) ::kill(stopped.back().pid(), SIGSTOP);
    }
  }
  for (auto& p : stopped) p.kill();
  stopped.clear();
  EXPECT_EQ(s.missed(), 0U);
}

INSTANTIATE_TEST_SUITE_P(All, BroadcastStop, ::testing::Values(slow_subscriber::lag, slow_subscriber::drop));

void stop_and_wait(const covey::process& p) {
  ::kill(p.pid(), SIGSTOP);
  const std::string stat = "/proc/" + std::to_string(p.pid()) + "/stat";
  const auto state = [&] {
    std::ifstream in(stat);
    const std::string line{std::istreambuf_iterator<char>(in), {}};
    const auto end = line.rfind(')');
    return end == std::string::npos || end + 2 >= line.size() ? '?' : line[end + 2];
  };
  EXPECT_TRUE(covey::testing::eventually([&] { return state() == 'T'; }));
}

class BroadcastStoppedPublishers : public ::testing::TestWithParam<slow_subscriber> {};

// All publishers are stopped, wherever they are; we put without a limit and get what we put; they go on.
TEST_P(BroadcastStoppedPublishers, HinderNobodyAndGoOn) {
  const auto before = covey::testing::settled();
  {
    const broadcast<message> b{{.items = 8, .bytes = 20'000, .when_slow = GetParam()}};
    const auto s = b.subscribe();
    const auto committed = covey::make_shared<counts>();
    std::vector<covey::process> others;
    for (int who = 1; who <= 3; ++who)
      others.emplace_back(
          [](broadcast<message> to, int id, covey::shared_ptr<counts> c) { puts_until_killed(to, id, c); }, b, who,
          committed);
    std::vector<int> next(4, 0);
    const auto get = [&](const message& m) {
      const auto& [who, n, text, object] = m;
      int& least = next.at(static_cast<std::size_t>(who));
      const bool in_order = GetParam() == slow_subscriber::block ? n == least : n >= least;
      EXPECT_TRUE(in_order && text == filler(n) && (n % 10 != 0 || *object == n)) << who << ' ' << n << ' ' << least;
      least = n + 1;
    };
    std::mt19937 random(4);
    int mine = 0;
    for (int round = 0; round < 100; ++round) {
      for (auto until = random() % 40; until > 0; --until) get(s.get().value());
      for (const auto& p : others) stop_and_wait(p);
      while (const auto m = s.try_get()) get(*m);
      for (int i = 0; i < 20; ++i, ++mine) {
        b.put({0, mine, filler(mine), mine % 10 == 0 ? covey::make_shared<int>(mine) : nullptr});
        get(s.get().value());
        ASSERT_EQ(next[0], mine + 1);
      }
      for (const auto& p : others) ::kill(p.pid(), SIGCONT);
    }
    for (auto& p : others) covey::testing::kill_and_join(p);
    while (const auto m = s.try_get()) get(*m);
    if (GetParam() == slow_subscriber::block) {
      EXPECT_EQ(s.missed(), 0U);
      for (std::size_t who = 1; who < next.size(); ++who) EXPECT_GE(next[who], (*committed)[who]);
    }
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

INSTANTIATE_TEST_SUITE_P(All, BroadcastStoppedPublishers,
                         ::testing::Values(slow_subscriber::lag, slow_subscriber::block));

}  // namespace
