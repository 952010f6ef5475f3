// Operations of a broadcast, killed, or stopped, at their instructions. What was committed reaches every subscriber
// once, in order; the dead are no subscribers; there is room for as many as before; nobody waits for who is stopped.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>

#include <algorithm>
#include <ranges>

namespace {

using namespace std::chrono_literals;
using covey::broadcast;
using covey::slow_subscriber;
using covey::subscriber;
using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

constexpr std::size_t items = 4;

// Holds 1, 2 for `s`. What the dead hold is forgotten: `s` is everybody's.
struct two {
  broadcast<int> b{{.items = items, .bytes = 4096, .subscribers = 4, .when_slow = slow_subscriber::block}};
  subscriber<int> s{b.subscribe()};
  two() {
    b.put(1);
    b.put(2);
  }
};

std::vector<int> drain(const subscriber<int>& s) {
  std::vector<int> all;
  while (const auto v = s.try_get()) all.push_back(*v);
  return all;
}

// As much room as ever, for messages and for subscribers.
void expect_whole(two& w) {
  drain(w.s);
  EXPECT_EQ(w.s.missed(), 0U);
  EXPECT_EQ(w.b.subscribers(), 1U);
  std::vector<int> put;
  for (int n = 100; w.b.try_put(n); ++n) put.push_back(n);
  EXPECT_EQ(put.size(), items);
  EXPECT_EQ(drain(w.s), put);
  const auto second = w.b.subscribe();
  const auto third = w.b.subscribe();
  const auto fourth = w.b.subscribe();
  w.b.put(200);
  EXPECT_EQ(second.try_get(), 200);
  EXPECT_EQ(fourth.try_get(), 200);
  EXPECT_EQ(w.s.try_get(), 200);
}

void put_another(two& w) { (void)w.b.try_put(9); }

// There is no lock.
void expect_room(two& w) { EXPECT_TRUE(w.b.try_put(9)); }

// 9 is what others put meanwhile.
std::vector<int> drain_but_9(const subscriber<int>& s) {
  auto all = drain(s);
  std::erase(all, 9);
  return all;
}

TEST(StepperBroadcast, Put) {
  step("broadcast.put", stepped<two>{.run = [](two& w) { w.b.put(3); },
                                     .check =
                                         [](two& w, const last_process& last) {
                                           auto all = drain_but_9(w.s);
                                           if (!last.returned && all.size() == 2) all.push_back(3);
                                           EXPECT_EQ(all, (std::vector{1, 2, 3}));
                                           expect_whole(w);
                                         },
                                     .recover = put_another});
}

// The oldest goes for it.
TEST(StepperBroadcast, PutThatOverwrites) {
  struct world {
    broadcast<int> b{{.items = 2, .bytes = 4096}};
    subscriber<int> s{b.subscribe()};
    world() {
      b.put(1);
      b.put(2);
    }
  };
  step("broadcast.put over the oldest",
       stepped<world>{.run = [](world& w) { w.b.put(3); },
                      .check =
                          [](world& w, const last_process& last) {
                            auto all = drain(w.s);
                            EXPECT_FALSE(all.empty());
                            const auto nines = std::erase(all, 9);
                            if (last.finished && !last.followed) {
                              EXPECT_EQ(all, (std::vector{2, 3}));
                            }
                            if (last.returned && nines == 1) {
                              EXPECT_EQ(all, std::vector{3});
                            }
                            EXPECT_TRUE(nines != 0 || !last.followed || !last.finished);
                            for (int n : {4, 5, 6}) w.b.put(n);
                            EXPECT_EQ(drain(w.s), (std::vector{5, 6}));
                          },
                      .recover = [](world& w) { (void)w.b.try_put(9); },
                      .brief = true});
}

TEST(StepperBroadcast, PutOfALargeMessage) {
  struct world {
    broadcast<std::string> b{{.items = 6, .bytes = 16 << 10, .when_slow = slow_subscriber::block}};
    subscriber<std::string> s{b.subscribe()};
  };
  step("broadcast.put of 3,000 bytes", stepped<world>{.run = [](world& w) { w.b.put(std::string(3'000, 'a')); },
                                                      .check =
                                                          [](world& w, const last_process& last) {
                                                            auto got = w.s.try_get();
                                                            if (got && got->size() != 1) {
                                                              EXPECT_EQ(*got, std::string(3'000, 'a'));
                                                              got = w.s.try_get();
                                                            } else {
                                                              EXPECT_FALSE(last.returned);
                                                            }
                                                            EXPECT_TRUE(got || !last.followed || !last.finished);
                                                            for (; got; got = w.s.try_get()) EXPECT_EQ(*got, "c");
                                                            const std::string all(16'000, 'b');
                                                            EXPECT_TRUE(w.b.try_put(all));
                                                            EXPECT_EQ(w.s.try_get(), all);
                                                          },
                                                      .recover = [](world& w) { (void)w.b.try_put("c"); },
                                                      .brief = true});
}

TEST(StepperBroadcast, PutThatBlocks) {
  struct world : two {
    world() {
      while (b.try_put(7)) {
      }
    }
  };
  step("broadcast.put to a full one", stepped<world>{.run = [](world& w) { w.b.put(0); },
                                                     .check =
                                                         [](world& w, const last_process& last) {
                                                           EXPECT_FALSE(last.returned);
                                                           EXPECT_EQ(drain(w.s), (std::vector{1, 2, 7, 7}));
                                                           expect_whole(w);
                                                         },
                                                     .recover = put_another,
                                                     .warm = [](world& w) { (void)w.b.put_for(7, 1us); },
                                                     .brief = true});
}

// `s` is shared with the dead: what that had taken is lost with it, and nothing else.
TEST(StepperBroadcast, Get) {
  step("subscriber.get", stepped<two>{.run = [](two& w) { (void)w.s.get(); },
                                      .check =
                                          [](two& w, const last_process& last) {
                                            auto all = drain_but_9(w.s);
                                            if (!last.returned && all.size() == 2) all.erase(all.begin());
                                            EXPECT_EQ(all, (std::vector{2}));
                                            expect_whole(w);
                                          },
                                      .recover = put_another,
                                      .while_stopped = expect_room,
                                      .brief = true});
}

TEST(StepperBroadcast, GetThatSleeps) {
  struct world : two {
    world() { drain(s); }
  };
  step("subscriber.get from an empty one", stepped<world>{.run = [](world& w) { (void)w.s.get(); },
                                                          .check =
                                                              [](world& w, const last_process& last) {
                                                                EXPECT_FALSE(last.returned);
                                                                expect_whole(w);
                                                              },
                                                          .recover = put_another,
                                                          .warm = [](world& w) { (void)w.s.get_for(1us); },
                                                          .while_stopped = expect_room,
                                                          .brief = true});
}

// What is left are the last ones, in order: the dead lost the first of a batch, or all of it, and no more.
TEST(StepperBroadcast, GetMany) {
  struct world : two {
    world() { b.put(3); }
  };
  step("subscriber.get_many of 2",
       stepped<world>{.run = [](world& w) { (void)w.s.get_many(2); },
                      .check =
                          [](world& w, const last_process& last) {
                            const auto all = drain_but_9(w.s);
                            const std::vector every{1, 2, 3};
                            EXPECT_GE(all.size(), 1U);
                            EXPECT_LE(all.size(), last.returned ? 1U : 3U);
                            EXPECT_TRUE(std::ranges::equal(all, every | std::views::drop(3 - std::ssize(all))))
                                << ::testing::PrintToString(all);
                            expect_whole(w);
                          },
                      .recover = put_another,
                      .while_stopped = expect_room,
                      .brief = true});
}

TEST(StepperBroadcast, Subscribe) {
  step("broadcast.subscribe", stepped<two>{.run = [](two& w) { const auto mine = w.b.subscribe(); },
                                           .check =
                                               [](two& w, const last_process&) {
                                                 EXPECT_EQ(drain_but_9(w.s), (std::vector{1, 2}));
                                                 expect_whole(w);
                                               },
                                           .recover = put_another,
                                           .while_stopped = expect_room});
}

TEST(StepperBroadcast, Unsubscribe) {
  struct world : two {
    std::optional<subscriber<int>> mine;
  };
  step("broadcast.unsubscribe", stepped<world>{.run = [](world& w) { w.mine.reset(); },
                                               .check =
                                                   [](world& w, const last_process&) {
                                                     EXPECT_EQ(drain_but_9(w.s), (std::vector{1, 2}));
                                                     expect_whole(w);
                                                   },
                                               .recover = put_another,
                                               .before = [](world& w) { w.mine = w.b.subscribe(); },
                                               .while_stopped = expect_room});
}

TEST(StepperBroadcast, PutOfAReference) {
  struct world {
    broadcast<covey::shared_ptr<int>> b{{.items = 2, .bytes = 4096}};
    subscriber<covey::shared_ptr<int>> s{b.subscribe()};
    covey::shared_ptr<int> o{covey::make_shared<int>(5)};
  };
  step("broadcast.put of a shared_ptr", stepped<world>{.run = [](world& w) { w.b.put(w.o); },
                                                       .check =
                                                           [](world& w, const last_process& last) {
                                                             const auto got = w.s.try_get();
                                                             EXPECT_TRUE(got || !last.returned);
                                                             if (got) {
                                                               EXPECT_EQ(**got, 5);
                                                             }
                                                             for (int i = 0; i < 5; ++i) w.b.put(w.o);
                                                             EXPECT_EQ(**w.s.try_get(), 5);
                                                           },
                                                       .recover = [](world& w) { (void)w.b.try_put(w.o); },
                                                       .brief = true});
}

// ---- stopped -------------------------------------------------------------------------------------------------------

// Two messages are kept, of at most two, and got: `s` has seen them. What it gets later is in `got`.
template <class T>
struct stopping {
  explicit stopping(slow_subscriber when_slow) : b{{.items = 2, .bytes = 4096, .when_slow = when_slow}} {}
  broadcast<T> b;
  subscriber<T> s{b.subscribe()};
  std::vector<int> got;
};

int number_of(int message) { return message; }
using numbered_object = std::pair<int, covey::shared_ptr<int>>;
int number_of(const numbered_object& message) { return *message.second == message.first ? message.first : -1; }

template <class T>
void get_all(stopping<T>& w) {
  while (const auto message = w.s.try_get()) w.got.push_back(number_of(*message));
}

template <class T>
T message(int number) {
  if constexpr (std::is_same_v<T, int>)
    return number;
  else
    return {number, covey::make_shared<int>(number)};
}

template <class T, slow_subscriber Slow>
struct got_two : stopping<T> {
  got_two() : stopping<T>(Slow) {
    for (const int n : {1, 2}) this->b.put(message<T>(n));
    get_all(*this);
  }
};

// Puts without a limit, while somebody is stopped in one: each evicts, and what was put is got.
template <class T>
void put_and_get(stopping<T>& w) {
  for (const int n : {4, 5, 6}) {
    w.b.put(message<T>(n));
    get_all(w);
  }
  w.b.put(message<T>(7));
}

// 3 is whose put was stopped; it comes anywhere, or not at all if it was killed before.
template <class T>
void expect_in_order(stopping<T>& w, const last_process& last) {
  get_all(w);
  const auto threes = std::erase(w.got, 3);
  EXPECT_EQ(w.got, (std::vector{1, 2, 4, 5, 6, 7}));
  EXPECT_TRUE(threes == 1 || (threes == 0 && !last.returned));
  EXPECT_EQ(w.s.missed(), 0U);
  // A subscriber that was killed is heard of before the keeper drops what it held; who waits for room is woken then,
  // and who only tries may come before.
  (void)covey::testing::settled();
  for (const int n : {8, 9}) EXPECT_TRUE(w.b.try_put(message<T>(n)));
  w.got.clear();
  get_all(w);
  EXPECT_EQ(w.got, (std::vector{8, 9}));
}

// Looks after the dead, and puts and gets nothing.
template <class World>
void come_and_go(World& w) {
  const auto mine = w.b.subscribe();
}

// A subscriber who is stopped where others block for it stops them: nobody comes then.
template <class T, slow_subscriber Slow>
void step_a_stopped_put(const std::string& name, bool goes_on) {
  using world = got_two<T, Slow>;
  const std::function<void(world&)> nothing;
  step(name, stepped<world>{.run = [](world& w) { w.b.put(message<T>(3)); },
                            .check = [](world& w, const last_process& last) { expect_in_order<T>(w, last); },
                            .recover = Slow == slow_subscriber::block && goes_on ? nothing : come_and_go<world>,
                            .while_stopped = [](world& w) { put_and_get<T>(w); },
                            .goes_on = goes_on,
                            .brief = true});
}

TEST(StepperBroadcast, PutOfAStoppedOneWhereOthersLag) {
  step_a_stopped_put<int, slow_subscriber::lag>("broadcast.put, stopped", false);
}

TEST(StepperBroadcast, PutOfAStoppedOneThatGoesOnWhereOthersLag) {
  step_a_stopped_put<int, slow_subscriber::lag>("broadcast.put, stopped and going on", true);
}

TEST(StepperBroadcast, PutOfAStoppedOneThatBlocks) {
  step_a_stopped_put<int, slow_subscriber::block>("broadcast.put that blocks, stopped", false);
}

TEST(StepperBroadcast, PutOfAStoppedOneThatBlocksAndGoesOn) {
  step_a_stopped_put<int, slow_subscriber::block>("broadcast.put that blocks, stopped and going on", true);
}

TEST(StepperBroadcast, PutOfAnObjectByAStoppedOne) {
  step_a_stopped_put<numbered_object, slow_subscriber::lag>("broadcast.put of an object, stopped", false);
}

TEST(StepperBroadcast, PutOfAnObjectByAStoppedOneThatGoesOn) {
  step_a_stopped_put<numbered_object, slow_subscriber::lag>("broadcast.put of an object, stopped and going on", true);
}

TEST(StepperBroadcast, PutOfAnObjectByAStoppedOneThatBlocksAndGoesOn) {
  step_a_stopped_put<numbered_object, slow_subscriber::block>(
      "broadcast.put of an object that blocks, stopped and going on", true);
}

// Nobody has got what it makes room for: the oldest is evicted with the object that it holds.
TEST(StepperBroadcast, PutThatEvictsAnObjectOfAStoppedOneThatGoesOn) {
  struct world : stopping<numbered_object> {
    world() : stopping(slow_subscriber::lag) {
      for (const int n : {1, 2}) b.put(message<numbered_object>(n));
    }
  };
  step("broadcast.put that evicts an object, stopped and going on",
       stepped<world>{.run = [](world& w) { w.b.put(message<numbered_object>(3)); },
                      .check =
                          [](world& w, const last_process& last) {
                            get_all(w);
                            const std::uint64_t all = w.got.size() + w.s.missed();
                            EXPECT_TRUE(all == 7 || (all == 6 && !last.returned)) << all;
                            EXPECT_EQ(std::ranges::count(w.got, -1), 0);
                          },
                      .recover = come_and_go<world>,
                      .while_stopped = [](world& w) { put_and_get(w); },
                      .goes_on = true,
                      .brief = true});
}

// The end comes for all, though who said so is stopped.
TEST(StepperBroadcast, CloseOfAStoppedOneThatGoesOn) {
  const auto go_on = [](two& w) {
    try {
      (void)w.b.try_put(9);
    } catch (const covey::queue_closed&) {
      EXPECT_TRUE(w.b.closed());
    }
    if (!w.b.closed()) return;
    EXPECT_EQ(drain_but_9(w.s), (std::vector{1, 2}));
    EXPECT_EQ(w.s.get(), std::nullopt);
  };
  const auto check = [](two& w, const last_process& last) {
    EXPECT_TRUE(!last.finished || w.b.closed());
    w.b.close();
    drain(w.s);
    EXPECT_EQ(w.s.get(), std::nullopt);
    EXPECT_THROW(w.b.put(1), covey::queue_closed);
  };
  step("broadcast.close, stopped and going on",
       stepped<two>{.run = [](two& w) { w.b.close(); }, .check = check, .while_stopped = go_on, .goes_on = true});
}

// ---- the end -------------------------------------------------------------------------------------------------------

TEST(StepperBroadcast, Close) {
  step("broadcast.close(discard)", stepped<two>{.run = [](two& w) { w.b.close(covey::close_mode::discard); },
                                                .check =
                                                    [](two& w, const last_process& last) {
                                                      EXPECT_TRUE(!last.returned || w.b.closed());
                                                      w.b.close(covey::close_mode::discard);
                                                      EXPECT_EQ(w.s.get(), std::nullopt);
                                                    },
                                                .recover = [](two& w) { w.b.close(covey::close_mode::discard); },
                                                .brief = true});
}

}  // namespace
