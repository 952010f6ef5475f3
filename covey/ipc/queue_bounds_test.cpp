// How many messages wait in a queue, and how many may: also when some come back from the dead.
#include <gtest/gtest.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/latch.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
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

// A process that has taken the first `n` messages, and goes on living.
template <class Queue>
covey::process taker_of(const Queue& q, std::size_t n) {
  const covey::event taken;
  covey::process p{[](Queue in, std::size_t many, covey::event e) {
                     (void)in.get_many(many);
                     e.set();
                     for (;;) ::pause();
                   },
                   q, n, taken};
  taken.wait();
  return p;
}

void kill(covey::process& p) {
  p.kill();
  p.join();
}

// Also by a thread that has not put yet.
template <class Queue>
testing::AssertionResult is_full(const Queue& q, const text& one_more) {
  bool refused_other = false;
  std::thread([&] { refused_other = !q.try_put(one_more); }).join();
  if (!refused_other) return testing::AssertionFailure() << "another thread put one more, " << q.size() << " wait";
  if (q.try_put(one_more)) return testing::AssertionFailure() << "one more was put, " << q.size() << " wait";
  return testing::AssertionSuccess();
}

// Takes all; there are so many of `each` size that `bound` of them fill the queue.
template <class Queue>
void expect_bounded_until_empty(const Queue& q, std::size_t there, std::size_t bound, const text& each) {
  for (; there >= bound; --there) {
    EXPECT_LE(q.size(), std::min(there, q.capacity()));
    EXPECT_TRUE(is_full(q, each)) << there << " are there";
    ASSERT_TRUE(q.try_get().has_value());
    q.task_done();
  }
  EXPECT_EQ(q.size(), there);
  EXPECT_TRUE(q.try_put(each)) << "one place was free";
  EXPECT_TRUE(is_full(q, each));
  for (std::size_t left = bound; left > 0; --left) {
    EXPECT_EQ(q.size(), left);
    ASSERT_TRUE(q.try_get().has_value());
  }
  EXPECT_FALSE(q.try_get().has_value());
}

// Messages come back to a queue that was filled anew, by two threads, after they were taken.
template <class Queue>
void expect_bounded_when_full(const covey::queue_options& options, std::size_t bound, const text& each) {
  const Queue q{options};
  for (std::size_t i = 0; i < bound; ++i) ASSERT_TRUE(q.try_put(each));
  covey::process taker = taker_of(q, 3);
  ASSERT_TRUE(q.try_put(each));
  std::thread([&] {
    EXPECT_TRUE(q.try_put(each));
    EXPECT_TRUE(q.try_put(each));
  }).join();
  EXPECT_TRUE(is_full(q, each));
  kill(taker);
  expect_bounded_until_empty(q, bound + 3, bound, each);
}

// They come back to one whose producers had room, and have not used it.
template <class Queue>
void expect_bounded_when_room_is_left(const covey::queue_options& options, std::size_t bound, const text& each) {
  const Queue q{options};
  for (std::size_t i = 0; i < bound; ++i) ASSERT_TRUE(q.try_put(each));
  covey::process taker = taker_of(q, 3);
  std::jthread other([&] { EXPECT_TRUE(q.try_put(each)); });
  other.join();
  ASSERT_TRUE(q.try_put(each));
  kill(taker);
  expect_bounded_until_empty(q, bound + 2, bound, each);
}

// What a message takes of a queue's bytes: a few more than its text.
template <class Queue>
std::size_t bytes_of(const text& message) {
  for (std::size_t bytes = message.second.size();; ++bytes) try {
      Queue{covey::queue_options{.items = 1, .bytes = bytes}}.put(message);
      return bytes;
    } catch (const std::length_error&) {
    }
}

TYPED_TEST(EachQueueOfTexts, IsNeverFullerThanItsBoundsWhenMessagesComeBack) {
  constexpr std::size_t bound = 8;
  const covey::queue_options by_items{.items = bound, .bytes = 1 << 20};
  const text small{0, "a"}, large{0, std::string(100, 'x')};
  const covey::queue_options by_bytes{.items = 1000, .bytes = bound * bytes_of<TypeParam>(large)};
  expect_bounded_when_full<TypeParam>(by_bytes, bound, large);
  expect_bounded_when_room_is_left<TypeParam>(by_bytes, bound, large);
  expect_bounded_when_full<TypeParam>(by_items, bound, small);
  expect_bounded_when_room_is_left<TypeParam>(by_items, bound, small);
}

// What a lane's owner last saw of it is of before; others may use what is left of the room.
TYPED_TEST(EachQueueOfTexts, IsNeverFullerThanItsBoundsWhenFewMessagesComeBack) {
  constexpr std::size_t items = 16;
  const TypeParam q{covey::queue_options{.items = items, .bytes = 1 << 20}};
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(q.try_put({i, "a"}));
  covey::process taker = taker_of(q, 4);
  ASSERT_TRUE(q.try_put({8, "a"}));
  kill(taker);
  std::size_t there = q.size();
  EXPECT_EQ(there, 9U);
  std::thread([&] {
    while (q.try_put({100, "a"})) ++there;
  }).join();
  while (q.try_put({200, "a"})) ++there;
  EXPECT_EQ(there, items);
  while (q.try_get()) --there;
  EXPECT_EQ(there, 0U);
}

// Consumers die all the time; whoever lives counts what is put and got.
TYPED_TEST(EachQueueOfTexts, IsNeverPutIntoWhenFullWhileConsumersDie) {
  constexpr std::size_t items = 6;
  const TypeParam q{covey::queue_options{.items = items, .bytes = 1 << 20}};
  for (int round = 0; round < 30; ++round) {
    while (q.try_put({round % 3, "a"})) {
    }
    covey::process taker = taker_of(q, 1 + static_cast<std::size_t>(round) % 3);
    std::atomic<std::size_t> put = 0;
    {
      std::vector<std::jthread> producers;
      for (int n = 0; n < 3; ++n)
        producers.emplace_back([&, n](const std::stop_token& stop) {
          while (!stop.stop_requested()) put += q.put_for({n, "b"}, 1ms) ? 1 : 0;
        });
      kill(taker);
      // Whoever looks after the dead first; from then on all is counted.
      (void)q.size();
    }
    std::size_t there = 0;
    while (q.try_get()) ++there;
    EXPECT_LE(there, items + 1 + static_cast<std::size_t>(round) % 3);
    EXPECT_GE(there, items);
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
