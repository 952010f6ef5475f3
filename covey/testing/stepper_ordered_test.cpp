// Operations of the queues that go by rank, killed or stopped at their instructions. What was committed arrives once,
// in order; what was in the hand of the dead arrives again; there is room for as many as before.
#include <gtest/gtest.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/testing/stepped_queues.hpp>

#include <algorithm>
#include <functional>
#include <thread>

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
                                                  if (!last.returned && all.size() == 3) all.insert(all.begin() + 1, 2);
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
                            EXPECT_TRUE(all.size() == 1 || (all.empty() && !last.returned));
                            if (!all.empty()) {
                              EXPECT_EQ(all[0], std::string(5'000, 'a'));
                            }
                            for (int i = 0; i < 5; ++i) w.q.put(std::string(12'000, 'b'));
                            EXPECT_EQ(drain(w.q).size(), 5U);
                          },
                      .recover = look<world>,
                      .brief = true});
}

// ---- written in place ----------------------------------------------------------------------------------------------

constexpr covey::queue_options roomy{.items = 6, .bytes = 16 << 10};
constexpr std::size_t large = 100;  // numbers: more than lies in a slot
using numbers = std::vector<int>;

void put(const covey::priority_queue<numbers>& q, const numbers& message) {
  EXPECT_TRUE(q.put_for(message, message[0], 20s));
}
void put(const covey::lifo_queue<numbers>& q, const numbers& message) { EXPECT_TRUE(q.put_for(message, 20s)); }

void publish(const covey::priority_queue<numbers>& q, covey::loaned<numbers>& written) { q.publish(written, 1); }
void publish(const covey::lifo_queue<numbers>& q, covey::loaned<numbers>& written) { q.publish(written); }

// One message is there already, which is got after the new one.
template <class Queue>
struct one_text {
  Queue q{roomy};
  one_text() { put(q, numbers(large, 2)); }
};

// The ends of each message.
std::vector<std::pair<int, int>> ends_of(const std::vector<numbers>& all) {
  std::vector<std::pair<int, int>> ends;
  for (const numbers& n : all) ends.emplace_back(n.front(), n.back());
  return ends;
}

template <class Queue>
void step_loan(const std::string& name, bool brief) {
  using world = one_text<Queue>;
  step(name, stepped<world>{.run =
                                [](world& w) {
                                  auto written = w.q.loan(large);
                                  written[0] = written[large - 1] = 1;
                                  publish(w.q, written);
                                },
                            .check =
                                [](world& w, const last_process& last) {
                                  auto all = ends_of(drain(w.q));
                                  if (!last.returned && all.size() == 1) all.insert(all.begin(), {1, 1});
                                  EXPECT_EQ(all, (std::vector<std::pair<int, int>>{{1, 1}, {2, 2}}));
                                  for (int i = 0; i < 5; ++i) put(w.q, numbers(750, i));
                                  EXPECT_EQ(drain(w.q).size(), 5U);
                                  EXPECT_TRUE(w.q.join_for(1h));
                                },
                            .recover = look<world>,
                            .brief = brief});
}

TEST(StepperOrdered, LoanPublishedByPriority) {
  step_loan<covey::priority_queue<numbers>>("priority_queue.loan+publish", false);
}

TEST(StepperOrdered, LoanPublishedNewestFirst) {
  step_loan<covey::lifo_queue<numbers>>("lifo_queue.loan+publish", true);
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
                                                                EXPECT_FALSE(last.returned);
                                                                EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3, 4, 5, 6}));
                                                                expect_whole(w.q);
                                                              },
                                                          .recover = look<world>,
                                                          .warm = [](world& w) { (void)w.q.put_for(7, 1us); },
                                                          .brief = true});
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
                                                                    EXPECT_FALSE(last.returned);
                                                                    expect_whole(w.q);
                                                                  },
                                                              .recover = look<world>,
                                                              .warm = [](world& w) { (void)w.q.get_for(1us); },
                                                              .brief = true});
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
                                                            if (!last.returned && all.size() == 3)
                                                              all.erase(all.begin());
                                                            EXPECT_EQ(all, (std::vector{3, 5}));
                                                            expect_whole(w.q);
                                                          },
                                                      .recover = look<three>});
}

// ---- of one that is stopped ----------------------------------------------------------------------------------------

// What others got meanwhile.
struct watched : three {
  std::vector<int> seen{};
};

