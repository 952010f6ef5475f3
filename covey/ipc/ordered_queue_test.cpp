// Queues in another order: that order, and that who uses them and dies loses and doubles nothing, and who is stopped
// hinders nobody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/random_kills.hpp>

#include <algorithm>
#include <atomic>
#include <latch>
#include <limits>
#include <map>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

template <class Queue>
std::vector<typename Queue::value_type> drain(const Queue& q) {
  std::vector<typename Queue::value_type> all;
  while (auto v = q.try_get()) all.push_back(std::move(*v));
  return all;
}

// ---- order ---------------------------------------------------------------------------------------------------------

TEST(LifoQueue, GivesTheNewestFirst) {
  const covey::lifo_queue<int> q;
  for (const int n : {1, 2, 3}) q.put(n);
  EXPECT_EQ(q.get(), 3);
  q.put(4);
  EXPECT_THAT(drain(q), ElementsAre(4, 2, 1));
}

TEST(PriorityQueue, GivesTheSmallestFirstAsPythonDoes) {
  const covey::priority_queue<int> q;
  for (const int n : {5, -1, 3, std::numeric_limits<int>::min(), 0}) q.put(n);
  EXPECT_THAT(drain(q), ElementsAre(std::numeric_limits<int>::min(), -1, 0, 3, 5));
}

TEST(PriorityQueue, GivesTheGreatestFirstWithTheCompareOfStd) {
  const covey::priority_queue<int, std::less<>> q;
  for (const int n : {5, -1, 3}) q.put(n);
  EXPECT_THAT(drain(q), ElementsAre(5, 3, -1));
}

TEST(PriorityQueue, KeepsTheOrderOfThoseWithTheSamePriority) {
  const covey::priority_queue<std::string> q;
  for (const auto* text : {"b1", "a1", "c1", "a2", "b2", "a3"}) q.put(text, text[0]);
  EXPECT_THAT(drain(q), ElementsAre("a1", "a2", "a3", "b1", "b2", "c1"));
}

struct job {
  std::string name;
  double priority = 0;
};

TEST(PriorityQueue, KnowsThePriorityOfAValueWithOneOfItsOwn) {
  const covey::priority_queue<job> jobs;
  for (const double p : {0.5, -2.0, 1e300, -0.0, 0.0, -std::numeric_limits<double>::infinity()})
    jobs.put(job{std::to_string(p), p});
  std::vector<double> order;
  for (const job& j : drain(jobs)) order.push_back(j.priority);
  EXPECT_THAT(order, ElementsAre(-std::numeric_limits<double>::infinity(), -2.0, 0.0, 0.0, 0.5, 1e300));
  EXPECT_THROW(jobs.put(job{"", std::numeric_limits<double>::quiet_NaN()}), std::invalid_argument);

  const covey::priority_queue<std::pair<unsigned, std::string>> pairs;
  for (const unsigned n : {3U, ~0U, 1U}) pairs.put({n, "x"});
  std::vector<unsigned> numbers;
  for (const auto& [n, text] : drain(pairs)) numbers.push_back(n);
  EXPECT_THAT(numbers, ElementsAre(1U, 3U, ~0U));
}

// Who has got 4 is on his way along the list, over the many that another has in hand, when 5 and then 9 are put.
TEST(PriorityQueue, GivesWhatWasPutBeforeAndGoesBefore) {
  constexpr int rounds = 5000, in_hand = 5000;
  const covey::priority_queue<int> q(in_hand);
  std::latch full{2}, done{2};
  std::atomic<int> got{0};
  const auto wait_for = [&](int n) {
    while (got != n) std::this_thread::yield();
  };
  std::thread holder([&] {
    full.arrive_and_wait();
    EXPECT_EQ(q.get_many(in_hand).size(), in_hand);
    ++got;
    done.arrive_and_wait();
  });
  std::thread putter([&] {
    for (int n = 0; n < in_hand; ++n) q.put(7);
    full.arrive_and_wait();
    wait_for(1);
    std::mt19937 random(3);
    for (int n = 0; n < rounds; ++n) {
      q.put(4);
      wait_for(3 * n + 2);
      const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 60);
      while (std::chrono::steady_clock::now() < until) {
      }
      q.put(5);
      q.put(9);
      wait_for(3 * n + 4);
    }
  });
  wait_for(1);
  std::vector<int> all;
  for (int n = 0; n < 3 * rounds; ++n) {
    all.push_back(*q.get());
    ++got;
  }
  putter.join();
  done.arrive_and_wait();
  holder.join();
  for (int n = 0; n < 3 * rounds; n += 3)
    ASSERT_THAT((std::vector{all[n], all[n + 1], all[n + 2]}), ElementsAre(4, 5, 9)) << n;
}

