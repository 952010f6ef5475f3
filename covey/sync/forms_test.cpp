// Each wait in each form that std has for it, through std's own guards where they call it: any clock, any duration,
// also such that nanoseconds cannot hold.
#include <gtest/gtest.h>
#include <covey/sync/barrier.hpp>
#include <covey/sync/condition_variable.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/named_mutex.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/sync/shared_mutex.hpp>

#include <limits>
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
      EXPECT_FALSE(m.lock_for(0.5ms));
      EXPECT_FALSE(m.lock_for(-1.5h));
      EXPECT_FALSE(m.lock_for(std::chrono::hours::min()));
      EXPECT_FALSE(m.lock_for(std::chrono::hours::max(), stopped()));
      EXPECT_FALSE(m.lock(stopped()));
    }).join();
  }
  EXPECT_TRUE(std::unique_lock(m, std::chrono::hours::max()).owns_lock());
  EXPECT_TRUE(std::unique_lock(m, std::chrono::sys_seconds::max()).owns_lock());
  EXPECT_TRUE(std::unique_lock(m, std::chrono::sys_seconds::min()).owns_lock());  // it is free
  EXPECT_TRUE(m.lock(stopped()));
  m.unlock();
  EXPECT_TRUE(m.lock_for(-1.5h, stopped()));
  m.unlock();
  EXPECT_TRUE(m.lock_until(steady_clock::now(), stopped()));
  m.unlock();
}

TEST(SharedMutexForms, TakesAnyDurationAndAnyClock) {
  covey::shared_mutex m;
  const std::scoped_lock alone(m);
  std::jthread([&] {
    EXPECT_FALSE(std::shared_lock(m, 0.5ms).owns_lock());
    EXPECT_FALSE(std::shared_lock(m, system_clock::now() + 1ms).owns_lock());
    EXPECT_FALSE(m.lock_shared(stopped()));
    EXPECT_FALSE(m.lock_shared_for(0.5ms));
    EXPECT_FALSE(m.lock_shared_for(std::chrono::hours::max(), stopped()));
    EXPECT_FALSE(m.lock_shared_until(system_clock::now() + 1ms));
    EXPECT_FALSE(m.lock_shared_until(std::chrono::sys_seconds::max(), stopped()));
  }).join();
}

template <class Object>
class Counted : public testing::Test {};
struct a_semaphore : covey::binary_semaphore {
  a_semaphore() : counting_semaphore(1) {}
};
struct a_permit : covey::permits {
  a_permit() : permits(1) {}
};
using counteds = testing::Types<a_semaphore, a_permit>;
TYPED_TEST_SUITE(Counted, counteds);

TYPED_TEST(Counted, TakesAnyDurationAndAnyClock) {
  TypeParam s;
  EXPECT_TRUE(s.acquire(stopped()));  // there is one
  EXPECT_FALSE(s.acquire(stopped()));
  EXPECT_FALSE(s.try_acquire_for(std::chrono::hours::min()));
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
  EXPECT_FALSE(c.wait_until(held, system_clock::now() + 1ms, [] { return false; }));
  EXPECT_FALSE(c.wait_until(held, stopped(), std::chrono::sys_seconds::max(), [] { return false; }));
  EXPECT_FALSE(c.wait(held, stopped(), [] { return false; }));
}

template <class Object>
class OneWay : public testing::Test {};
struct a_latch : covey::latch {
  a_latch() : latch(1) {}
};
using one_ways = testing::Types<covey::event, covey::named_event, a_latch>;
TYPED_TEST_SUITE(OneWay, one_ways);

TYPED_TEST(OneWay, WaitsForAnyDurationAndByAnyClock) {
  const TypeParam object;
  EXPECT_FALSE(object.wait(stopped()));
  EXPECT_FALSE(object.wait_for(0.5ms));
  EXPECT_FALSE(object.wait_for(std::chrono::hours::min()));
  EXPECT_FALSE(object.wait_for(std::chrono::hours::max(), stopped()));
  EXPECT_FALSE(object.wait_until(steady_clock::now()));
  EXPECT_FALSE(object.wait_until(system_clock::now() + 1ms));
  EXPECT_FALSE(object.wait_until(std::chrono::sys_seconds::max(), stopped()));
}

