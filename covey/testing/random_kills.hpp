/// @file
/// For tests of queues: producers and consumers are killed at random, and every message is accounted for.
#pragma once

#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/process/process.hpp>

#include <chrono>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace covey::testing {

/// A message of any size that says which it is.
struct parcel {
  int producer = 0;                   ///< a number that no other producer has
  int sequence = 0;                   ///< the how manieth of it
  std::string padding;                ///< up to 9,000 bytes
  [[maybe_unused]] int priority = 0;  ///< for queues that look at it
};

/// Puts parcels until it is killed. Reports each put that returned: those are the committed ones.
template <class Queue>
void produce(Queue out, int me, queue<std::pair<int, int>> committed) {
  std::mt19937 random(static_cast<unsigned>(me));
  for (int i = 0;; ++i) {
    out.put({me, i, std::string(random() % 3 == 0 ? random() % 9000 : random() % 100, 'x'),
             static_cast<int>(random() % 5)});
    committed.put({me, i});
  }
}

/// Reports each parcel that it got, until the end.
template <class Queue>
void consume(Queue in, queue<std::pair<int, int>> consumed) {
  while (auto p = in.get()) consumed.put({p->producer, p->sequence});
}

/// Two producers and two consumers of a Queue of parcels, one of which is killed and replaced `kills` times: nothing
/// committed is lost, nothing comes twice but what was in a dead hand, and the consumers see the end.
template <class Queue>
void lose_nothing_under(int kills) {
  const Queue q{queue_options{.items = 128, .bytes = 1U << 20}};
  const queue<std::pair<int, int>> committed{4096};
  const queue<std::pair<int, int>> consumed{4096};
  std::map<std::pair<int, int>, int> put;
  std::map<std::pair<int, int>, int> got;
  std::jthread count_put([&] {
    while (auto m = committed.get()) ++put[*m];
  });
  std::jthread count_got([&] {
    while (auto m = consumed.get()) ++got[*m];
  });
  std::mt19937 random(7);
  int next_producer = 0;
  const auto producer = [&] {
    return process{process_options{.daemon = true}, produce<Queue>, q, next_producer++, committed};
  };
  const auto consumer = [&] { return process{process_options{.daemon = true}, consume<Queue>, q, consumed}; };
  std::vector<process> producers;
  std::vector<process> consumers;
  for (int i = 0; i < 2; ++i) {
    producers.push_back(producer());
    consumers.push_back(consumer());
  }
  for (int i = 0; i < kills; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    const bool kill_producer = random() % 2 == 0;
    auto& victim = (kill_producer ? producers : consumers)[random() % 2];
    victim.kill();
    victim = kill_producer ? producer() : consumer();
  }
  producers.clear();
  q.join();
  q.close();
  for (auto& c : consumers) EXPECT_EQ(c.join().code(), 0);
  committed.close();
  consumed.close();
  count_put.join();
  count_got.join();
  int lost = 0;
  int doubled = 0;
  for (const auto& [key, n] : put) lost += got.contains(key) ? 0 : 1;
  for (const auto& [key, n] : got) doubled += n - 1;
  EXPECT_EQ(lost, 0) << "of " << put.size();
  EXPECT_LE(doubled, kills) << "at most one message is in the hand of each dead consumer";
  EXPECT_GT(put.size(), 1000U);
  // A producer that died between its put and its report has one message more than it reported.
  EXPECT_LE(got.size(), put.size() + static_cast<std::size_t>(next_producer));
}

}  // namespace covey::testing
