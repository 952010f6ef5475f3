// Operations of the queues under one lock, killed at their instructions, also inside the lock. What was committed
// arrives once, in order; what was in the hand of the dead arrives again; there is room for as many as before.
#include <gtest/gtest.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/testing/stepped_queues.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

// Holds 3, 1, 5; the smallest goes first.
struct three {
  covey::priority_queue<int> q{small};
  three() {
    for (const int n : {3, 1, 5}) q.put(n);
  }
};

// Holds 1, 2, 3; the newest goes first.
struct stack {
  covey::lifo_queue<int> q{small};
  stack() {
    for (const int n : {1, 2, 3}) q.put(n);
  }
};

TEST(StepperOrdered, Put) {
  step("priority_queue.put", stepped<three>{.run = [](three& w) { w.q.put(2); },
                                            .check =
                                                [](three& w, const last_process& last) {
                                                  auto all = drain(w.q);
                                                  if (!last.finished && all.size() == 3) all.insert(all.begin() + 1, 2);
                                                  EXPECT_EQ(all, (std::vector{1, 2, 3, 5}));
                                                  expect_whole(w.q);
                                                },
                                            .recover = look<three>});
}

TEST(StepperOrdered, PutOfALargeMessage) {
  struct world {
    covey::lifo_queue<std::string> q{covey::queue_options{.items = 6, .bytes = 64 << 10}};
  };
  step("lifo_queue.put of 5,000 bytes",
       stepped<world>{.run = [](world& w) { w.q.put(std::string(5'000, 'a')); },
                      .check =
                          [](world& w, const last_process& last) {
                            const auto all = drain(w.q);
                            EXPECT_TRUE(all.size() == 1 || (all.empty() && !last.finished));
                            if (!all.empty()) {
                              EXPECT_EQ(all[0], std::string(5'000, 'a'));
                            }
                            for (int i = 0; i < 5; ++i) w.q.put(std::string(12'000, 'b'));
                            EXPECT_EQ(drain(w.q).size(), 5U);
                          },
                      .recover = look<world>});
}

TEST(StepperOrdered, PutThatSleeps) {
  struct world {
    covey::priority_queue<int> q{small};
    world() {
      for (int n = 1; q.try_put(n); ++n) {
      }
    }
  };
  step("priority_queue.put to a full one", stepped<world>{.run = [](world& w) { w.q.put(0); },
                                                          .check =
                                                              [](world& w, const last_process& last) {
                                                                EXPECT_FALSE(last.finished);
                                                                EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3, 4, 5, 6}));
                                                                expect_whole(w.q);
                                                              },
                                                          .warm = [](world& w) { (void)w.q.put_for(7, 1us); }});
}

TEST(StepperOrdered, Get) {
  step("priority_queue.get", stepped<three>{.run = [](three& w) { (void)w.q.get(); },
                                            .check =
                                                [](three& w, const last_process&) {
                                                  EXPECT_EQ(drain(w.q), (std::vector{1, 3, 5}));
                                                  expect_whole(w.q);
                                                },
                                            .recover = look<three>});
  step("lifo_queue.get", stepped<stack>{.run = [](stack& w) { (void)w.q.get(); },
                                        .check =
                                            [](stack& w, const last_process&) {
                                              EXPECT_EQ(drain(w.q), (std::vector{3, 2, 1}));
                                              EXPECT_TRUE(w.q.join_for(1h));
                                            },
                                        .recover = [](stack& w) { (void)w.q.get(); }});
}

TEST(StepperOrdered, GetThatSleeps) {
  struct world {
    covey::priority_queue<int> q{small};
  };
  step("priority_queue.get from an empty one", stepped<world>{.run = [](world& w) { (void)w.q.get(); },
                                                              .check =
                                                                  [](world& w, const last_process& last) {
                                                                    EXPECT_FALSE(last.finished);
                                                                    expect_whole(w.q);
                                                                  },
                                                              .warm = [](world& w) { (void)w.q.get_for(1us); }});
}

TEST(StepperOrdered, TaskDone) {
  step("priority_queue.get+task_done", stepped<three>{.run =
                                                          [](three& w) {
                                                            (void)w.q.get();
                                                            w.q.task_done();
                                                          },
                                                      .check =
                                                          [](three& w, const last_process& last) {
                                                            auto all = drain(w.q);
                                                            if (!last.finished && all.size() == 3)
                                                              all.erase(all.begin());
                                                            EXPECT_EQ(all, (std::vector{3, 5}));
                                                            expect_whole(w.q);
                                                          },
                                                      .recover = look<three>});
}

TEST(StepperOrdered, Close) {
  step("lifo_queue.close(discard)", stepped<stack>{.run = [](stack& w) { w.q.close(covey::close_mode::discard); },
                                                   .check =
                                                       [](stack& w, const last_process& last) {
                                                         EXPECT_TRUE(!last.finished || w.q.closed());
                                                         w.q.close(covey::close_mode::discard);
                                                         EXPECT_EQ(w.q.get(), std::nullopt);
                                                         EXPECT_TRUE(w.q.join_for(1h));
                                                       },
                                                   .recover = look<stack>});
}

TEST(StepperOrdered, ReaderRole) {
  step("priority_queue.reader taken and left",
       reader_role<three>(7, [](const std::vector<int>& all) { return all == std::vector{1, 3, 5, 7}; }));
}

TEST(StepperOrdered, WriterRole) {
  struct empty {
    covey::lifo_queue<int> q{small};
  };
  step("lifo_queue.writer taken and left", writer_role<empty>());
}

}  // namespace
