// A counter in shared memory, its mutex and its condition; waiters, notifiers and owners are killed.
#include <covey/sync/condition_variable.hpp>
#include <gtest/gtest.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/testing/victims.hpp>

#include <deque>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

struct store {
  int items = 0;
  int taken = 0;
};
using goods = covey::shared_ptr<store>;

void take(covey::mutex m, covey::condition_variable more, goods g) {
  std::unique_lock lock(m);
  more.wait(lock, [&] { return g->items > 0; });
  --g->items;
  ++g->taken;
}

TEST(ConditionVariable, HandsItemsToWaitersInAllProcesses) {
  covey::mutex m;
  covey::condition_variable more;
  auto g = covey::make_shared<store>();
  std::vector<covey::process> takers;
  for (int i = 0; i < 6; ++i) takers.emplace_back(take, m, more, g);
  for (int i = 0; i < 4; ++i) {
    {
      const std::scoped_lock lock(m);
      ++g->items;
    }
    more.notify_one();
  }
  {
    const std::scoped_lock lock(m);
    g->items += 2;
  }
  more.notify_all();
  for (auto& t : takers) EXPECT_EQ(t.join().code(), 0);
  EXPECT_EQ(g->taken, 6);
}

TEST(ConditionVariable, WorksBetweenThreads) {
  covey::mutex m;
  covey::condition_variable changed;
  std::deque<int> items;
  long sum = 0;
  std::jthread consumer([&] {
    for (int i = 0; i < 2'000; ++i) {
      std::unique_lock lock(m);
      changed.wait(lock, [&] { return !items.empty(); });
      sum += items.front();
      items.pop_front();
    }
  });
  for (int i = 0; i < 2'000; ++i) {
    {
      const std::scoped_lock lock(m);
      items.push_back(i);
    }
    changed.notify_one();
  }
  consumer.join();
  EXPECT_EQ(sum, 1'999L * 2'000 / 2);
}

TEST(ConditionVariable, TimesOutAndStops) {
  covey::mutex m;
  covey::condition_variable never;
  std::unique_lock lock(m);
  EXPECT_EQ(never.wait_until(lock, std::chrono::steady_clock::time_point::min()), std::cv_status::timeout);
  EXPECT_FALSE(never.wait_for(lock, 2ms, [] { return false; }));
  EXPECT_TRUE(never.wait_for(lock, 1h, [] { return true; }));
  EXPECT_FALSE(never.wait_until(lock, std::chrono::system_clock::now() + 2ms, [] { return false; }));
  EXPECT_TRUE(lock.owns_lock());
  lock.unlock();
  std::jthread waiter([&](std::stop_token stop) {
    std::unique_lock mine(m);
    EXPECT_FALSE(never.wait(mine, stop, [] { return false; }));
    EXPECT_FALSE(never.wait_for(mine, stop, 1h, [] { return false; }));
    EXPECT_TRUE(mine.owns_lock());
  });
  waiter.request_stop();
}

TEST(ConditionVariable, WorksWithOtherLocks) {
  covey::recursive_mutex m;
  covey::condition_variable_any changed;
  bool ready = false;
  std::jthread setter([&] {
    const std::scoped_lock lock(m);
    ready = true;
    changed.notify_all();
  });
  std::unique_lock lock(m);
  changed.wait(lock, [&] { return ready; });
  EXPECT_TRUE(ready);
}

TEST(ConditionVariable, LosesNothingToAWaiterThatIsKilled) {
  covey::mutex m;
  covey::condition_variable more;
  for (int round = 0; round < 20; ++round) {
    auto g = covey::make_shared<store>();
    std::vector<covey::process> victims;
    for (int i = 0; i < 3; ++i)
      victims.push_back(started(
          [](covey::mutex lock, covey::condition_variable c, goods s, covey::event there) {
            there.set();
            take(lock, c, s);
          },
          m, more, g));
    for (auto& v : victims) EXPECT_TRUE(until_asleep(v));
    covey::process lives{take, m, more, g};
    EXPECT_TRUE(until_asleep(lives));
    {
      const std::scoped_lock lock(m);
      ++g->items;
    }
    // The one notification may go to one that dies of it; the item is for whoever lives.
    more.notify_one();
    for (auto& v : victims) v.kill();
    for (auto& v : victims) v.join();
    m.recover([] {});  // a victim may have been killed with the lock in hand
    {
      const std::scoped_lock lock(m);
      g->items = 1;  // in case that it was a victim that took it
    }
    more.notify_one();
    const auto status = lives.join();
    // It may also have met the lock of a dead one.
    EXPECT_TRUE(status.code() == 0 || status.exception()) << status.describe();
  }
}

TEST(ConditionVariable, ThrowsWhenTheOwnerOfTheMutexDied) {
  covey::mutex m;
  covey::condition_variable never;
  covey::event waits;
  covey::process victim;
  std::jthread waiter([&] {
    std::unique_lock lock(m);
    waits.set();
    EXPECT_THROW(never.wait(lock, [] { return false; }), covey::owner_died);
    EXPECT_FALSE(lock.owns_lock());
  });
  waits.wait();
  victim = started(
      [](covey::mutex lock, covey::event there) {
        lock.lock();
        there.set();
        until_killed();
      },
      m);
  victim.kill();
  waiter.join();
  EXPECT_TRUE(m.recover([] {}));
}

}  // namespace
