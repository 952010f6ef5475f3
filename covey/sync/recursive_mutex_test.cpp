// Owners are killed at every depth; what the others then see is the contract.
#include <covey/sync/recursive_mutex.hpp>
#include <gtest/gtest.h>
#include <covey/testing/victims.hpp>

#include <mutex>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

bool free_for_others(covey::recursive_mutex m) {
  bool got = false;
  std::thread([&] {
    got = m.try_lock();
    if (got) m.unlock();
  }).join();
  return got;
}

TEST(RecursiveMutex, IsFreeAfterAsManyUnlocksAsLocks) {
  covey::recursive_mutex m;
  m.lock();
  EXPECT_TRUE(m.try_lock());
  EXPECT_TRUE(m.lock_for(1s));
  EXPECT_TRUE(m.try_lock_until(std::chrono::system_clock::now() + 1s));
  for (int i = 0; i < 3; ++i) {
    m.unlock();
    EXPECT_FALSE(free_for_others(m));
  }
  m.unlock();
  EXPECT_TRUE(free_for_others(m));
}

TEST(RecursiveMutex, ExcludesThreadsAlsoInDepth) {
  covey::recursive_mutex m;
  int count = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i) {
        const std::scoped_lock outer(m);
        const std::scoped_lock inner(m);
        ++count;
      }
    });
  threads.clear();
  EXPECT_EQ(count, 20'000);
}

TEST(RecursiveMutex, TellsThatItsOwnerDiedWhateverTheDepth) {
  for (int depth = 1; depth <= 3; ++depth) {
    covey::recursive_mutex m;
    covey::process owner = started(
        [](covey::recursive_mutex lock, int n, covey::event there) {
          for (int i = 0; i < n; ++i) lock.lock();
          there.set();
          until_killed();
        },
        m, depth);
    EXPECT_FALSE(m.lock_for(1ms));
    owner.kill();
    EXPECT_THROW(m.lock(), covey::owner_died);
    EXPECT_TRUE(m.needs_recovery_approx());
    EXPECT_TRUE(m.recover([&] {
      m.lock();  // its own again
      m.unlock();
    }));
    m.lock();
    EXPECT_FALSE(m.recover([] { FAIL() << "it is this thread's"; }));
    m.unlock();
    EXPECT_TRUE(free_for_others(m));
  }
}

TEST(RecursiveMutex, RefusesBeyondItsDepth) {
  covey::recursive_mutex m;
  for (std::uint32_t i = 0; i < covey::recursive_mutex::depth_max; ++i) m.lock();
  EXPECT_THROW(m.lock(), std::system_error);
  EXPECT_FALSE(m.try_lock());
  for (std::uint32_t i = 0; i < covey::recursive_mutex::depth_max; ++i) m.unlock();
  EXPECT_TRUE(free_for_others(m));
}

TEST(RecursiveMutex, StopsWaitingWhenAskedTo) {
  covey::recursive_mutex m;
  m.lock();
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(m.lock_for(1h, stop)); });
  waiter.request_stop();
  waiter.join();
  m.unlock();
}

}  // namespace
