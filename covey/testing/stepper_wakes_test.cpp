// Who wakes others, killed at each instruction while one of them sleeps: whatever was done before the death, nobody
// sleeps on for a thing that is there. The sleeper is a process that ends once it has what it waited for.
#include <gtest/gtest.h>
#include <chrono>
#include <covey/ipc.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/sync.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>
#include <covey/testing/victims.hpp>
#include <stdexcept>

namespace {

using namespace std::chrono_literals;
using covey::testing::eventually;
using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

constexpr covey::queue_options small{.items = 6, .bytes = 4096};
constexpr covey::queue_options for_one{.items = 1, .bytes = 4096};

// Of what somebody sleeps on, in `sleep`, as soon as he is let.
template <class Object, void (*sleep)(Object&)>
struct slept_on {
  Object on;
  covey::event go, awake;
  covey::process sleeper;

  template <class... Args>
  explicit slept_on(const Args&... args)
      : on{args...},
        sleeper(
            covey::process_options{.daemon = true},
            [](Object o, covey::event begin, covey::event begun) {
              begin.wait();
              begun.set();
              sleep(o);
            },
            on, go, awake) {}

  void let_sleep() {
    go.set();
    awake.wait();
    EXPECT_TRUE(covey::testing::until_asleep(sleeper));
  }
};

template <class World>
void let_sleep(World& w) {
  w.let_sleep();
}

// Takes the lock, also one whose owner died.
template <class Mutex>
void lock_or_recover(Mutex& m) {
  try {
    m.lock();
    m.unlock();
  } catch (const covey::owner_died&) {
    m.recover([] {});
  }
}

template <class World>
void expect_woken(World& w, const last_process&) {
  EXPECT_TRUE(w.sleeper.join().success());
}

// ---- locks: the death gives the lock up too ------------------------------------------------------------------------

template <class World>
void own_while_another_waits(World& w) {
  w.on.lock();
  w.let_sleep();
}

template <class World>
void lock_and_unlock(World& w) {
  w.on.lock();
  w.on.unlock();
}

// One more who looks after the lock, and dies with it; who sleeps may have it already.
template <class World>
void recover_now(World& w) {
  (void)w.on.recover_for(0s, [] {});
}

template <class World>
stepped<World> unlocking() {
  return {.run = [](World& w) { w.on.unlock(); },
          .check = expect_woken<World>,
          .recover = recover_now<World>,
          .warm = lock_and_unlock<World>,
          .before = own_while_another_waits<World>,
          .brief = true};
}

TEST(StepperWakes, MutexUnlock) {
  step("mutex.unlock for one who sleeps", unlocking<slept_on<covey::mutex, lock_or_recover>>());
}

TEST(StepperWakes, RecursiveMutexUnlock) {
  step("recursive_mutex.unlock for one who sleeps", unlocking<slept_on<covey::recursive_mutex, lock_or_recover>>());
}

TEST(StepperWakes, SharedMutexUnlock) {
  step("shared_mutex.unlock for a writer who sleeps", unlocking<slept_on<covey::shared_mutex, lock_or_recover>>());
}

void read_or_recover(covey::shared_mutex& m) {
  try {
    m.lock_shared();
    m.unlock_shared();
  } catch (const covey::owner_died&) {
    m.recover([] {});
  }
}

TEST(StepperWakes, SharedMutexUnlockForReaders) {
  step("shared_mutex.unlock for a reader who sleeps", unlocking<slept_on<covey::shared_mutex, read_or_recover>>());
}

TEST(StepperWakes, SharedMutexUnlockShared) {
  using world = slept_on<covey::shared_mutex, lock_or_recover>;
  step("shared_mutex.unlock_shared for a writer who sleeps",
       stepped<world>{.run = [](world& w) { w.on.unlock_shared(); },
                      .check = expect_woken<world>,
                      .recover = recover_now<world>,
                      .warm =
                          [](world& w) {
                            w.on.lock_shared();
                            w.on.unlock_shared();
                          },
                      .before =
                          [](world& w) {
                            w.on.lock_shared();
                            w.let_sleep();
                          },
                      .brief = true});
}

void acquire(covey::permits& p) { p.acquire(); }

struct one_permit : slept_on<covey::permits, acquire> {
  one_permit() : slept_on(1) {}
};

TEST(StepperWakes, PermitsRelease) {
  step("permits.release for one who sleeps",
       stepped<one_permit>{.run = [](one_permit& w) { w.on.release(); },
                           .check = expect_woken<one_permit>,
                           .recover = [](one_permit& w) { (void)w.on.try_acquire(); },
                           .warm =
                               [](one_permit& w) {
                                 w.on.acquire();
                                 w.on.release();
                               },
                           .before =
                               [](one_permit& w) {
                                 w.on.acquire();
                                 w.let_sleep();
                               },
                           .brief = true});
}

void arrive_and_wait(covey::barrier& b) {
  try {
    b.arrive_and_wait();
  } catch (const covey::broken_barrier&) {
  }
}

struct barrier_of_two : slept_on<covey::barrier, arrive_and_wait> {
  barrier_of_two() : slept_on(2) {}
};

// Dead before it enlisted, the barrier does not know of it: another arrives.
TEST(StepperWakes, BarrierArrive) {
  step("barrier.arrive, the last, for one who sleeps",
       stepped<barrier_of_two>{.run = [](barrier_of_two& w) { (void)w.on.arrive(); },
                               .check =
                                   [](barrier_of_two& w, const last_process& last) {
                                     if (!last.finished) {
                                       try {
                                         (void)w.on.arrive();
                                       } catch (const covey::broken_barrier&) {
                                       }
                                     }
                                     EXPECT_TRUE(w.sleeper.join().success());
                                   },
                               .before = let_sleep<barrier_of_two>});
}

// A phase that two end together: how often its end was told, and whether the one who sleeps saw the end.
struct meeting {
  covey::barrier b{2};
  covey::shared_ptr<int> ends = covey::make_shared<int>(0);
  covey::event seen{};
};

void meet(meeting& m) {
  try {
    m.b.arrive_and_wait([&] { ++*m.ends; });
    m.seen.set();
  } catch (const covey::broken_barrier&) {
  }
}

using met = slept_on<meeting, meet>;

// The last one ends the phase, or dies and breaks the barrier; dead before it enlisted, another comes instead of it.
TEST(StepperWakes, BarrierArriveAndWait) {
  step("barrier.arrive_and_wait, the last, for one who sleeps",
       stepped<met>{.run = [](met& w) { meet(w.on); },
                    .check =
                        [](met& w, const last_process& last) {
                          bool another_came = false;
                          try {
                            if (!last.finished) (void)w.on.b.arrive();
                            another_came = !last.finished;
                          } catch (const covey::broken_barrier&) {
                          }
                          EXPECT_TRUE(w.sleeper.join().success());
                          EXPECT_LE(*w.on.ends, another_came ? 0 : 1);
                          EXPECT_TRUE(!w.on.seen.is_set() || another_came || *w.on.ends == 1);
                          EXPECT_TRUE(w.on.seen.is_set() || !last.finished);
                        },
                    .warm =
                        [](met& w) {
                          covey::barrier alone{1};
                          alone.arrive_and_wait([&] { ++*w.on.ends; });
                        },
                    .before = let_sleep<met>});
}

// ---- what nobody owns: it was done, or another does it -------------------------------------------------------------

void acquire(covey::counting_semaphore<>& s) { s.acquire(); }

struct no_permit : slept_on<covey::counting_semaphore<>, acquire> {
  no_permit() : slept_on(0) {}
};

TEST(StepperWakes, SemaphoreRelease) {
  step("semaphore.release for one who sleeps",
       stepped<no_permit>{.run = [](no_permit& w) { w.on.release(); },
                          .check =
                              [](no_permit& w, const last_process& last) {
                                EXPECT_TRUE(eventually([&] { return w.on.count_approx() == 0; }));
                                if (!last.finished) w.on.release();
                                EXPECT_TRUE(w.sleeper.join().success());
                              },
                          .before = let_sleep<no_permit>});
}

void wait(covey::latch& l) { l.wait(); }

struct latch_of_one : slept_on<covey::latch, wait> {
  latch_of_one() : slept_on(1) {}
};

TEST(StepperWakes, LatchCountDown) {
  step("latch.count_down to 0 for one who sleeps",
       stepped<latch_of_one>{.run = [](latch_of_one& w) { w.on.count_down(); },
                             .check =
                                 [](latch_of_one& w, const last_process& last) {
                                   EXPECT_TRUE(w.on.try_wait() || !last.finished);
                                   if (!w.on.try_wait()) w.on.count_down();
                                   EXPECT_TRUE(w.sleeper.join().success());
                                 },
                             .before = let_sleep<latch_of_one>});
}

void arrive_and_wait(covey::latch& l) { l.arrive_and_wait(); }

struct latch_of_two : slept_on<covey::latch, arrive_and_wait> {
  latch_of_two() : slept_on(2) {}
};

// Counted once or not at all.
TEST(StepperWakes, LatchArriveAndWait) {
  step("latch.arrive_and_wait, the last, for one who sleeps",
       stepped<latch_of_two>{.run = [](latch_of_two& w) { w.on.arrive_and_wait(); },
                             .check =
                                 [](latch_of_two& w, const last_process& last) {
                                   EXPECT_TRUE(w.on.try_wait() || !last.finished);
                                   if (!w.on.try_wait()) w.on.count_down();
                                   EXPECT_TRUE(w.on.try_wait());
                                   EXPECT_TRUE(w.sleeper.join().success());
                                 },
                             .warm = [](latch_of_two& w) { w.on.count_down(2), w.on.wait(); },
                             .before = let_sleep<latch_of_two>});
}

struct signal {
  covey::mutex m{};
  covey::condition_variable c{};
  covey::shared_ptr<int> said = covey::make_shared<int>(0);
};

void hear(signal& s) {
  for (;;) {
    try {
      std::unique_lock lock(s.m);
      s.c.wait(lock, [&] { return *s.said != 0; });
      return;
    } catch (const covey::owner_died&) {
      s.m.recover([] {});
    }
  }
}

using heard = slept_on<signal, hear>;

void recover_signal(heard& w) {
  (void)w.on.m.recover_for(0s, [] {});
}

void say_again(heard& w, const last_process& last) {
  w.on.m.recover([] {});
  const int said = [&] {
    const std::scoped_lock lock(w.on.m);
    return *w.on.said;
  }();
  EXPECT_TRUE(said == 1 || !last.returned);
  if (said == 0) {
    *w.on.said = 1;
    w.on.c.notify_all();
  }
  EXPECT_TRUE(w.sleeper.join().success());
}

TEST(StepperWakes, ConditionNotifyOne) {
  step("condition.notify_one for one who sleeps", stepped<heard>{.run =
                                                                     [](heard& w) {
                                                                       {
                                                                         const std::scoped_lock lock(w.on.m);
                                                                         *w.on.said = 1;
                                                                       }
                                                                       w.on.c.notify_one();
                                                                     },
                                                                 .check = say_again,
                                                                 .recover = recover_signal,
                                                                 .before = let_sleep<heard>,
                                                                 .brief = true});
}

struct heard_by_two : heard {
  covey::event second_awake;
  covey::process second{covey::process_options{.daemon = true},
                        [](signal said, covey::event begin, covey::event begun) {
                          begin.wait();
                          begun.set();
                          hear(said);
                        },
                        on, go, second_awake};
};

TEST(StepperWakes, ConditionNotifyAll) {
  step("condition.notify_all for two who sleep",
       stepped<heard_by_two>{.run =
                                 [](heard_by_two& w) {
                                   {
                                     const std::scoped_lock lock(w.on.m);
                                     *w.on.said = 1;
                                   }
                                   w.on.c.notify_all();
                                 },
                             .check =
                                 [](heard_by_two& w, const last_process& last) {
                                   say_again(w, last);
                                   EXPECT_TRUE(w.second.join().success());
                                 },
                             .recover = recover_signal,
                             .before =
                                 [](heard_by_two& w) {
                                   w.let_sleep();
                                   w.second_awake.wait();
                                   EXPECT_TRUE(covey::testing::until_asleep(w.second));
                                 },
                             .brief = true});
}

// ---- queues --------------------------------------------------------------------------------------------------------

template <class Queue>
void get(Queue& q) {
  (void)q.get().value();
  q.task_done();
}

template <class Queue>
struct empty_one : slept_on<Queue, get<Queue>> {
  empty_one() : slept_on<Queue, get<Queue>>(small) {}
};

// Looks after the dead.
template <class World>
void look(World& w) {
  (void)w.on.size();
}

// What was put is got; if nothing was, another puts it.
template <class Queue>
stepped<empty_one<Queue>> putting() {
  using world = empty_one<Queue>;
  return {.run = [](world& w) { w.on.put(1); },
          .check =
              [](world& w, const last_process& last) {
                EXPECT_TRUE(eventually([&] { return w.on.size() == 0; }));
                if (!last.returned) w.on.put(2);
                EXPECT_TRUE(w.sleeper.join().success());
              },
          .recover = look<world>,
          .before = let_sleep<world>,
          .brief = true};
}

TEST(StepperWakes, QueuePut) { step("queue.put for one who sleeps", putting<covey::queue<int>>()); }

TEST(StepperWakes, PriorityQueuePut) {
  step("priority_queue.put for one who sleeps", putting<covey::priority_queue<int>>());
}

void put_another(covey::queue<int>& q) { q.put(2); }

struct full_one : slept_on<covey::queue<int>, put_another> {
  full_one() : slept_on(for_one) { on.put(1); }
};

TEST(StepperWakes, QueueGet) {
  step("queue.get for one who waits for room", stepped<full_one>{.run = [](full_one& w) { (void)w.on.get(); },
                                                                 .check =
                                                                     [](full_one& w, const last_process&) {
                                                                       int sum = 0;
                                                                       while (sum < 3) {
                                                                         sum += w.on.get().value();
                                                                         w.on.task_done();
                                                                       }
                                                                       EXPECT_EQ(sum, 3);
                                                                       EXPECT_TRUE(w.sleeper.join().success());
                                                                     },
                                                                 .recover = look<full_one>,
                                                                 .before = let_sleep<full_one>,
                                                                 .brief = true});
}

void join(covey::queue<int>& q) { q.join(); }

struct joined_one : slept_on<covey::queue<int>, join> {
  joined_one() : slept_on(small) { on.put(1); }
};

TEST(StepperWakes, QueueTaskDone) {
  step("queue.task_done for one who joins", stepped<joined_one>{.run = [](joined_one& w) { w.on.task_done(); },
                                                                .check =
                                                                    [](joined_one& w, const last_process& last) {
                                                                      EXPECT_TRUE(!last.returned || w.on.size() == 0);
                                                                      while (w.on.try_get()) w.on.task_done();
                                                                      EXPECT_TRUE(w.sleeper.join().success());
                                                                    },
                                                                .recover = look<joined_one>,
                                                                .warm =
                                                                    [](joined_one& w) {
                                                                      (void)w.on.get();
                                                                      w.on.task_done();
                                                                    },
                                                                .before =
                                                                    [](joined_one& w) {
                                                                      (void)w.on.get();
                                                                      w.let_sleep();
                                                                    },
                                                                .brief = true});
}

void get_the_end(covey::queue<int>& q) {
  if (q.get()) throw std::logic_error("a message, where only the end was to come");
}

struct ending : slept_on<covey::queue<int>, get_the_end> {
  ending() : slept_on(small) {}
};

TEST(StepperWakes, QueueClose) {
  step("queue.close for one who sleeps", stepped<ending>{.run = [](ending& w) { w.on.close(); },
                                                         .check =
                                                             [](ending& w, const last_process& last) {
                                                               EXPECT_TRUE(!last.returned || w.on.closed());
                                                               if (!last.returned) w.on.close();
                                                               EXPECT_TRUE(w.sleeper.join().success());
                                                             },
                                                         .recover = look<ending>,
                                                         .before = let_sleep<ending>,
                                                         .brief = true});
}

}  // namespace
