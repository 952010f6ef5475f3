// The queue's operations, killed at their instructions. What was committed arrives once, in order; what was in the hand
// of the dead arrives again; there is room for as many as before; nobody hangs.
#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepped_queues.hpp>

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

constexpr covey::queue_options for_one{.items = 1, .bytes = 4096};

// Holds 1, 2, 3.
struct three {
  covey::queue<int> q{small};
  three() {
    for (const int n : {1, 2, 3}) q.put(n);
  }
};

struct full {
  covey::queue<int> q{small};
  full() {
    for (int n = 1; q.try_put(n); ++n) {
    }
  }
};

struct empty {
  covey::queue<int> q{small};
};

template <class World>
void put_one(World& w) {
  w.q.put(4);
}

// 1, 2, 3 in their order, and 4, of another producer, anywhere among them.
bool has_all_four(std::vector<int> all) {
  const auto four = std::find(all.begin(), all.end(), 4);
  if (four == all.end()) return false;
  all.erase(four);
  return all == std::vector{1, 2, 3};
}

void expect_put(three& w, const last_process& last) {
  std::vector<int> all = drain(w.q);
  if (!last.returned && all.size() == 3) all.push_back(4);
  EXPECT_TRUE(has_all_four(all)) << ::testing::PrintToString(all);
  expect_whole(w.q);
}

TEST(StepperQueue, Put) { step("queue.put", stepped<three>{.run = put_one<three>, .check = expect_put}); }

// Its messages are gone, but all of the quota is still with the lane of who put them.
struct moved_quota {
  covey::queue<int> q{small};
  moved_quota() {
    for (int n = 1; q.try_put(n); ++n) {
    }
    drain(q);
  }
};

// What others can do while somebody has stopped for ever who had, or put, at most `missing` messages.
void go_on_with(const covey::queue<int>& q, std::size_t missing) {
  for (int n = 100; n < 105; ++n) {
    EXPECT_TRUE(q.put_for(n, 20s));
    EXPECT_TRUE(q.get_for(20s).has_value());
    q.task_done();
  }
  std::thread newcomer([&] {
    EXPECT_TRUE(q.put_for(1000, 20s));
    EXPECT_TRUE(q.get_for(20s).has_value());
    q.task_done();
  });
  newcomer.join();
  drain(q);
  std::size_t room = 0;
  while (q.try_put(7)) ++room;
  EXPECT_LE(room, small.items);
  EXPECT_GE(room, small.items - missing);
  drain(q);
}

TEST(StepperQueue, PutOfAStoppedOne) {
  step("queue.put that moves quota, stopped",
       stepped<moved_quota>{.run = [](moved_quota& w) { w.q.put(1); },
                            .check = [](moved_quota& w, const last_process&) { expect_whole(w.q); },
                            .recover = look<moved_quota>,
                            .warm = [](moved_quota& w) { (void)w.q.try_put(1); },
                            .while_stopped = [](moved_quota& w) { go_on_with(w.q, 1); },
                            .brief = true});
}

// Not its first: its lane's head comes to a slot that is reserved and not filled. What came back takes all quotas away,
// and whoever gathers some anew must not count that lane for more than it has.
TEST(StepperQueue, LaterPutOfAStoppedOneBesideADeath) {
  step("queue.put again, stopped beside a death",
       stepped<empty>{.run = [](empty& w) { w.q.put(1); },
                      .check = [](empty& w, const last_process&) { expect_whole(w.q); },
                      .recover = look<empty>,
                      .before =
                          [](empty& w) {
                            w.q.put(9);
                            (void)w.q.get();
                            w.q.task_done();
                          },
                      .while_stopped =
                          [](empty& w) {
                            EXPECT_TRUE(w.q.put_for(100, 20s));
                            covey::testing::in_one_that_dies([&] { (void)w.q.try_get(); });
                            go_on_with(w.q, 1);
                          },
                      .brief = true});
}

TEST(StepperQueue, GetOfAStoppedOne) {
  step("queue.get, stopped", stepped<three>{.run = [](three& w) { (void)w.q.get(); },
                                            .check =
                                                [](three& w, const last_process&) {
                                                  EXPECT_LE(w.q.size(), 1U);  // what was in its hand
                                                  expect_whole(w.q);
                                                },
                                            .recover = look<three>,
                                            .while_stopped =
                                                [](three& w) {
                                                  EXPECT_GE(drain(w.q).size(), 2U);
                                                  go_on_with(w.q, 0);
                                                },
                                            .brief = true});
}

// What a process puts after its first message.
TEST(StepperQueue, PutAgain) {
  step("queue.put again", stepped<empty>{.run = [](empty& w) { w.q.put(2); },
                                         .check =
                                             [](empty& w, const last_process& last) {
                                               std::vector<int> all = drain(w.q);
                                               if (!last.returned && all.size() == 1) all.push_back(2);
                                               EXPECT_EQ(all, (std::vector{1, 2}));
                                               expect_whole(w.q);
                                             },
                                         .recover = look<empty>,
                                         .before = [](empty& w) { w.q.put(1); }});
}

