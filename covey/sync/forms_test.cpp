// Each wait in each form that std has for it, through std's own guards where they call it: any clock, any duration,
// also such that nanoseconds cannot hold.
#include <gtest/gtest.h>
#include <covey/sync/barrier.hpp>
#include <covey/sync/condition_variable.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/named_mutex.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/sync/shared_mutex.hpp>

#include <mutex>
#include <shared_mutex>
#include <stop_token>
#include <thread>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

std::stop_token stopped() {
  std::stop_source source;
  source.request_stop();
  return source.get_token();
}

template <class Mutex>
class TimedMutex : public testing::Test {};
using mutexes = testing::Types<covey::mutex, covey::recursive_mutex, covey::shared_mutex, covey::named_mutex>;
TYPED_TEST_SUITE(TimedMutex, mutexes);

TYPED_TEST(TimedMutex, TakesAnyDurationAndAnyClock) {
  TypeParam m;
  {
    const std::unique_lock by_fraction(m, 1.5ms);
    EXPECT_TRUE(by_fraction.owns_lock());
    std::jthread([&] {
      EXPECT_FALSE(std::unique_lock(m, 0.5ms).owns_lock());
      EXPECT_FALSE(std::unique_lock(m, system_clock::now() + 1ms).owns_lock());
      EXPECT_FALSE(std::unique_lock(m, steady_clock::now()).owns_lock());
      EXPECT_FALSE(m.lock_until(system_clock::now() + 1ms));
      EXPECT_FALSE(m.lock_until(std::chrono::floor<std::chrono::seconds>(steady_clock::now())));
      EXPECT_FALSE(m.lock_until(std::chrono::sys_seconds::min()));
      EXPECT_FALSE(m.lock_until(system_clock::time_point::max(), stopped()));
      EXPECT_FALSE(m.lock_for(std::chrono::nanoseconds::max(), stopped()));
    }).join();
  }
  EXPECT_TRUE(std::unique_lock(m, std::chrono::hours::max()).owns_lock());
  EXPECT_TRUE(std::unique_lock(m, std::chrono::sys_seconds::max()).owns_lock());
  EXPECT_TRUE(std::unique_lock(m, std::chrono::sys_seconds::min()).owns_lock());  // it is free
}

TEST(SharedMutexForms, TakesAnyDurationAndAnyClock) {
  covey::shared_mutex m;
  const std::scoped_lock alone(m);
  std::jthread([&] {
    EXPECT_FALSE(std::shared_lock(m, 0.5ms).owns_lock());
    EXPECT_FALSE(std::shared_lock(m, system_clock::now() + 1ms).owns_lock());
    EXPECT_FALSE(m.lock_shared_until(system_clock::now() + 1ms));
    EXPECT_FALSE(m.lock_shared_until(std::chrono::sys_seconds::max(), stopped()));
  }).join();
}

TEST(SemaphoreForms, TakesAnyDurationAndAnyClock) {
  covey::binary_semaphore s(0);
  EXPECT_FALSE(s.try_acquire_for(0.5ms));
  EXPECT_FALSE(s.try_acquire_for(std::chrono::hours::max(), stopped()));
  EXPECT_FALSE(s.try_acquire_until(system_clock::now() + 1ms));
  EXPECT_FALSE(s.try_acquire_until(std::chrono::sys_seconds::min()));
  s.release();
  EXPECT_TRUE(s.try_acquire_for(std::chrono::hours::max()));
}

TEST(ConditionForms, TakesAnyDurationAndAnyClock) {
  covey::mutex m;
  covey::condition_variable c;
  std::unique_lock held(m);
  EXPECT_EQ(c.wait_until(held, std::chrono::sys_seconds::min()), std::cv_status::timeout);
  EXPECT_FALSE(c.wait_for(held, 0.5ms, [] { return false; }));
  EXPECT_FALSE(c.wait_for(held, stopped(), std::chrono::hours::max(), [] { return false; }));
  EXPECT_TRUE(c.wait_for(held, std::chrono::hours::max(), [] { return true; }));
}

template <class Object>
class OneWay : public testing::Test {};
struct a_latch : covey::latch {
  a_latch() : latch(1) {}
};
using one_ways = testing::Types<covey::event, covey::named_event, a_latch>;
TYPED_TEST_SUITE(OneWay, one_ways);

TYPED_TEST(OneWay, WaitsByAnyClock) {
  const TypeParam object;
  EXPECT_FALSE(object.wait_until(steady_clock::now()));
  EXPECT_FALSE(object.wait_until(system_clock::now() + 1ms));
  EXPECT_FALSE(object.wait_until(std::chrono::sys_seconds::max(), stopped()));
}

TEST(BarrierForms, WaitsByAnyClock) {
  covey::barrier b(2);
  const auto arrival = b.arrive();
  EXPECT_FALSE(b.wait_until(arrival, system_clock::now() + 1ms));
  EXPECT_FALSE(b.wait_until(arrival, steady_clock::now()));
  EXPECT_FALSE(b.wait_until(arrival, std::chrono::sys_seconds::max(), stopped()));
}

}  // namespace
