// Counted down by several processes; waiters are killed.
#include <covey/sync/latch.hpp>
#include <gtest/gtest.h>
#include <covey/testing/victims.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

TEST(Latch, OpensWhenAllHaveCountedDown) {
  covey::latch ready{4};
  std::vector<covey::process> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back([](covey::latch l) { l.arrive_and_wait(); }, ready);
  EXPECT_FALSE(ready.wait_for(5ms));
  EXPECT_FALSE(ready.try_wait());
  ready.count_down();
  for (auto& w : workers) EXPECT_EQ(w.join().code(), 0);
  EXPECT_TRUE(ready.try_wait());
  ready.wait();
  EXPECT_TRUE(ready.wait_until(std::chrono::steady_clock::now()));
}

TEST(Latch, RefusesToBeCountedBelowZero) {
  covey::latch l{2};
  EXPECT_THROW(l.count_down(3), std::system_error);
  EXPECT_THROW(l.count_down(-1), std::system_error);
  EXPECT_THROW(covey::latch{-1}, std::system_error);
  l.count_down(2);
  EXPECT_TRUE(l.try_wait());
}

TEST(Latch, OpensForTheOthersWhenAWaiterWasKilled) {
  covey::latch l{1};
  covey::process dead = started(
      [](covey::latch gate, covey::event there) {
        there.set();
        gate.wait();
      },
      l);
  covey::process lives{[](covey::latch gate) { gate.wait(); }, l};
  EXPECT_TRUE(until_asleep(dead));
  kill_and_join(dead);
  l.count_down();
  EXPECT_EQ(lives.join().code(), 0);
}

TEST(Latch, ShowsWhatHappenedBeforeItOpened) {
  covey::latch l{4};
  int parts[4] = {};
  std::vector<std::jthread> threads;
  for (int& part : parts)
    threads.emplace_back([&] {
      part = 1;
      l.count_down();
    });
  l.wait();
  EXPECT_EQ(parts[0] + parts[1] + parts[2] + parts[3], 4);
}

TEST(Latch, StopsWaitingWhenAskedTo) {
  covey::latch l{1};
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(l.wait_for(1h, stop)); });
  waiter.request_stop();
}

}  // namespace