// What others do while somebody has stopped for ever: they take what there is, in its order, and put and get without a
// limit.
void go_on(watched& w) {
  w.seen = drain(w.q);
  EXPECT_TRUE(std::ranges::is_sorted(w.seen)) << ::testing::PrintToString(w.seen);
  for (int n = 0; n < 5; ++n) {
    w.q.put(7);
    EXPECT_EQ(w.q.get(), 7);
    w.q.task_done();
  }
  std::thread newcomer([&] {
    w.q.put(8);
    w.q.put(6);
    EXPECT_EQ(w.q.get_many(2), (std::vector{6, 8}));
  });
  newcomer.join();
  std::size_t room = 0;
  while (w.q.try_put(9)) ++room;
  EXPECT_LE(room, small.items);
  EXPECT_GE(room, small.items - 1);
  drain(w.q);
}

// 1, 3 and 5 were got once, and 2 if it was put.
void expect_all_once(watched& w, bool put_two) {
  std::vector<int> all = std::move(w.seen);
  for (const int n : drain(w.q)) all.push_back(n);
  std::ranges::sort(all);
  if (!put_two) std::erase(all, 2);
  EXPECT_EQ(all, put_two ? (std::vector{1, 2, 3, 5}) : (std::vector{1, 3, 5}));
  expect_whole(w.q);
}

void step_stopped(const std::string& name, stepped<watched> operation) {
  operation.while_stopped = go_on;
  step(name + ", stopped", operation);
  operation.goes_on = true;
  step(name + ", stopped, and then it goes on", operation);
}

TEST(StepperOrdered, PutOfAStoppedOne) {
  step_stopped("priority_queue.put",
               {.run = [](watched& w) { w.q.put(2); },
                .check = [](watched& w, const last_process& last) { expect_all_once(w, last.returned); },
                .recover = look<watched>,
                .brief = true});
}

TEST(StepperOrdered, GetOfAStoppedOne) {
  step_stopped("priority_queue.get", {.run = [](watched& w) { (void)w.q.try_get(); },
                                      .check = [](watched& w, const last_process&) { expect_all_once(w, false); }});
}

// Its message comes back to a place that others have passed.
TEST(StepperOrdered, SweeperThatIsStopped) {
  step_stopped("priority_queue.get, its sweeper",
               {.run = [](watched& w) { (void)w.q.try_get(); },
                .check = [](watched& w, const last_process&) { expect_all_once(w, false); },
                .recover = look<watched>});
}

// An old message is done, and its place in the list is taken by others, while somebody is on his way along the list.
TEST(StepperOrdered, PutOfAStoppedOneThatLooksForRoom) {
  struct world : watched {
    world() {
      for (const int n : {4, 6, 7}) q.put(n);
      for (int n = 0; n < 3; ++n) {
        (void)q.get();
        q.task_done();
      }
    }
  };
  const stepped<world> operation{.run = [](world& w) { (void)w.q.put_many_for(std::vector{1, 2, 3}, 0s); },
                                 .check =
                                     [](world& w, const last_process& last) {
                                       std::vector<int> all = std::move(w.seen);
                                       for (const int n : drain(w.q)) all.push_back(n);
                                       std::ranges::sort(all);
                                       EXPECT_TRUE(std::ranges::includes(std::vector{1, 2, 3, 5, 6, 7}, all));
                                       EXPECT_TRUE(std::ranges::includes(all, std::vector{5, 6, 7}));
                                       EXPECT_TRUE(!last.returned || all.size() == 6);
                                       expect_whole(w.q);
                                     },
                                 .recover = look<world>,
                                 .while_stopped = [](world& w) { w.seen = drain(w.q); },
                                 .goes_on = true,
                                 .brief = true};
  step("priority_queue.put_many, stopped, and then it goes on", operation);
}

TEST(StepperOrdered, TaskDoneOfAStoppedOne) {
  const auto got_and_done = [](watched& w) {
    if (w.q.try_get()) w.q.task_done();
  };
  step_stopped("priority_queue.get+task_done", {.run = got_and_done,
                                                .check =
                                                    [](watched& w, const last_process&) {
                                                      std::vector<int> all = std::move(w.seen);
                                                      for (const int n : drain(w.q)) all.push_back(n);
                                                      std::ranges::sort(all);
                                                      if (all.size() == 2) all.insert(all.begin(), 1);
                                                      EXPECT_EQ(all, (std::vector{1, 3, 5}));
                                                      expect_whole(w.q);
                                                    },
                                                .recover = look<watched>,
                                                .brief = true});
}

TEST(StepperOrdered, Close) {
  step("lifo_queue.close(discard)", stepped<stack>{.run = [](stack& w) { w.q.close(covey::close_mode::discard); },
                                                   .check =
                                                       [](stack& w, const last_process& last) {
                                                         EXPECT_TRUE(!last.returned || w.q.closed());
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