TEST(BarrierForms, WaitsForAnyDurationAndByAnyClock) {
  covey::barrier b(2);
  const auto arrival = b.arrive();
  EXPECT_FALSE(b.wait(arrival, stopped()));
  EXPECT_FALSE(b.wait_for(arrival, 0.5ms));
  EXPECT_FALSE(b.wait_for(arrival, std::chrono::hours::min()));
  EXPECT_FALSE(b.wait_for(arrival, std::chrono::hours::max(), stopped()));
  EXPECT_FALSE(b.wait_until(arrival, system_clock::now() + 1ms));
  EXPECT_FALSE(b.wait_until(arrival, steady_clock::now()));
  EXPECT_FALSE(b.wait_until(arrival, std::chrono::sys_seconds::max(), stopped()));
}

TEST(GuardedForms, TakesAnyDurationAndAnyClock) {
  covey::guarded<int> g(0);
  const auto add = [](int& n) { return ++n; };
  EXPECT_TRUE(g.update(add, stopped()));  // nobody is in the way
  EXPECT_TRUE(g.update_for(0.5ms, add));
  g.update([&](int&) {
    std::jthread([&] {
      EXPECT_FALSE(g.update(add, stopped()));
      EXPECT_FALSE(g.update_for(0.5ms, add));
      EXPECT_FALSE(g.update_for(std::chrono::hours::min(), add));
      EXPECT_FALSE(g.update_for(std::chrono::hours::max(), add, stopped()));
      EXPECT_FALSE(g.update_until(system_clock::now() + 1ms, add));
    }).join();
  });
  EXPECT_EQ(g.load(), 2);
}

// Each sleeps first, and without end; the stop comes while it does, or before: both must end it.
TEST(StopToken, EndsAWaitThatHasNoOtherEnd) {
  covey::mutex m;
  covey::shared_mutex s;
  covey::recursive_mutex r;
  covey::named_mutex n;
  const std::scoped_lock all(m, s, r, n);
  const covey::event e;
  const covey::named_event ne;
  const covey::latch l(1);
  covey::binary_semaphore none(0);
  covey::barrier b(2);
  const auto expect_stop = [](auto wait) {
    std::jthread waits([&](std::stop_token stop) { EXPECT_FALSE(wait(std::move(stop))); });
    std::this_thread::yield();
  };
  expect_stop([&](std::stop_token stop) { return m.lock(stop); });
  expect_stop([&](std::stop_token stop) { return s.lock(stop); });
  expect_stop([&](std::stop_token stop) { return s.lock_shared(stop); });
  expect_stop([&](std::stop_token stop) { return r.lock(stop); });
  expect_stop([&](std::stop_token stop) { return n.lock(stop); });
  expect_stop([&](std::stop_token stop) { return e.wait(stop); });
  expect_stop([&](std::stop_token stop) { return ne.wait(stop); });
  expect_stop([&](std::stop_token stop) { return l.wait(stop); });
  expect_stop([&](std::stop_token stop) { return none.acquire(stop); });
  expect_stop([&](std::stop_token stop) { return b.wait(b.arrive(), stop); });
}

// A duration that is not a number is over.
TEST(InNanoseconds, HoldsWhatNanosecondsCannot) {
  using covey::detail::in_nanoseconds;
  using std::chrono::nanoseconds;
  using seconds = std::chrono::duration<double>;
  using years = std::chrono::duration<long, std::ratio<31'556'952>>;
  EXPECT_EQ(in_nanoseconds(1.5s), 1'500'000'000ns);
  EXPECT_EQ(in_nanoseconds(std::chrono::duration<double, std::nano>(0.1)), 1ns);
  EXPECT_EQ(in_nanoseconds(years::max()), nanoseconds::max());
  EXPECT_EQ(in_nanoseconds(years::min()), nanoseconds::min());
  EXPECT_EQ(in_nanoseconds(seconds(std::numeric_limits<double>::infinity())), nanoseconds::max());
  EXPECT_EQ(in_nanoseconds(seconds(std::numeric_limits<double>::quiet_NaN())), nanoseconds::min());
  EXPECT_EQ(in_nanoseconds(nanoseconds::max()), nanoseconds::max());
  EXPECT_FALSE(covey::detail::deadline_in(years::max()));
  EXPECT_TRUE(covey::detail::deadline_in(nanoseconds::min()));
}

}  // namespace
