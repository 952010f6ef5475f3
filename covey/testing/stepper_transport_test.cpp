// Messages read and written where they lie, batches, messages that fail, and pipes, killed at their instructions. What
// was committed arrives once, in order; what was in the hand of the dead arrives again, or fails; memory that was lent
// comes back.
#include <gtest/gtest.h>
#include <covey/ipc/pipe.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepped_queues.hpp>

#include <numeric>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

// ---- written and read in place
// -----------------------------------------------------------------------------------------

constexpr covey::queue_options roomy{.items = 6, .bytes = 64 << 10};
constexpr std::size_t large = 1'000;  // numbers: more than lies in a slot

using numbers = std::vector<int>;
numbers message(int first) {
  numbers all(large);
  std::iota(all.begin(), all.end(), first);
  return all;
}

struct no_numbers {
  covey::queue<numbers> q{roomy};
};

struct two_numbers {
  covey::queue<numbers> q{roomy};
  two_numbers() {
    q.put(message(1));
    q.put(message(2));
  }
};

// As much memory to borrow as ever: as if nobody had died.
void expect_room(const covey::queue<numbers>& q) {
  drain(q);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(q.put_for(numbers(3'000, i), 20s));
  EXPECT_EQ(drain(q).size(), 5U);
  EXPECT_TRUE(q.join_for(1h));
}

void loan_and_publish(const covey::queue<numbers>& q) {
  auto written = q.loan(large);
  written[0] = 7;
  written[large - 1] = 8;
  q.publish(written);
}

TEST(StepperLoan, Published) {
  step("queue.loan+publish", stepped<no_numbers>{.run = [](no_numbers& w) { loan_and_publish(w.q); },
                                                 .check =
                                                     [](no_numbers& w, const last_process& last) {
                                                       const auto all = drain(w.q);
                                                       EXPECT_TRUE(all.size() == 1 || (all.empty() && !last.returned));
                                                       if (!all.empty()) {
                                                         EXPECT_EQ(all[0].size(), large);
                                                         EXPECT_EQ(all[0].front(), 7);
                                                         EXPECT_EQ(all[0].back(), 8);
                                                       }
                                                       expect_room(w.q);
                                                     },
                                                 .recover = [](no_numbers& w) { (void)w.q.size(); }});
}

TEST(StepperLoan, DroppedUnpublished) {
  step("queue.loan dropped", stepped<no_numbers>{.run = [](no_numbers& w) { (void)w.q.loan(large); },
                                                 .check =
                                                     [](no_numbers& w, const last_process&) {
                                                       EXPECT_TRUE(drain(w.q).empty());
                                                       expect_room(w.q);
                                                     },
                                                 .recover = [](no_numbers& w) { (void)w.q.loan(large); }});
}

TEST(StepperView, TakenAndReleased) {
  step("queue.get_view+release", stepped<two_numbers>{.run = [](two_numbers& w) { w.q.get_view()->release(); },
                                                      .check =
                                                          [](two_numbers& w, const last_process& last) {
                                                            auto all = drain(w.q);
                                                            if (!last.returned && all.size() == 2)
                                                              all.erase(all.begin());
                                                            EXPECT_EQ(all, std::vector<numbers>{message(2)});
                                                            expect_room(w.q);
                                                          },
                                                      .recover = [](two_numbers& w) { (void)w.q.size(); }});
}

// It was in the hand of the dead, at whichever instruction.
TEST(StepperView, Taken) {
  step("queue.get_view", stepped<two_numbers>{.run =
                                                  [](two_numbers& w) {
                                                    auto* const view = new auto(w.q.get_view());
                                                    asm volatile("" ::"r"(view) : "memory");
                                                  },
                                              .check =
                                                  [](two_numbers& w, const last_process&) {
                                                    EXPECT_EQ(drain(w.q),
                                                              (std::vector<numbers>{message(1), message(2)}));
                                                    expect_room(w.q);
                                                  },
                                              .recover = [](two_numbers& w) { (void)w.q.size(); },
                                              .warm = [](two_numbers& w) { (void)w.q.get_view(); },
                                              .brief = true});
}

// ---- batches
// -----------------------------------------------------------------------------------------------------------

constexpr covey::queue_options small{.items = 6, .bytes = 4096};

struct empty {
  covey::queue<int> q{small};
};

struct three {
  covey::queue<int> q{small};
  three() { q.put_many(std::vector{1, 2, 3}); }
};

// As much room as ever, and first in, first out.
void expect_whole(const covey::queue<int>& q) {
  drain(q);
  std::vector<int> put;
  for (int n = 100; q.try_put(n); ++n) put.push_back(n);
  EXPECT_EQ(put.size(), small.items);
  EXPECT_EQ(drain(q), put);
  EXPECT_TRUE(q.join_for(1h));
}

// The first of them, in order: all if it had returned.
TEST(StepperMany, Put) {
  step("queue.put_many of 4", stepped<empty>{.run = [](empty& w) { w.q.put_many(std::array{1, 2, 3, 4}); },
                                             .check =
                                                 [](empty& w, const last_process& last) {
                                                   const auto all = drain(w.q);
                                                   std::vector<int> first(all.size());
                                                   std::iota(first.begin(), first.end(), 1);
                                                   EXPECT_EQ(all, first);
                                                   EXPECT_TRUE(all.size() == 4 || (all.size() < 4 && !last.returned));
                                                   expect_whole(w.q);
                                                 },
                                             .recover = [](empty& w) { (void)w.q.size(); }});
}

// The first two are acknowledged by the second get; the third is in hand.
TEST(StepperMany, GetAgain) {
  step("queue.get_many again", stepped<three>{.run = [](three& w) { (void)w.q.get_many(2); },
                                              .check =
                                                  [](three& w, const last_process& last) {
                                                    const auto all = drain(w.q);
                                                    EXPECT_LE(all.size(), last.returned ? 1U : 3U);
                                                    EXPECT_TRUE(!all.empty() && all.back() == 3);
                                                    EXPECT_TRUE(std::ranges::is_sorted(all));
                                                    expect_whole(w.q);
                                                  },
                                              .recover = [](three& w) { (void)w.q.size(); },
                                              .before = [](three& w) { (void)w.q.get_many(2); }});
}

// ---- delivered again, and failed
// ---------------------------------------------------------------------------------------

TEST(StepperDelivery, CountsTheDead) {
  step("queue.get_delivery", stepped<three>{.run = [](three& w) { (void)w.q.get_delivery(); },
                                            .check =
                                                [](three& w, const last_process& last) {
                                                  const auto first = w.q.get_delivery();
                                                  ASSERT_TRUE(first);
                                                  EXPECT_EQ(first->value, 1);
                                                  EXPECT_TRUE(first->deliveries == 2 || !last.returned);
                                                  EXPECT_LE(first->deliveries, 2U);
                                                  EXPECT_GE(first->deliveries, 1U);
                                                  w.q.task_done();
                                                  EXPECT_EQ(drain(w.q), (std::vector{2, 3}));
                                                  expect_whole(w.q);
                                                },
                                            .recover = [](three& w) { (void)w.q.size(); },
                                            .brief = true});
}

struct failing {
  covey::queue<int> q{
      covey::queue_options{.items = small.items, .bytes = small.bytes, .on_death = covey::in_flight_policy::fail}};
  failing() { q.put_many(std::vector{1, 2, 3}); }
};

std::vector<int> failed_of(const covey::queue<int>& q) {
  const std::size_t n = q.failed();
  std::vector<int> all;
  while (const auto message = q.get_failed()) {
    all.push_back(message->value);
    q.task_done();
  }
  EXPECT_EQ(all.size(), n);
  return all;
}

// Each message is either still there or set aside, and never both.
TEST(StepperDelivery, FailsWithTheDead) {
  step("queue.get, failed at death",
       stepped<failing>{.run = [](failing& w) { (void)w.q.get(); },
                        .check =
                            [](failing& w, const last_process& last) {
                              auto all = failed_of(w.q);
                              EXPECT_TRUE(all == std::vector{1} || (all.empty() && !last.returned));
                              for (const int n : drain(w.q)) all.push_back(n);
                              EXPECT_EQ(all, (std::vector{1, 2, 3}));
                              expect_whole(w.q);
                            },
                        .recover = [](failing& w) { (void)w.q.failed(); }});
}

// One of the failed is in the hand of the dead: it fails again.
struct failed_one {
  covey::queue<int> q{
      covey::queue_options{.items = small.items, .bytes = small.bytes, .on_death = covey::in_flight_policy::fail}};
  failed_one() {
    q.put(1);
    covey::testing::in_one_that_dies([this] { (void)q.get(); });
    EXPECT_EQ(q.failed(), 1U);
  }
};

TEST(StepperDelivery, GetFailed) {
  step("queue.get_failed", stepped<failed_one>{.run = [](failed_one& w) { (void)w.q.get_failed(); },
                                               .check =
                                                   [](failed_one& w, const last_process&) {
                                                     EXPECT_EQ(failed_of(w.q), std::vector{1});
                                                     EXPECT_TRUE(drain(w.q).empty());
                                                     expect_whole(w.q);
                                                   },
                                               .recover = [](failed_one& w) { (void)w.q.get_failed(); }});
  step("queue.get_failed+task_done", stepped<failed_one>{.run =
                                                             [](failed_one& w) {
                                                               (void)w.q.get_failed();
                                                               w.q.task_done();
                                                             },
                                                         .check =
                                                             [](failed_one& w, const last_process& last) {
                                                               EXPECT_LE(failed_of(w.q).size(),
                                                                         last.returned ? 0U : 1U);
                                                               EXPECT_TRUE(drain(w.q).empty());
                                                               expect_whole(w.q);
                                                             },
                                                         .recover = [](failed_one& w) { (void)w.q.failed(); },
                                                         .brief = true});
}

// ---- pipes
// -------------------------------------------------------------------------------------------------------------

struct talk {
  std::pair<covey::pipe<int>, covey::pipe<int>> ends = covey::make_pipe<int>(small);
};

struct asked {
  std::pair<covey::pipe<int>, covey::pipe<int>> ends = covey::make_pipe<int>(small);
  asked() { ends.first.put(1); }
};

// What the other end still reads, and whether it is told that nobody is there any more.
template <class World>
void expect_end(World& w, const last_process& last, std::size_t most) {
  std::size_t got = 0;
  try {
    for (;;) {
      const auto answer = w.ends.first.get_for(last.returned ? 20s : 0s);
      if (!answer) break;
      EXPECT_EQ(*answer, 2);
      ++got;
    }
    EXPECT_FALSE(last.returned) << "the other end died, and this one is not told";
  } catch (const covey::no_producers&) {
  }
  EXPECT_LE(got, most);
  EXPECT_GE(got, last.returned ? most : 0U);
  if (last.returned) {
    EXPECT_THROW((void)w.ends.first.put_for(3, 20s), covey::no_consumers);
  }
}

// One more at the other end, who takes what there is in hand.
template <class World>
void read_too(World& w) {
  try {
    (void)w.ends.first.try_get();
  } catch (const covey::no_producers&) {
  }
}

TEST(StepperPipe, Put) {
  step("pipe.put, end taken", stepped<talk>{.run = [](talk& w) { w.ends.second.put(2); },
                                            .check = [](talk& w, const last_process& last) { expect_end(w, last, 1); },
                                            .recover = read_too<talk>,
                                            .brief = true});
}

TEST(StepperPipe, GetAndAnswer) {
  step("pipe.get+put", stepped<asked>{.run =
                                          [](asked& w) {
                                            (void)w.ends.second.get();
                                            w.ends.second.put(2);
                                          },
                                      .check = [](asked& w, const last_process& last) { expect_end(w, last, 1); },
                                      .recover = read_too<asked>,
                                      .brief = true});
}

TEST(StepperPipe, Close) {
  step("pipe.close", stepped<talk>{.run = [](talk& w) { w.ends.second.close(); },
                                   .check =
                                       [](talk& w, const last_process& last) {
                                         std::optional<int> got = 1;
                                         try {
                                           got = w.ends.first.get_for(last.returned ? 20s : 0s);
                                         } catch (const covey::no_producers&) {
                                           got.reset();
                                           EXPECT_FALSE(last.returned);
                                         }
                                         EXPECT_FALSE(got);
                                       },
                                   .recover = read_too<talk>,
                                   .brief = true});
}

}  // namespace