TEST(PriorityQueue, ShowsInOrderWhatWasWrittenInPlace) {
  const covey::priority_queue<std::vector<int>> q;
  for (const int n : {2, 3, 1}) {
    auto written = q.loan(1000);
    std::ranges::fill(written, n);
    q.publish(std::move(written), n);
  }
  q.put(std::vector<int>(10, 0), 0);
  for (const int n : {0, 1, 2, 3}) {
    const auto view = q.get_view();
    ASSERT_TRUE(view);
    EXPECT_TRUE(std::ranges::all_of(*view, [&](int m) { return m == n; }));
  }
  EXPECT_TRUE(q.join_for(1h));
}

TEST(PriorityQueue, IsAHeapForManyAtRandom) {
  const covey::priority_queue<std::pair<int, int>> q{5000};
  std::mt19937 random(1);
  std::multimap<int, int> model;  // keeps the order of equal ones
  for (int i = 0; i < 30'000; ++i) {
    if (model.size() < 5000 && random() % 5 < 3) {
      const int p = static_cast<int>(random() % 50);
      q.put({p, i});
      model.emplace(p, i);
    } else if (const auto got = q.try_get()) {
      ASSERT_EQ(*got, (std::pair<int, int>(*model.begin())));
      model.erase(model.begin());
    }
  }
  EXPECT_EQ(q.size(), model.size());
}

// ---- the interface of queue ----------------------------------------------------------------------------------------

template <class Queue>
class OrderedQueue : public ::testing::Test {};
using both = ::testing::Types<covey::lifo_queue<int>, covey::priority_queue<int>>;
TYPED_TEST_SUITE(OrderedQueue, both);

TYPED_TEST(OrderedQueue, IsBoundedAndSaysSo) {
  const TypeParam q{2};
  EXPECT_EQ(q.capacity(), 2U);
  EXPECT_TRUE(q.try_put(1));
  EXPECT_TRUE(q.put_for(1, 1ms));
  EXPECT_FALSE(q.try_put(1));
  EXPECT_FALSE(q.put_for(1, 1ms));
  EXPECT_EQ(q.size(), 2U);
  EXPECT_EQ(q.size_approx(), 2U);
  EXPECT_EQ(q.get(), 1);
  EXPECT_TRUE(q.try_put(1));
  EXPECT_EQ(q.get_many(10).size(), 2U);
  EXPECT_EQ(q.get_for(1ms), std::nullopt);
  EXPECT_EQ(q.get_many_for(5, 1ms).size(), 0U);
  const std::vector many{1, 2, 3};
  EXPECT_EQ(q.try_put_many(many), 2U);
}

TYPED_TEST(OrderedQueue, RefusesNothingForWhichThereIsRoom) {
  for (int round = 0; round < 200; ++round) {
    const TypeParam q(4);
    std::atomic<int> refused{0};
    const auto put_two = [&] {
      for (int n = 0; n < 2; ++n) refused += q.try_put(n) ? 0 : 1;
    };
    std::thread other(put_two);
    put_two();
    other.join();
    ASSERT_EQ(refused, 0) << round;
  }
}

TYPED_TEST(OrderedQueue, ClosesForAll) {
  const TypeParam q;
  q.put(1);
  q.close();
  EXPECT_TRUE(q.closed());
  EXPECT_THROW(q.put(2), covey::queue_closed);
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(q.get(), std::nullopt);
  const TypeParam discarded;
  discarded.put(1);
  discarded.close(covey::close_mode::discard);
  EXPECT_EQ(discarded.get(), std::nullopt);
  discarded.join();
}