// The message before is acknowledged by the get.
TEST(StepperQueue, GetAgain) {
  step("queue.get again", stepped<three>{.run = [](three& w) { (void)w.q.get(); },
                                         .check =
                                             [](three& w, const last_process& last) {
                                               std::vector<int> all = drain(w.q);
                                               if (!last.returned && all.size() == 3) all.erase(all.begin());
                                               EXPECT_EQ(all, (std::vector{2, 3}));
                                               expect_whole(w.q);
                                             },
                                         .recover = look<three>,
                                         .before = [](three& w) { (void)w.q.get(); }});
}

TEST(StepperQueue, PutRepaired) {
  step("queue.put, then size", stepped<three>{.run = put_one<three>, .check = expect_put, .recover = look<three>});
}

TEST(StepperQueue, PutFor) {
  step("queue.put_for", stepped<three>{.run = [](three& w) { (void)w.q.put_for(4, 1h); },
                                       .check = expect_put,
                                       .recover = [](three& w) { (void)w.q.get(); },
                                       .brief = true});
}

TEST(StepperQueue, PutThatSleeps) {
  step("queue.put to a full one", stepped<full>{.run = [](full& w) { w.q.put(7); },
                                                .check =
                                                    [](full& w, const last_process& last) {
                                                      EXPECT_FALSE(last.returned);
                                                      EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3, 4, 5, 6}));
                                                      expect_whole(w.q);
                                                    },
                                                .recover = look<full>,
                                                .warm = [](full& w) { (void)w.q.put_for(7, 1us); },
                                                .brief = true});
}

TEST(StepperQueue, PutOfALargeMessage) {
  struct world {
    covey::queue<std::string> q{covey::queue_options{.items = 6, .bytes = 64 << 10}};
  };
  step("queue.put of 5,000 bytes", stepped<world>{.run = [](world& w) { w.q.put(std::string(5'000, 'a')); },
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

TEST(StepperQueue, Get) {
  const auto redelivered = [](three& w, const last_process&) {
    EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3}));
    expect_whole(w.q);
  };
  step("queue.get",
       stepped<three>{.run = [](three& w) { (void)w.q.get(); }, .check = redelivered, .recover = look<three>});
  step("queue.get_many", stepped<three>{.run = [](three& w) { (void)w.q.get_many(2); },
                                        .check = redelivered,
                                        .recover = [](three& w) { (void)w.q.get_many(2); },
                                        .brief = true});
}

// Who puts next gives back what the dead had.
TEST(StepperQueue, GetThenPut) {
  step("queue.get_for, then put", stepped<three>{.run = [](three& w) { (void)w.q.get_for(1h); },
                                                 .check =
                                                     [](three& w, const last_process& last) {
                                                       auto all = drain(w.q);
                                                       const auto put_later = std::erase(all, 4);
                                                       EXPECT_EQ(all, (std::vector{1, 2, 3}));
                                                       EXPECT_GE(put_later, last.followed && last.finished ? 1U : 0U);
                                                       EXPECT_LE(put_later, last.followed ? 2U : 0U);
                                                       expect_whole(w.q);
                                                     },
                                                 .recover = put_one<three>,
                                                 .brief = true});
}

// Who dies after a recoverer that died as a consumer too.
TEST(StepperQueue, GetAfterGet) {
  step("queue.get, then get", stepped<three>{.run = [](three& w) { (void)w.q.get(); },
                                             .check =
                                                 [](three& w, const last_process&) {
                                                   EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3}));
                                                   expect_whole(w.q);
                                                 },
                                             .recover = [](three& w) { (void)w.q.get(); }});
}

TEST(StepperQueue, GetThatDrops) {
  struct world {
    covey::queue<int> q{
        covey::queue_options{.items = small.items, .bytes = small.bytes, .on_death = covey::in_flight_policy::drop}};
    world() {
      for (const int n : {1, 2, 3}) q.put(n);
    }
  };
  step("queue.get, dropped at death", stepped<world>{.run = [](world& w) { (void)w.q.get(); },
                                                     .check =
                                                         [](world& w, const last_process& last) {
                                                           std::vector<int> all = drain(w.q);
                                                           if (!last.returned && all.size() == 3)
                                                             all.erase(all.begin());
                                                           EXPECT_EQ(all, (std::vector{2, 3}));
                                                           expect_whole(w.q);
                                                         },
                                                     .recover = look<world>,
                                                     .brief = true});
}

TEST(StepperQueue, GetThatSleeps) {
  step("queue.get from an empty one", stepped<empty>{.run = [](empty& w) { (void)w.q.get(); },
                                                     .check =
                                                         [](empty& w, const last_process& last) {
                                                           EXPECT_FALSE(last.returned);
                                                           expect_whole(w.q);
                                                         },
                                                     .recover = look<empty>,
                                                     .warm = [](empty& w) { (void)w.q.get_for(1us); },
                                                     .brief = true});
}

