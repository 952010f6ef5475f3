// Each wait in each form that std has for it, through std's own guards where they call it: any clock, any duration,
// also such that nanoseconds cannot hold.
#include <gtest/gtest.h>
#include <covey/sync/barrier.hpp>
#include <covey/sync/condition_variable.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/named_mutex.hpp>
#include <covey/sync/once.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/sync/shared_mutex.hpp>

#include <latch>
#include <limits>
#include <mutex>
#include <shared_mutex>
#include <stop_token>
#include <thread>
#include <vector>

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

// A thread that ended as the owner is dead.
TYPED_TEST(TimedMutex, IsRecoveredWithAnEndToTheWait) {
  using covey::recovery;
  TypeParam m;
  const auto never = [] { ADD_FAILURE() << "repaired what is another's"; };
  std::unique_lock held(m);
  std::jthread([&] {
    EXPECT_EQ(m.recover_for(0.5ms, never), recovery::not_in_time);
    EXPECT_EQ(m.recover_for(std::chrono::hours::max(), never, stopped()), recovery::not_in_time);
    EXPECT_EQ(m.recover_until(system_clock::now() + 1ms, never), recovery::not_in_time);
    EXPECT_EQ(m.recover_until(std::chrono::sys_seconds::max(), never, stopped()), recovery::not_in_time);
    EXPECT_EQ(m.recover(never, stopped()), recovery::not_in_time);
  }).join();
  held.unlock();
  EXPECT_EQ(m.recover(never, stopped()), recovery::was_whole);
  EXPECT_EQ(m.recover_for(1h, never), recovery::was_whole);
  EXPECT_EQ(m.recover_until(steady_clock::now(), never), recovery::was_whole);

  std::jthread([&] { m.lock(); }).join();
  EXPECT_THROW((void)m.recover_for(1h, [] { throw std::logic_error("no"); }), std::logic_error);
  EXPECT_THROW((void)m.try_lock(), covey::owner_died);
  int repairs = 0;
  EXPECT_EQ(m.recover_for(0ns, [&] { ++repairs; }), recovery::repaired);
  EXPECT_EQ(m.recover([&] { ++repairs; }, stopped()), recovery::was_whole);
  EXPECT_EQ(repairs, 1);
  EXPECT_TRUE(std::unique_lock(m, std::try_to_lock).owns_lock());
}