TYPED_TEST(OrderedQueue, JoinsWhenAllIsDone) {
  const TypeParam q;
  q.put(1);
  q.put(2);
  EXPECT_FALSE(q.join_for(0ms));
  EXPECT_EQ(q.get_many(2).size(), 2U);
  q.task_done();
  EXPECT_FALSE(q.join_for(0ms));
  std::jthread waiting([&] { q.join(); });
  q.task_done();
  waiting.join();
  EXPECT_THROW(q.task_done(), std::logic_error);
}

TYPED_TEST(OrderedQueue, IsWorkOfSeveralProcesses) {
  const TypeParam q{16};
  const covey::queue<int> sums;
  std::vector<covey::process> workers;
  for (int i = 0; i < 3; ++i)
    workers.emplace_back(
        [](covey::reader_of<TypeParam> in, covey::queue<int> out) {
          int sum = 0;
          while (const auto n = in.get()) sum += *n;
          out.put(sum);
        },
        q.reader(), sums);
  int expected = 0;
  for (int i = 0; i < 3000; ++i) expected += (q.put(i), i);
  q.close();
  int sum = 0;
  for (int i = 0; i < 3; ++i) sum += sums.get().value();
  EXPECT_EQ(sum, expected);
}

TEST(LifoQueue, CarriesAnythingOfAnySize) {
  const covey::lifo_queue<std::string> texts{covey::queue_options{.items = 8, .bytes = 1U << 20}};
  std::vector<std::string> put;
  for (const std::size_t size : {0UL, 1UL, 240UL, 248UL, 249UL, 5'000UL, 500'000UL}) {
    put.emplace_back(size, static_cast<char>('a' + size % 26));
    texts.put(put.back());
  }
  EXPECT_FALSE(texts.try_put(std::string(600'000, 'x')));  // bytes
  EXPECT_THROW(texts.put(std::string(1U << 20, 'x')), std::length_error);
  EXPECT_EQ(drain(texts), std::vector(put.rbegin(), put.rend()));
  const covey::lifo_queue<std::pair<std::string, covey::event>> handles;
  const covey::event e;
  handles.put({"event", e});
  handles.get().value().second.set();
  EXPECT_TRUE(e.is_set());
}

TEST(LifoQueue, IsNoQueueOfAnotherOrder) {
  const covey::lifo_queue<int> q;
  covey::detail::encoder out;
  q.encode_handle(out);
  covey::detail::decoder in{out.bytes};
  EXPECT_THROW((void)covey::queue<int>::decode_handle(in), covey::bad_message);
}

// ---- death ---------------------------------------------------------------------------------------------------------

template <class Queue>
void get_and_die(const Queue& q, std::size_t n = 1) {
  covey::process{[](Queue in, std::size_t many) {
                   (void)in.get_many(many);
                   ::kill(::getpid(), SIGKILL);
                 },
                 q, n}
      .join();
}

TEST(OrderedQueueDeath, RedeliversToTheOldPlace) {
  const covey::priority_queue<int> q;
  for (const int n : {1, 2, 3}) q.put(n);
  get_and_die(q, 2);
  q.put(0);
  EXPECT_THAT(drain(q), ElementsAre(0, 1, 2, 3));
  const covey::lifo_queue<int> stack;
  for (const int n : {1, 2, 3}) stack.put(n);
  get_and_die(stack, 2);
  stack.put(4);
  EXPECT_EQ(stack.get_delivery().value().deliveries, 1U);
  EXPECT_EQ(stack.get_delivery().value().deliveries, 2U);
  EXPECT_THAT(drain(stack), ElementsAre(2, 1));
}

TEST(OrderedQueueDeath, FailsOrDropsByPolicy) {
  const covey::lifo_queue<int> fails{covey::queue_options{.on_death = covey::in_flight_policy::fail}};
  fails.put(1);
  get_and_die(fails);
  EXPECT_EQ(fails.try_get(), std::nullopt);
  fails.join();
  EXPECT_EQ(fails.failed(), 1U);
  EXPECT_EQ(fails.get_failed().value().value, 1);
  EXPECT_EQ(fails.failed(), 0U);
  const covey::lifo_queue<int> drops{covey::queue_options{.on_death = covey::in_flight_policy::drop}};
  drops.put(1);
  get_and_die(drops);
  EXPECT_EQ(drops.try_get(), std::nullopt);
  EXPECT_EQ(drops.failed(), 0U);
  const covey::lifo_queue<int> thrice{covey::queue_options{.deliveries_max = 3}};
  thrice.put(13);
  for (int i = 0; i < 3; ++i) get_and_die(thrice);
  EXPECT_EQ(thrice.try_get(), std::nullopt);
  EXPECT_EQ(thrice.get_failed().value().value, 13);
}

TEST(OrderedQueueDeath, IsSeenByTheOtherRole) {
  const covey::priority_queue<int> q{1};
  covey::process reader{[](covey::reader_of<covey::priority_queue<int>> in) {
                          (void)in.get();
                          ::kill(::getpid(), SIGKILL);
                        },
                        q.reader()};
  EXPECT_THROW(
      {
        for (;;) q.put(1);
      },
      covey::no_consumers);
  const covey::priority_queue<int> other;
  covey::process writer{[](covey::writer_of<covey::priority_queue<int>> out) {
                          out.put(5);
                          ::kill(::getpid(), SIGKILL);
                        },
                        other.writer()};
  EXPECT_EQ(other.get(), 5);
  EXPECT_THROW((void)other.get(), covey::no_producers);
}

TEST(OrderedQueueDeath, LosesNothingUnderRandomKills) {
  covey::testing::lose_nothing_under<covey::priority_queue<covey::testing::parcel>>(300);
  covey::testing::lose_nothing_under<covey::lifo_queue<covey::testing::parcel>>(300);
}

TEST(OrderedQueueDeath, LeavesTheSameQueueUsableAfterManyKills) {
  const covey::lifo_queue<int> q{16};
  std::mt19937 random(11);
  for (int i = 0; i < 150; ++i) {
    covey::process a{covey::process_options{.daemon = true},
                     [](covey::lifo_queue<int> out) {
                       for (int n = 0;; ++n) out.put(n);
                     },
                     q};
    covey::process b{covey::process_options{.daemon = true},
                     [](covey::lifo_queue<int> in) {
                       while (in.get()) {
                       }
                     },
                     q};
    std::this_thread::sleep_for(std::chrono::microseconds(500 + random() % 1500));
  }
  drain(q);
  q.join();
  // All capacity is there: nothing leaked into being put or in flight.
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(q.try_put(i)) << i;
  EXPECT_FALSE(q.try_put(16));
  for (int i = 15; i >= 0; --i) EXPECT_EQ(q.get(), i);
}

// ---- who is stopped ------------------------------------------------------------------------------------------------

// Whatever it is doing when it is stopped, the others put and get without a limit.
TEST(OrderedQueueStopped, HindersNobody) {
  static constexpr int of_the_stopped = -1;
  std::mt19937 random(5);
  const covey::priority_queue<int> q(16);
  covey::process busy{covey::process_options{.daemon = true},
                      [](covey::priority_queue<int> mine) {
                        for (;;) {
                          (void)mine.try_put(of_the_stopped);
                          (void)mine.try_get();
                        }
                      },
                      q};
  for (int round = 0; round < 100; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    ASSERT_EQ(::kill(busy.pid(), SIGSTOP), 0);
    for (int n = 0; n < 5; ++n) q.put(n);
    for (int n = 0; n < 5;) {
      const auto got = q.get();
      ASSERT_TRUE(got);
      n += *got != of_the_stopped ? 1 : 0;
    }
    (void)q.size();
    ASSERT_EQ(::kill(busy.pid(), SIGCONT), 0);
  }
  busy.kill();
  (void)busy.join();
  drain(q);
  EXPECT_TRUE(q.join_for(1h));
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(q.try_put(i)) << i;
  EXPECT_FALSE(q.try_put(16));
}

}  // namespace
