// Owners are killed with permits in hand; the permits come back.
#include <covey/sync/permits.hpp>
#include <gtest/gtest.h>
#include <covey/testing/victims.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

covey::process owner_of(const covey::permits& p, int n) {
  return started(
      [](covey::permits all, int count, covey::event there) {
        for (int i = 0; i < count; ++i) all.acquire();
        there.set();
        until_killed();
      },
      p, n);
}

TEST(Permits, AreGivenAsOftenAsThereAre) {
  covey::permits p{3};
  p.acquire();
  EXPECT_TRUE(p.try_acquire());
  EXPECT_TRUE(p.try_acquire_for(1s));
  EXPECT_EQ(p.owned_approx(), 3);
  EXPECT_FALSE(p.try_acquire());
  EXPECT_FALSE(p.try_acquire_for(2ms));
  EXPECT_FALSE(p.try_acquire_until(std::chrono::system_clock::now()));
  p.release();
  EXPECT_EQ(p.available_approx(), 1);
  EXPECT_TRUE(p.try_acquire());
  for (int i = 0; i < 3; ++i) p.release();
  EXPECT_THROW(p.release(), std::system_error);
  EXPECT_EQ(p.count(), 3);
}

TEST(Permits, RefuseNumbersBeyondTheirTable) {
  EXPECT_THROW(covey::permits{0}, std::system_error);
  EXPECT_THROW(covey::permits{-1}, std::system_error);
  EXPECT_THROW(covey::permits{covey::permits::max() + 1}, std::system_error);
  covey::permits all{covey::permits::max()};
  for (int i = 0; i < covey::permits::max(); ++i) ASSERT_TRUE(all.try_acquire());
  EXPECT_FALSE(all.try_acquire());
}

TEST(Permits, OfTheDeadComeBackAndWakeWhoWaits) {
  covey::permits p{4};
  covey::process owner = owner_of(p, 4);
  EXPECT_EQ(p.available_approx(), 0);
  std::vector<covey::process> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back([](covey::permits all) { all.acquire(); }, p);
    EXPECT_TRUE(until_asleep(waiters.back()));
  }
  owner.kill();
  for (auto& w : waiters) EXPECT_EQ(w.join().code(), 0);
  EXPECT_EQ(p.available_approx(), 4);  // the waiters ended with theirs
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(p.try_acquire());
}

TEST(Permits, AreNeverMoreThanThereAreWhoeverIsKilled) {
  covey::permits p{2};
  std::atomic<bool> over = false;
  std::jthread killer([&] {
    for (int round = 0; round < 50; ++round) owner_of(p, 1).kill();
    over = true;
  });
  while (!over) {
    if (p.try_acquire()) {
      EXPECT_LE(p.owned_approx(), 2);
      p.release();
    }
  }
  killer.join();
  EXPECT_TRUE(p.try_acquire_for(10s));
  EXPECT_TRUE(p.try_acquire_for(10s));
  EXPECT_FALSE(p.try_acquire());
}

TEST(Permits, OfAnotherProcessAreNotReleased) {
  covey::permits p{1};
  covey::process owner = owner_of(p, 1);
  EXPECT_THROW(p.release(), std::system_error);
  EXPECT_FALSE(p.try_acquire());
}

TEST(Permits, AreHeldByAGuard) {
  covey::permits p{1};
  {
    covey::permit one{p};
    EXPECT_TRUE(one);
    EXPECT_FALSE((covey::permit{p, std::try_to_lock}));
    covey::permit other = std::move(one);
    EXPECT_TRUE(other);
    EXPECT_FALSE(p.try_acquire());
    other.reset();
    EXPECT_TRUE(p.try_acquire());
    const covey::permit adopted{p, std::adopt_lock};
  }
  EXPECT_EQ(p.available_approx(), 1);
}

TEST(Permits, BoundThreads) {
  covey::permits p{2};
  std::atomic<int> inside = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2'000; ++i) {
        const covey::permit held{p};
        EXPECT_LE(++inside, 2);
        --inside;
      }
    });
}

TEST(Permits, StopWaitingWhenAskedTo) {
  covey::permits p{1};
  p.acquire();
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(p.try_acquire_for(1h, stop)); });
  waiter.request_stop();
}

}  // namespace