TEST(SharedMutexForms, IsNotRecoveredWhileItIsRead) {
  covey::shared_mutex m;
  const std::shared_lock read(m);
  std::jthread([&] {
    EXPECT_EQ(m.recover_for(0.5ms, [] {}), covey::recovery::not_in_time);
    EXPECT_TRUE(m.try_lock_shared());  // it is out of the way again
    m.unlock_shared();
  }).join();
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

TEST(PermitForms, TakesAnyDurationAndAnyClock) {
  const covey::permits one(1);
  {
    const covey::permit owned(one, std::chrono::hours::max());
    EXPECT_TRUE(owned);
    EXPECT_FALSE(covey::permit(one, stopped()));
    EXPECT_FALSE(covey::permit(one, 0.5ms));
    EXPECT_FALSE(covey::permit(one, std::chrono::hours::max(), stopped()));
    EXPECT_FALSE(covey::permit(one, system_clock::now() + 1ms));
    EXPECT_FALSE(covey::permit(one, std::chrono::sys_seconds::max(), stopped()));
  }
  EXPECT_TRUE(covey::permit(one, stopped()));
  EXPECT_TRUE(covey::permit(one, steady_clock::now()));
  EXPECT_EQ(one.available_approx(), 1);
}

TEST(OnceForms, TakesAnyDurationAndAnyClock) {
  const covey::once_flag flag;
  const auto never = [] { ADD_FAILURE() << "ran beside another"; };
  covey::call_once(flag, [&] {
    std::jthread([&] {
      EXPECT_FALSE(covey::call_once(flag, stopped(), never));
      EXPECT_FALSE(covey::call_once_for(flag, 0.5ms, never));
      EXPECT_FALSE(covey::call_once_for(flag, std::chrono::hours::min(), never));
      EXPECT_FALSE(covey::call_once_until(flag, system_clock::now() + 1ms, never));
    }).join();
  });
  EXPECT_TRUE(covey::call_once(flag, stopped(), never));
  EXPECT_TRUE(covey::call_once_for(flag, std::chrono::hours::min(), never));
  const covey::once_flag other;
  int ran = 0;
  EXPECT_TRUE(covey::call_once_for(other, 0ns, [&](int n) { ran += n; }, 3));
  EXPECT_TRUE(covey::call_once_until(other, steady_clock::now(), [&](int n) { ran += n; }, 3));
  EXPECT_EQ(ran, 3);
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

// Each party is a thread; the last comes when the others have given up.
TEST(BarrierForms, ArrivesAndWaitsForAnyDurationAndByAnyClock) {
  covey::barrier b(6);
  std::latch given_up(5);
  std::latch over(1);
  std::vector<std::jthread> parties;  // ends first
  const auto party = [&](auto arrive) {
    parties.emplace_back([&, arrive] {
      EXPECT_FALSE(arrive());
      given_up.count_down();
      over.wait();  // ending would be a death
    });
  };
  party([&] { return b.arrive_and_wait(stopped()); });
  party([&] { return b.arrive_and_wait_for(0.5ms); });
  party([&] { return b.arrive_and_wait_for(std::chrono::hours::max(), stopped()); });
  party([&] { return b.arrive_and_wait_until(system_clock::now() + 1ms); });
  party([&] { return b.arrive_and_wait_until(std::chrono::sys_seconds::max(), stopped()); });
  given_up.wait();
  EXPECT_TRUE(b.arrive_and_wait_for(std::chrono::hours::max()));  // the arrivals stood
  over.count_down();
}

TEST(LatchForms, ArrivesAndWaitsForAnyDurationAndByAnyClock) {
  covey::latch l(6);
  EXPECT_FALSE(l.arrive_and_wait(stopped()));
  EXPECT_FALSE(l.arrive_and_wait_for(0.5ms));
  EXPECT_FALSE(l.arrive_and_wait_for(std::chrono::hours::max(), stopped()));
  EXPECT_FALSE(l.arrive_and_wait_until(system_clock::now() + 1ms));
  EXPECT_FALSE(l.arrive_and_wait_until(std::chrono::sys_seconds::max(), stopped()));
  EXPECT_TRUE(l.arrive_and_wait(stopped()));  // the counts stood
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
      EXPECT_FALSE(g.store(7, stopped()));
      EXPECT_FALSE(g.store_for(0.5ms, 7));
      EXPECT_FALSE(g.store_until(system_clock::now() + 1ms, 7));
    }).join();
  });
  EXPECT_EQ(g.load(), 2);
  EXPECT_TRUE(g.store(3, stopped()));
  EXPECT_TRUE(g.store_for(0.5ms, 4));
  EXPECT_TRUE(g.store_until(steady_clock::now(), 5));
  EXPECT_EQ(g.load(), 5);
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
  expect_stop([](std::stop_token stop) { return covey::barrier(2).arrive_and_wait(stop); });
  expect_stop([](std::stop_token stop) { return covey::latch(2).arrive_and_wait(stop); });
  const auto recovers = [&](auto& mutex, std::stop_token stop) {
    return mutex.recover([] {}, std::move(stop)) != covey::recovery::not_in_time;
  };
  expect_stop([&](std::stop_token stop) { return recovers(m, stop); });
  expect_stop([&](std::stop_token stop) { return recovers(s, stop); });
  expect_stop([&](std::stop_token stop) { return recovers(r, stop); });
  expect_stop([&](std::stop_token stop) { return recovers(n, stop); });
  const covey::once_flag flag;
  covey::call_once(flag,
                   [&] { expect_stop([&](std::stop_token stop) { return covey::call_once(flag, stop, [] {}); }); });
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
