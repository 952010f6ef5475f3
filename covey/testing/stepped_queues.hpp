/// @file
/// What the steppers of all queues ask alike.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <covey/ipc/queue_ends.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/testing/stepper.hpp>
#include <vector>

namespace covey::testing {

/// Small enough to be filled in a test.
inline constexpr queue_options small{.items = 6, .bytes = 4096};

/// All that is there, acknowledged.
template <class Queue>
auto drain(const Queue& q) {
  const std::size_t size = q.size();
  std::vector<typename Queue::value_type> all;
  while (auto message = q.try_get()) {
    all.push_back(std::move(*message));
    q.task_done();
  }
  EXPECT_EQ(all.size(), size);
  return all;
}

/// As much room as in a small one that is new, and what is put in rising order comes so; not for lifo_queue.
template <class Queue>
void expect_whole(const Queue& q) {
  drain(q);
  std::vector<int> put;
  for (int n = 100; q.try_put(n); ++n) put.push_back(n);
  EXPECT_EQ(put.size(), small.items);
  EXPECT_EQ(drain(q), put);
  EXPECT_TRUE(q.join_for(std::chrono::hours(1)));
}

/// Recovers on its way.
template <class World>
void look(World& w) {
  (void)w.q.size();
}

/// Takes and leaves the role of a reader of World::q, of numbers. A role that nobody took is not lost; one that was
/// taken and is lost is seen: nobody can put `one_more`. `is_all`: whether a vector has what was there at first, and
/// it.
template <class World, class IsAll>
stepped<World> reader_role(int one_more, const IsAll& is_all) {
  return {.run = [](World& w) { (void)w.q.reader().try_get(); },
          .check =
              [one_more, is_all](World& w, const last_process& last) {
                bool lost = false;
                try {
                  w.q.put(one_more);
                } catch (const no_consumers&) {
                  lost = true;
                }
                EXPECT_TRUE(lost || !last.returned);
                auto all = drain(w.q);
                if (lost) all.push_back(one_more);
                EXPECT_TRUE(is_all(all)) << ::testing::PrintToString(all);
                const auto again = w.q.reader();
                (void)again.try_get();
                w.q.put(5);
                EXPECT_EQ(again.get(), 5);
                again.task_done();
              },
          .recover = look<World>};
}

/// Takes the role of a writer of World::q, which is empty, puts 1, and leaves it.
template <class World>
stepped<World> writer_role() {
  return {.run = [](World& w) { w.q.writer().put(1); },
          .check =
              [](World& w, const last_process& last) {
                std::size_t got = 0;
                try {
                  for (; w.q.try_get(); ++got) w.q.task_done();
                } catch (const no_producers&) {
                }
                EXPECT_LE(got, 1U);
                EXPECT_TRUE(got == 1 || !last.returned);
                // Who put had the role, and is gone: get() does not wait.
                EXPECT_TRUE(got == 0 || wait_any_for(std::chrono::seconds(10), w.q));
              },
          .recover = look<World>};
}

}  // namespace covey::testing
