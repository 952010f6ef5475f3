// Operations of a broadcast, killed at their instructions, also inside the lock. What was committed reaches every
// subscriber once, in order; the dead are no subscribers; there is room for as many as before.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>

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

// Who is stopped while it subscribes, gets or ends has no lock.
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
                                           if (!last.finished && all.size() == 2) all.push_back(3);
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
  step("broadcast.put over the oldest", stepped<world>{.run = [](world& w) { w.b.put(3); },
                                                       .check =
                                                           [](world& w, const last_process& last) {
                                                             const auto all = drain(w.s);
                                                             if (last.finished) {
                                                               EXPECT_EQ(all, (std::vector{2, 3}));
                                                             }
                                                             EXPECT_FALSE(all.empty());
                                                             for (int n : {4, 5, 6}) w.b.put(n);
                                                             EXPECT_EQ(drain(w.s), (std::vector{5, 6}));
                                                           }});
}

TEST(StepperBroadcast, PutOfALargeMessage) {
  struct world {
    broadcast<std::string> b{{.items = 6, .bytes = 16 << 10, .when_slow = slow_subscriber::block}};
    subscriber<std::string> s{b.subscribe()};
  };
  step("broadcast.put of 3,000 bytes", stepped<world>{.run = [](world& w) { w.b.put(std::string(3'000, 'a')); },
                                                      .check =
                                                          [](world& w, const last_process& last) {
                                                            const auto got = w.s.try_get();
                                                            EXPECT_TRUE(got || !last.finished);
                                                            if (got) {
                                                              EXPECT_EQ(*got, std::string(3'000, 'a'));
                                                            }
                                                            const std::string all(16'000, 'b');
                                                            EXPECT_TRUE(w.b.try_put(all));
                                                            EXPECT_EQ(w.s.try_get(), all);
                                                          }});
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
                                                           EXPECT_FALSE(last.finished);
                                                           EXPECT_EQ(drain(w.s), (std::vector{1, 2, 7, 7}));
                                                           expect_whole(w);
                                                         },
                                                     .warm = [](world& w) { (void)w.b.put_for(7, 1us); }});
}

// `s` is shared with the dead: what that had taken is lost with it, and nothing else.
TEST(StepperBroadcast, Get) {
  step("subscriber.get", stepped<two>{.run = [](two& w) { (void)w.s.get(); },
                                      .check =
                                          [](two& w, const last_process& last) {
                                            auto all = drain_but_9(w.s);
                                            if (!last.finished && all.size() == 2) all.erase(all.begin());
                                            EXPECT_EQ(all, (std::vector{2}));
                                            expect_whole(w);
                                          },
                                      .while_stopped = expect_room});
}

TEST(StepperBroadcast, GetThatSleeps) {
  struct world : two {
    world() { drain(s); }
  };
  step("subscriber.get from an empty one", stepped<world>{.run = [](world& w) { (void)w.s.get(); },
                                                          .check =
                                                              [](world& w, const last_process& last) {
                                                                EXPECT_FALSE(last.finished);
                                                                expect_whole(w);
                                                              },
                                                          .warm = [](world& w) { (void)w.s.get_for(1us); },
                                                          .while_stopped = expect_room});
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
                                                             EXPECT_TRUE(got || !last.finished);
                                                             if (got) {
                                                               EXPECT_EQ(**got, 5);
                                                             }
                                                             for (int i = 0; i < 5; ++i) w.b.put(w.o);
                                                             EXPECT_EQ(**w.s.try_get(), 5);
                                                           }});
}

TEST(StepperBroadcast, Close) {
  step("broadcast.close(discard)", stepped<two>{.run = [](two& w) { w.b.close(covey::close_mode::discard); },
                                                .check =
                                                    [](two& w, const last_process& last) {
                                                      EXPECT_TRUE(!last.finished || w.b.closed());
                                                      w.b.close(covey::close_mode::discard);
                                                      EXPECT_EQ(w.s.get(), std::nullopt);
                                                    }});
}

}  // namespace
