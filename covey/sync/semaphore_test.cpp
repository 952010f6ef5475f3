// Takers and givers in several processes, some killed while they wait.
#include <covey/sync/semaphore.hpp>
#include <gtest/gtest.h>
#include <covey/testing/victims.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

TEST(Semaphore, GivesAsOftenAsWasReleased) {
  covey::counting_semaphore<> s{2};
  s.acquire();
  EXPECT_TRUE(s.try_acquire());
  EXPECT_FALSE(s.try_acquire());
  EXPECT_FALSE(s.try_acquire_for(1ms));
  s.release(3);
  EXPECT_EQ(s.count_approx(), 3);
  EXPECT_TRUE(s.try_acquire_for(0s));
  EXPECT_TRUE(s.try_acquire_until(std::chrono::system_clock::now()));
  EXPECT_TRUE(s.try_acquire_until(std::chrono::steady_clock::now()));
  EXPECT_FALSE(s.try_acquire());
}

TEST(Semaphore, RefusesCountsBeyondItsMaximum) {
  covey::binary_semaphore s{1};
  EXPECT_THROW(s.release(), std::system_error);
  EXPECT_EQ(s.count_approx(), 1);
  EXPECT_THROW(s.release(-1), std::system_error);
  EXPECT_THROW(covey::binary_semaphore{2}, std::system_error);
  EXPECT_THROW(covey::counting_semaphore<>{-1}, std::system_error);
}

TEST(Semaphore, WakesOneForEachReleaseInAllProcesses) {
  covey::counting_semaphore<> go{0};
  covey::counting_semaphore<> done{0};
  std::vector<covey::process> takers;
  for (int i = 0; i < 8; ++i)
    takers.emplace_back(
        [](covey::counting_semaphore<> g, covey::counting_semaphore<> d) {
          g.acquire();
          d.release();
        },
        go, done);
  go.release(3);
  for (int i = 0; i < 3; ++i) done.acquire();
  EXPECT_FALSE(done.try_acquire_for(20ms));
  for (int i = 0; i < 5; ++i) go.release();
  for (auto& t : takers) EXPECT_EQ(t.join().code(), 0);
  EXPECT_EQ(done.count_approx(), 5);
}

TEST(Semaphore, LosesNoWakeToAWaiterThatIsKilled) {
  covey::counting_semaphore<> go{0};
  for (int round = 0; round < 20; ++round) {
    std::vector<covey::process> victims;
    for (int i = 0; i < 3; ++i)
      victims.push_back(started(
          [](covey::counting_semaphore<> g, covey::event there) {
            there.set();
            g.acquire();
            until_killed();
          },
          go));
    covey::process lives{[](covey::counting_semaphore<> g) { g.acquire(); }, go};
    for (auto& v : victims) EXPECT_TRUE(until_asleep(v));
    // Four permits for four takers: whichever the dead did not live to take is left over.
    std::jthread killer([&] {
      for (auto& v : victims) kill_and_join(v);
    });
    go.release(4);
    EXPECT_EQ(lives.join().code(), 0);
    killer.join();
    while (go.try_acquire()) {
    }
  }
}

TEST(Semaphore, KeepsNothingForTheDead) {
  covey::counting_semaphore<> s{1};
  covey::process taker = started(
      [](covey::counting_semaphore<> g, covey::event there) {
        g.acquire();
        there.set();
        until_killed();
      },
      s);
  kill_and_join(taker);
  EXPECT_FALSE(s.try_acquire());  // as std: nobody knows whose it was
}

TEST(Semaphore, StopsWaitingWhenAskedTo) {
  covey::counting_semaphore<> s{0};
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(s.try_acquire_for(1h, stop)); });
  waiter.request_stop();
}

TEST(Semaphore, PassesATurnBetweenThreads) {
  covey::binary_semaphore ping{0};
  covey::binary_semaphore pong{0};
  int turns = 0;  // handed over with the turn
  std::jthread other([&] {
    for (int i = 0; i < 2'000; ++i) {
      ping.acquire();
      ++turns;
      pong.release();
    }
  });
  for (int i = 0; i < 2'000; ++i) {
    ++turns;
    ping.release();
    pong.acquire();
  }
  EXPECT_EQ(turns, 4'000);
}

}  // namespace
