// Messages that name shared objects, killed at each instruction of who puts, gets or drops them: when the messages are
// done, nothing keeps the objects any more, though the queue lives on; and what is still to be got names an object that
// is there.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/memory/weak_ptr.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>

#include <chrono>
#include <optional>

namespace {

using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

using handle = covey::shared_ptr<int>;

constexpr covey::queue_options small{.items = 6, .bytes = 4096};
constexpr covey::queue_options dropping{.items = 6, .bytes = 4096, .on_death = covey::in_flight_policy::drop};

// Holds `waiting` messages, each with the same object.
template <class Queue, int waiting, bool drops = false>
struct world {
  Queue q{drops ? dropping : small};
  handle o{covey::make_shared<int>(5)};
  covey::weak_ptr<int> seen{o};
  world() {
    for (int n = 0; n < waiting; ++n) q.put(o);
  }
};

void expect_nobody_keeps(handle& o, const covey::weak_ptr<int>& seen) {
  o = nullptr;
  EXPECT_TRUE(covey::testing::eventually([&] { return seen.expired(); }));
}

// All that is there can be used, `least` to `most` messages; then the object is gone.
template <class World>
void expect_got_and_gone(World& w, std::size_t least, std::size_t most) {
  std::size_t got = 0;
  while (const auto o = w.q.try_get()) {
    EXPECT_EQ(**o, 5);
    ++got;
    w.q.task_done();
  }
  EXPECT_GE(got, least);
  EXPECT_LE(got, most);
  expect_nobody_keeps(w.o, w.seen);
}

template <class World>
void look(World& w) {
  (void)w.q.size();
}

template <class Queue>
struct StepperReferences : ::testing::Test {};

struct names {
  template <class Queue>
  static std::string GetName(int) {
    return std::is_same_v<Queue, covey::queue<handle>> ? "queue" : "lifo_queue";
  }
};
using queues = ::testing::Types<covey::queue<handle>, covey::lifo_queue<handle>>;
TYPED_TEST_SUITE(StepperReferences, queues, names);

TYPED_TEST(StepperReferences, Put) {
  using none = world<TypeParam, 0>;
  step(names::GetName<TypeParam>(0) + ".put of a shared_ptr",
       stepped<none>{
           .run = [](none& w) { w.q.put(w.o); },
           .check = [](none& w, const last_process& last) { expect_got_and_gone(w, last.returned ? 1 : 0, 1); },
           .recover = look<none>});
}

TYPED_TEST(StepperReferences, Get) {
  using two = world<TypeParam, 2>;
  step(names::GetName<TypeParam>(0) + ".get of a shared_ptr",
       stepped<two>{.run = [](two& w) { (void)w.q.get(); },
                    .check = [](two& w, const last_process&) { expect_got_and_gone(w, 2, 2); },
                    .recover = look<two>});
}

TYPED_TEST(StepperReferences, TaskDone) {
  using two = world<TypeParam, 2>;
  step(names::GetName<TypeParam>(0) + ".task_done of a shared_ptr",
       stepped<two>{.run = [](two& w) { w.q.task_done(); },
                    .check = [](two& w, const last_process& last) { expect_got_and_gone(w, 1, last.returned ? 1 : 2); },
                    .recover = look<two>,
                    .warm =
                        [](two& w) {
                          (void)w.q.get();
                          w.q.task_done();
                        },
                    .before = [](two& w) { (void)w.q.get(); }});
}

TYPED_TEST(StepperReferences, GetThatDrops) {
  using two = world<TypeParam, 2, true>;
  step(names::GetName<TypeParam>(0) + ".get of a shared_ptr, dropped at death",
       stepped<two>{.run = [](two& w) { (void)w.q.get(); },
                    .check = [](two& w, const last_process&) { expect_got_and_gone(w, 1, 2); },
                    .recover = look<two>});
}

TYPED_TEST(StepperReferences, Discard) {
  using two = world<TypeParam, 2>;
  step(names::GetName<TypeParam>(0) + ".close(discard) with shared_ptrs",
       stepped<two>{.run = [](two& w) { w.q.close(covey::close_mode::discard); },
                    .check =
                        [](two& w, const last_process&) {
                          w.q.close(covey::close_mode::discard);
                          expect_nobody_keeps(w.o, w.seen);
                        },
                    .recover = look<two>});
}

// Once round the ring of slots: where one was done another message lies, and names an object that nobody else keeps.
void go_round(covey::queue<handle>& q) {
  constexpr int slots = 128;  // of a lane, in a queue of six
  (void)q.size();
  while (q.try_get()) q.task_done();
  for (int n = 2; n < slots; ++n) {
    q.put(handle{});
    (void)q.get();
    q.task_done();
  }
  q.put(covey::make_shared<int>(5));
  q.put(covey::make_shared<int>(5));
}

// Who looks after the dead is stopped, and finds other messages where it looked when it goes on.
TEST(StepperReferencesOfAQueue, TaskDoneThenASweeperThatStops) {
  using two = world<covey::queue<handle>, 2>;
  step("queue.task_done of a shared_ptr, its sweeper stopped",
       stepped<two>{.run = [](two& w) { w.q.task_done(); },
                    .check = [](two& w, const last_process&) { expect_got_and_gone(w, 2, 2); },
                    .recover = look<two>,
                    .warm =
                        [](two& w) {
                          (void)w.q.get();
                          w.q.task_done();
                        },
                    .before = [](two& w) { (void)w.q.get(); },
                    .while_stopped = [](two& w) { go_round(w.q); },
                    .goes_on = true});
}

// One message is kept for two subscribers, of whom one has got it.
struct told {
  covey::broadcast<handle> b{{.items = 2, .bytes = 4096}};
  covey::subscriber<handle> first{b.subscribe()};
  covey::subscriber<handle> second{b.subscribe()};
  handle o{covey::make_shared<int>(5)};
  covey::weak_ptr<int> seen{o};
};

struct told_one : told {
  told_one() {
    b.put(o);
    (void)first.get();
  }
};

// Whoever is left gets what was told, once, and then the object is gone.
void expect_told_and_gone(told& w, bool must) {
  bool got = false;
  while (const auto o = w.second.try_get()) {
    EXPECT_EQ(**o, 5);
    got = true;
  }
  EXPECT_TRUE(got || !must);
  while (w.first.try_get()) {
  }
  expect_nobody_keeps(w.o, w.seen);
}

TEST(StepperReferencesOfABroadcast, Put) {
  step("broadcast.put of a shared_ptr for two",
       stepped<told>{.run = [](told& w) { w.b.put(w.o); },
                     .check = [](told& w, const last_process& last) { expect_told_and_gone(w, last.returned); },
                     .recover = [](told& w) { (void)w.first.try_get(); }});
}

TEST(StepperReferencesOfABroadcast, PutThatOverwrites) {
  step("broadcast.put of a shared_ptr that pushes another out",
       stepped<told>{.run =
                         [](told& w) {
                           w.b.put(w.o);
                           w.b.put(w.o);
                         },
                     .check = [](told& w, const last_process&) { expect_told_and_gone(w, true); },
                     .recover = [](told& w) { (void)w.b.try_put(w.o); },
                     .before = [](told& w) { w.b.put(w.o); },
                     .brief = true});
}

TEST(StepperReferencesOfABroadcast, Get) {
  step("subscriber.get of the last one's shared_ptr",
       stepped<told_one>{.run = [](told_one& w) { (void)w.second.get(); },
                         .check = [](told_one& w, const last_process&) { expect_told_and_gone(w, false); },
                         .recover = [](told_one& w) { (void)w.first.try_get(); },
                         .brief = true});
}

// The only subscriber leaves. It is stopped while it lets go of what only it had not got, and another comes.
struct told_nobody {
  covey::broadcast<handle> b{{.items = 4, .bytes = 4096}};
  handle o{covey::make_shared<int>(5)};
  covey::weak_ptr<int> seen{o};
  std::optional<covey::subscriber<handle>> listener{};
  bool must_get = false;
};

void be_told(told_nobody& w) {
  w.listener.emplace(w.b.subscribe());
  w.b.put(w.o);
}

TEST(StepperReferencesOfABroadcast, LeavingOfAStoppedOne) {
  step("subscriber.~subscriber with a shared_ptr it had not got, stopped",
       stepped<told_nobody>{.run = [](told_nobody& w) { w.listener.reset(); },
                            .check =
                                [](told_nobody& w, const last_process&) {
                                  bool got = false;
                                  while (const auto o = w.listener->try_get()) got = *o && **o == 5;
                                  EXPECT_TRUE(got || !w.must_get);
                                  w.listener.reset();
                                  expect_nobody_keeps(w.o, w.seen);
                                },
                            .warm =
                                [](told_nobody& w) {
                                  be_told(w);
                                  w.listener.reset();
                                },
                            .before = be_told,
                            .while_stopped =
                                [](told_nobody& w) {
                                  w.listener.emplace(w.b.subscribe());
                                  w.must_get = w.b.put_for(covey::make_shared<int>(5), std::chrono::seconds(0));
                                },
                            .goes_on = true});
}

}  // namespace
