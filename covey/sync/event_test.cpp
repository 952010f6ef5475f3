// Setters and waiters in several processes, some killed.
#include <covey/sync/event.hpp>
#include <gtest/gtest.h>
#include <unistd.h>
#include <covey/process/process.hpp>
#include <covey/testing/victims.hpp>

#include <thread>

namespace {

using namespace std::chrono_literals;

TEST(Event, WakesWaitersInAllProcesses) {
  covey::event go;
  std::vector<covey::process> waiters;
  for (int i = 0; i < 8; ++i) waiters.emplace_back([](covey::event e) { e.wait(); }, go);
  std::jthread thread([&] { go.wait(); });
  EXPECT_FALSE(go.wait_for(5ms));
  go.set();
  for (auto& w : waiters) EXPECT_EQ(w.join().code(), 0);
}

TEST(Event, IsClearedAndSetAgain) {
  covey::event e;
  e.set();
  EXPECT_TRUE(e.is_set());
  EXPECT_TRUE(e.wait_for(0ns));
  e.clear();
  EXPECT_FALSE(e.is_set());
  EXPECT_FALSE(e.wait_until(std::chrono::steady_clock::now()));
}

// They looked for the flag only, and a clear() before they were on a processor again left them asleep.
TEST(Event, LetsAllGoWhoWaitedAlsoWhenItIsClearedAtOnce) {
  covey::event flash;
  for (int round = 0; round < 10; ++round) {
    std::vector<covey::process> waiters;
    for (int i = 0; i < 4; ++i)
      waiters.push_back(covey::testing::started(
          [](covey::event e, covey::event there) {
            there.set();
            e.wait();
          },
          flash));
    for (auto& w : waiters) EXPECT_TRUE(covey::testing::until_asleep(w));
    flash.set();
    flash.clear();
    for (auto& w : waiters) EXPECT_EQ(w.join().code(), 0);
    EXPECT_FALSE(flash.wait_for(0ns));
  }
}

TEST(Event, WakesTheOthersWhenAWaiterWasKilled) {
  covey::event go;
  covey::process dead{[](covey::event e) { e.wait(); }, go};
  covey::process lives{[](covey::event e) { e.wait(); }, go};
  dead.kill();
  dead.join();
  go.set();
  EXPECT_EQ(lives.join().code(), 0);
}

TEST(Event, StopsWaitingWhenAskedTo) {
  const covey::event never;
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(never.wait_for(1h, stop)); });
  std::this_thread::sleep_for(5ms);
  waiter.request_stop();
}

TEST(Event, GoesWithItsLastHolder) {
  const auto used = [] { return covey::detail::family.book->edges_used.load(); };
  {
    const covey::event warm;
  }
  const auto before = used();
  for (int i = 0; i < 1000; ++i) const covey::event e;
  EXPECT_LE(used(), before + 1);
}

}  // namespace
