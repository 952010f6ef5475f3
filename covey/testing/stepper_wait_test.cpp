// Who waits for several things, and who wakes him, killed and stopped at their instructions. The others go on, and
// nobody sleeps through what comes then.
#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/room.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/testing/stepper.hpp>
#include <covey/testing/victims.hpp>

namespace {

using namespace std::chrono_literals;
using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

constexpr covey::queue_options small{.items = 6, .bytes = 4096};

struct several {
  covey::event e;
  covey::counting_semaphore<> s{0};
  covey::queue<int> q{small};
};

// One waits for them in a process of its own, and takes what he finds.
struct several_waited_for : several {
  covey::process waiter{covey::process_options{.daemon = true},
                        [](covey::event on, covey::counting_semaphore<> some, covey::queue<int> in) {
                          for (;;) {
                            const std::size_t i = covey::wait_any(on, some, in);
                            if (i == 0 || (i == 1 && some.try_acquire()) || (i == 2 && in.try_get())) return;
                          }
                        },
                        e, s, lane_of_this_thread()};
  several_waited_for() { EXPECT_TRUE(covey::testing::until_asleep(waiter)); }

 private:
  // Who is stopped while it takes its share of the room keeps others from taking theirs: this thread has its own.
  const covey::queue<int>& lane_of_this_thread() const {
    q.put(0);
    (void)q.get();
    q.task_done();
    return q;
  }
};

struct full_queue {
  covey::event e;
  covey::queue<int> q{small};
  full_queue() {
    while (q.try_put(1)) continue;
  }
};

// One waits for room in a process of its own, and takes it.
struct full_waited_for : full_queue {
  covey::process waiter{covey::process_options{.daemon = true},
                        [](covey::event on, covey::queue<int> out) {
                          do (void)covey::wait_any(on, covey::room{out});
                          while (!out.try_put(2));
                        },
                        e, q};
  full_waited_for() { EXPECT_TRUE(covey::testing::until_asleep(waiter)); }
};

// Looks after the dead.
template <class World>
void look(World& w) {
  (void)w.q.size();
}

// What the stopped or dead one had not done, another does.
template <class World, class Do>
void wakes_the_waiter(const std::string& name, const Do& once, const std::function<void(World&)>& recover = {}) {
  const auto again = [once](World& w) {
    once(w);
    EXPECT_TRUE(w.waiter.join().success());
  };
  step(name, stepped<World>{.run = once,
                            .check =
                                [again](World& w, const last_process& last) {
                                  if (last.finished)
                                    EXPECT_TRUE(w.waiter.join().success());
                                  else
                                    again(w);
                                },
                            .recover = recover,
                            .warm = once,
                            .while_stopped = again,
                            .brief = true});
}

TEST(StepperWaitAny, PutForOneWhoSleeps) {
  wakes_the_waiter<several_waited_for>(
      "queue.put for one in wait_any", [](several& w) { w.q.put(1); }, look<several_waited_for>);
}

TEST(StepperWaitAny, ReleaseForOneWhoSleeps) {
  wakes_the_waiter<several_waited_for>("semaphore.release for one in wait_any", [](several& w) { w.s.release(); });
}

TEST(StepperWaitAny, GetForOneWhoSleepsForRoom) {
  wakes_the_waiter<full_waited_for>(
      "queue.get for one in wait_any for room",
      [](full_queue& w) {
        (void)w.q.get();
        w.q.task_done();
      },
      look<full_waited_for>);
}

// The second sets nothing: the first must have said so, or died.
TEST(StepperWaitAny, SetForOneWhoSleeps) {
  step("event.set for one in wait_any", stepped<several_waited_for>{.run = [](several_waited_for& w) { w.e.set(); },
                                                                    .check =
                                                                        [](several_waited_for& w, const last_process&) {
                                                                          if (!w.e.is_set()) w.e.set();
                                                                          EXPECT_TRUE(w.waiter.join().success());
                                                                        }});
}

void find_what_comes(several& w) {
  w.q.put(1);
  EXPECT_EQ(covey::wait_any(w.e, w.s, w.q), 2U);
  EXPECT_EQ(w.q.try_get(), 1);
  w.q.task_done();
  w.s.release();
  EXPECT_EQ(covey::wait_any(w.e, w.s, w.q), 1U);
  w.s.acquire();
  w.e.set();
  EXPECT_EQ(covey::wait_any(w.e, w.s, w.q), 0U);
  w.e.clear();
}

TEST(StepperWaitAny, Sleep) {
  step("wait_any that sleeps",
       stepped<several>{.run = [](several& w) { (void)covey::wait_any(w.e, w.s, w.q); },
                        .check =
                            [](several& w, const last_process& last) {
                              EXPECT_FALSE(last.returned);
                              find_what_comes(w);
                            },
                        .warm = [](several& w) { (void)covey::wait_any_for(1us, w.e, w.s, w.q); },
                        .while_stopped = find_what_comes});
}

void find_room(full_queue& w) {
  EXPECT_EQ(covey::wait_any_for(0ns, w.e, covey::room{w.q}), std::nullopt);
  (void)w.q.get();
  w.q.task_done();
  EXPECT_EQ(covey::wait_any(w.e, covey::room{w.q}), 1U);
  EXPECT_TRUE(w.q.try_put(3));
  EXPECT_FALSE(w.q.try_put(4));
}

TEST(StepperWaitAny, SleepForRoom) {
  step("wait_any that sleeps for room",
       stepped<full_queue>{.run = [](full_queue& w) { (void)covey::wait_any(w.e, covey::room{w.q}); },
                           .check =
                               [](full_queue& w, const last_process& last) {
                                 EXPECT_FALSE(last.returned);
                                 find_room(w);
                               },
                           .warm = [](full_queue& w) { (void)covey::wait_any_for(1us, w.e, covey::room{w.q}); },
                           .while_stopped = find_room});
}

}  // namespace