TEST(StepperQueue, TaskDone) {
  step("queue.get+task_done", stepped<three>{.run =
                                                 [](three& w) {
                                                   (void)w.q.get();
                                                   w.q.task_done();
                                                 },
                                             .check =
                                                 [](three& w, const last_process& last) {
                                                   std::vector<int> all = drain(w.q);
                                                   if (!last.returned && all.size() == 3) all.erase(all.begin());
                                                   EXPECT_EQ(all, (std::vector{2, 3}));
                                                   expect_whole(w.q);
                                                 },
                                             .recover = look<three>,
                                             .brief = true});
}

TEST(StepperQueue, Close) {
  step("queue.close", stepped<three>{.run = [](three& w) { w.q.close(); },
                                     .check =
                                         [](three& w, const last_process& last) {
                                           EXPECT_TRUE(!last.returned || w.q.closed());
                                           w.q.close();
                                           EXPECT_THROW(w.q.put(4), covey::queue_closed);
                                           EXPECT_EQ(drain(w.q), (std::vector{1, 2, 3}));
                                           EXPECT_EQ(w.q.get(), std::nullopt);
                                         },
                                     .recover = look<three>});
  step("queue.close(discard)", stepped<three>{.run = [](three& w) { w.q.close(covey::close_mode::discard); },
                                              .check =
                                                  [](three& w, const last_process& last) {
                                                    EXPECT_TRUE(!last.returned || w.q.closed());
                                                    w.q.close(covey::close_mode::discard);
                                                    EXPECT_EQ(w.q.get(), std::nullopt);
                                                  },
                                              .recover = look<three>,
                                              .brief = true});
}

TEST(StepperQueue, Join) {
  struct world {
    covey::queue<int> q{small};
    bool in_hand = true;
    world() {
      q.put(1);
      (void)q.get();
    }
    ~world() {
      if (in_hand) q.task_done();
    }
  };
  step("queue.join that sleeps", stepped<world>{.run = [](world& w) { w.q.join(); },
                                                .check =
                                                    [](world& w, const last_process& last) {
                                                      EXPECT_FALSE(last.returned);
                                                      w.q.task_done();
                                                      w.in_hand = false;
                                                      w.q.join();
                                                      expect_whole(w.q);
                                                    },
                                                .warm = [](world& w) { (void)w.q.join_for(1us); }});
}

// The last one of the other end leaves, in order, while somebody stands anywhere in a call that would wait for him.
template <class End>
struct waiting_for {
  covey::queue<int> q{for_one};
  std::optional<End> end;
  covey::shared_ptr<int> who = covey::make_shared<int>(0);
  covey::shared_ptr<int> told = covey::make_shared<int>(0);
  bool slept_before = false;
};

// Not: stopped by its tracer.
bool is_asleep(int pid) {
  std::string text;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), text);
  return text.find(") S ") != std::string::npos;
}

// Whoever was not asleep before must not go to sleep.
template <class World>
void step_last_leaves(const std::string& name, const std::function<void(World&)>& wait,
                      const std::function<void(World&)>& warm) {
  step(name, stepped<World>{.run =
                                [&](World& w) {
                                  *w.who = ::getpid();
                                  wait(w);
                                  *w.told = 1;
                                },
                            .check =
                                [&](World& w, const last_process& last) {
                                  EXPECT_EQ(last.finished, *w.told == 1 && !last.slept);
                                  EXPECT_TRUE(last.finished || w.slept_before) << "it sleeps, and nobody will wake it";
                                },
                            .warm = warm,
                            .while_stopped =
                                [](World& w) {
                                  w.slept_before = *w.who != 0 && is_asleep(*w.who);
                                  w.end.reset();
                                },
                            .goes_on = true});
}

struct waiting_for_the_reader : waiting_for<covey::queue_reader<int>> {
  waiting_for_the_reader() {
    q.put(1);
    end.emplace(q.reader()).take_role();
  }
};

struct waiting_for_the_writer : waiting_for<covey::queue_writer<int>> {
  waiting_for_the_writer() { end.emplace(q.writer()).take_role(); }
};

TEST(StepperQueue, JoinWhileTheLastReaderLeaves) {
  using world = waiting_for_the_reader;
  step_last_leaves<world>(
      "queue.join, the last reader leaves", [](world& w) { EXPECT_THROW(w.q.join(), covey::no_consumers); },
      [](world& w) { (void)w.q.join_for(1us); });
}

TEST(StepperQueue, PutWhileTheLastReaderLeaves) {
  using world = waiting_for_the_reader;
  step_last_leaves<world>(
      "queue.put, the last reader leaves", [](world& w) { EXPECT_THROW(w.q.put(2), covey::no_consumers); },
      [](world& w) { (void)w.q.put_for(2, 1us); });
}

TEST(StepperQueue, GetWhileTheLastWriterLeaves) {
  using world = waiting_for_the_writer;
  step_last_leaves<world>(
      "queue.get, the last writer leaves", [](world& w) { EXPECT_EQ(w.q.get(), std::nullopt); },
      [](world& w) { (void)w.q.get_for(1us); });
}

TEST(StepperQueue, ReaderRole) { step("queue.reader taken and left", reader_role<three>(4, has_all_four)); }

TEST(StepperQueue, WriterRole) { step("queue.writer taken and left", writer_role<empty>()); }

}  // namespace
