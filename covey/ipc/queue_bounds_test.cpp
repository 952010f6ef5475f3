// How many messages wait in a queue, and how many may, while everybody lives.
#include <gtest/gtest.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/latch.hpp>

#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

template <class Queue>
class EachQueue : public testing::Test {};
using queues_of_numbers =
    testing::Types<covey::queue<std::size_t>, covey::priority_queue<std::size_t>, covey::lifo_queue<std::size_t>>;
TYPED_TEST_SUITE(EachQueue, queues_of_numbers);

// Each puts one and takes one, so that at any instant there are as many as at first, or up to one more for each.
template <class Queue>
void put_and_get_until(const Queue& q, std::size_t message, const auto& stopped) {
  while (!stopped()) {
    q.put(message);
    (void)q.get();
  }
}

template <class Queue>
void expect_exact_counts(const Queue& q, std::size_t kept, std::size_t workers) {
  for (int i = 0; i < 2000; ++i) {
    const std::size_t size = q.size();
    ASSERT_GE(size, kept);
    ASSERT_LE(size, kept + workers);
  }
}

TYPED_TEST(EachQueue, CountsExactlyWhileOthersPutAndGet) {
  constexpr std::size_t kept = 20, workers = 4;
  const TypeParam q{64};
  for (std::size_t i = 0; i < kept; ++i) q.put(i);
  std::vector<std::jthread> threads;
  for (std::size_t n = 0; n < workers; ++n)
    threads.emplace_back(
        [&, n](const std::stop_token& stop) { put_and_get_until(q, n, [&] { return stop.stop_requested(); }); });
  expect_exact_counts(q, kept, workers);
}

// The counts of processes lie in lanes of their own.
TYPED_TEST(EachQueue, CountsExactlyWhileOtherProcessesPutAndGet) {
  constexpr std::size_t kept = 20, workers = 4;
  const TypeParam q{64};
  for (std::size_t i = 0; i < kept; ++i) q.put(i);
  covey::event stop;
  const covey::latch all_there{workers};
  std::vector<covey::process> processes;
  for (std::size_t n = 0; n < workers; ++n)
    processes.emplace_back(
        [](TypeParam there, std::size_t message, covey::event stopped, covey::latch l) {
          l.count_down();
          put_and_get_until(there, message, [&] { return stopped.is_set(); });
        },
        q, n, stop, all_there);
  all_there.wait();
  expect_exact_counts(q, kept, workers);
  stop.set();
  for (auto& p : processes) EXPECT_TRUE(p.join().success());
  EXPECT_EQ(q.size(), kept);
}

// By items as by bytes, whoever's quota it is.
template <class Queue>
class EachQueueOfTexts : public testing::Test {};
using text = std::pair<int, std::string>;  // the number is its priority
using queues_of_texts = testing::Types<covey::queue<text>, covey::priority_queue<text>, covey::lifo_queue<text>>;
TYPED_TEST_SUITE(EachQueueOfTexts, queues_of_texts);

TYPED_TEST(EachQueueOfTexts, IsNeverFullerThanItsBounds) {
  constexpr std::size_t items = 10, bytes = 1000;
  const TypeParam by_items{covey::queue_options{.items = items, .bytes = 1 << 20}};
  const TypeParam by_bytes{covey::queue_options{.items = 1000, .bytes = bytes}};
  std::vector<std::jthread> threads;
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&, n](const std::stop_token& stop) {
      for (std::size_t i = 0; !stop.stop_requested(); ++i) {
        (void)by_items.put_for({n, "a"}, 1ms);
        (void)by_bytes.put_for({n, std::string(100, 'x')}, 1ms);
        if (i % 3 != 0) continue;
        (void)by_items.try_get();
        (void)by_bytes.try_get();
      }
    });
  for (int i = 0; i < 500; ++i) {
    ASSERT_LE(by_items.size(), items);
    ASSERT_LE(by_bytes.size(), bytes / 100);
  }
}

TEST(Queue, SeveralProducersShareItsBounds) {
  const covey::queue<std::string> q{covey::queue_options{.items = 10, .bytes = 10'000}};
  const auto put = [&](std::size_t bytes) { return q.try_put(std::string(bytes, 'x')); };
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(put(10));
  std::thread([&] { EXPECT_FALSE(put(10)); }).join();
  (void)q.get_many(10);
  std::thread([&] {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(put(10));
    EXPECT_FALSE(put(10));
  }).join();
  EXPECT_FALSE(put(10));
  (void)q.get_many(10);
  ASSERT_TRUE(put(9'000));
  std::thread([&] {
    EXPECT_FALSE(put(1'000));
    EXPECT_TRUE(put(900));
  }).join();
  EXPECT_EQ(q.size(), 2U);
}

}  // namespace
