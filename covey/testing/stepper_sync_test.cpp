// The operations of covey/sync, killed at their instructions. What must hold after each is in `check`.
#include <gtest/gtest.h>
#include <covey/process/process.hpp>
#include <covey/sync/deadlock.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/sync/shared_mutex.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/sleepers.hpp>
#include <covey/testing/stepper.hpp>
#include <covey/testing/victims.hpp>

#include <cstdlib>

namespace {

using namespace std::chrono_literals;
using covey::testing::eventually;
using covey::testing::in_one_that_dies;
using covey::testing::last_process;
using covey::testing::says_that_it_waits_for;
using covey::testing::step;
using covey::testing::stepped;

// ---- mutex
// -----------------------------------------------------------------------------------------------------------

struct free_mutex {
  covey::mutex m;
};

struct mutex_of_the_dead {
  covey::mutex m;
  mutex_of_the_dead() {
    in_one_that_dies([this] { m.lock(); });
  }
};

struct mutex_of_another {
  covey::mutex m;
  mutex_of_another() { m.lock(); }
};

bool says_owner_died(covey::mutex& m) {
  try {
    if (m.try_lock()) m.unlock();
    return false;
  } catch (const covey::owner_died&) {
    return true;
  }
}

// Whatever became of the owners: recover() makes it whole, and it stays so.
void expect_usable(covey::mutex& m) {
  EXPECT_EQ(says_owner_died(m), m.needs_recovery_approx());
  EXPECT_EQ(m.recover([] {}), says_owner_died(m)) << "asked in this order: it is whole now";
  EXPECT_FALSE(m.needs_recovery_approx());
  EXPECT_TRUE(m.try_lock());
  m.unlock();
  EXPECT_TRUE(m.lock_for(1h));
  m.unlock();
}

template <class World>
void recover(World& w) {
  w.m.recover([] {});
}

template <class World>
void recover_in_time(World& w) {
  (void)w.m.recover_for(1h, [] {});
}

// It owns the mutex once it returned, and died with it. Who repaired it to the end has given it up.
template <class World>
void expect_died_as_owner(World& w, const last_process& last) {
  if (last.finished) {
    EXPECT_EQ(says_owner_died(w.m), !last.followed);
  }
  w.m.recover([] {});
  expect_usable(w.m);
}

TEST(StepperMutex, Lock) {
  step("mutex.lock",
       stepped<free_mutex>{.run = [](free_mutex& w) { w.m.lock(); }, .check = expect_died_as_owner<free_mutex>});
  // What the first owner's death left is repaired, or not, by those who die after it.
  step("mutex.lock, repaired", stepped<free_mutex>{.run = [](free_mutex& w) { w.m.lock(); },
                                                   .check =
                                                       [](free_mutex& w, const last_process&) {
                                                         w.m.recover([] {});
                                                         expect_usable(w.m);
                                                       },
                                                   .recover = recover<free_mutex>});
}

TEST(StepperMutex, TryLock) {
  step("mutex.try_lock", stepped<free_mutex>{.run = [](free_mutex& w) { (void)w.m.try_lock(); },
                                             .check = expect_died_as_owner<free_mutex>,
                                             .recover = recover_in_time<free_mutex>,
                                             .brief = true});
}

TEST(StepperMutex, LockFor) {
  step("mutex.lock_for", stepped<free_mutex>{.run = [](free_mutex& w) { (void)w.m.lock_for(1h); },
                                             .check = expect_died_as_owner<free_mutex>,
                                             .recover = recover_in_time<free_mutex>,
                                             .brief = true});
}

template <class World>
stepped<World> locked_and_unlocked() {
  return {.run =
              [](World& w) {
                w.m.lock();
                w.m.unlock();
              },
          .check =
              [](World& w, const last_process& last) {
                if (last.finished) {
                  EXPECT_FALSE(says_owner_died(w.m));
                }
                w.m.recover([] {});
                expect_usable(w.m);
              },
          .recover = recover<World>};
}

TEST(StepperMutex, Unlock) { step("mutex.lock+unlock", locked_and_unlocked<free_mutex>()); }

// Killed on its way to sleep and in its sleep: the owner goes on, and so does who comes after it.
TEST(StepperMutex, LockThatSleeps) {
  step("mutex.lock of another's",
       stepped<mutex_of_another>{.run = [](mutex_of_another& w) { w.m.lock(); },
                                 .check =
                                     [](mutex_of_another& w, const last_process& last) {
                                       EXPECT_FALSE(last.returned);
                                       w.m.unlock();
                                       expect_usable(w.m);
                                     },
                                 .warm = [](mutex_of_another& w) { (void)w.m.lock_for(1us); },
                                 .while_stopped =
                                     [](mutex_of_another& w) {
                                       w.m.unlock();
                                       w.m.lock();
                                     }});
}

TEST(StepperMutex, LockThatTimesOut) {
  step("mutex.lock_for 1us of another's",
       stepped<mutex_of_another>{.run = [](mutex_of_another& w) { (void)w.m.lock_for(1us); },
                                 .check =
                                     [](mutex_of_another& w, const last_process&) {
                                       w.m.unlock();
                                       expect_usable(w.m);
                                     }});
}

TEST(StepperMutex, Recover) {
  step("mutex.recover", stepped<mutex_of_the_dead>{.run = recover<mutex_of_the_dead>,
                                                   .check =
                                                       [](mutex_of_the_dead& w, const last_process& last) {
                                                         EXPECT_TRUE(!last.finished || !says_owner_died(w.m));
                                                         w.m.recover([] {});
                                                         expect_usable(w.m);
                                                       },
                                                   .recover = recover<mutex_of_the_dead>});
}

// Nobody hears of what a process that is stepped expects, but of its end.
template <class Exception, class F>
void throws_or_aborts(const F& f) {
  if (!covey::testing::throws<Exception>(f)) std::abort();
}

// A throw has tens of thousands of instructions; what comes before it matters.
TEST(StepperMutex, LockThatThrowsOwnerDied) {
  const auto lock = [](mutex_of_the_dead& w) { throws_or_aborts<covey::owner_died>([&] { w.m.lock(); }); };
  step("mutex.lock that throws owner_died",
       stepped<mutex_of_the_dead>{.run = lock,
                                  .check =
                                      [](mutex_of_the_dead& w, const last_process& last) {
                                        EXPECT_TRUE(last.followed || says_owner_died(w.m));
                                        EXPECT_FALSE(last.followed && last.finished && says_owner_died(w.m));
                                        w.m.recover([] {});
                                        expect_usable(w.m);
                                      },
                                  .recover = recover<mutex_of_the_dead>,
                                  .brief = true});
}

// ---- locks that look for deadlocks
// --------------------------------------------------------------------------------------

constexpr covey::mutex_options looks{.detect_deadlock = true};

struct watched_mutex {
  covey::mutex m{looks};
};

TEST(StepperWatched, Unlock) {
  auto operation = locked_and_unlocked<watched_mutex>();
  operation.brief = true;
  step("watched mutex.lock+unlock", operation);
}

// What the dead said of their waits is believed by nobody: who comes to a lock of theirs hears of the death, and of no
// deadlock.
TEST(StepperWatched, LockThatSleeps) {
  struct world : watched_mutex {
    covey::mutex of_the_dead{looks};
    world() { m.lock(); }
  };
  step("watched mutex.lock of another's", stepped<world>{.run = [](world& w) { w.m.lock(); },
                                                         .check =
                                                             [](world& w, const last_process& last) {
                                                               EXPECT_FALSE(last.returned);
                                                               EXPECT_THROW(w.of_the_dead.lock(), covey::owner_died);
                                                               EXPECT_TRUE(w.of_the_dead.recover([] {}));
                                                               w.m.unlock();
                                                               expect_usable(w.m);
                                                             },
                                                         .warm = [](world& w) { (void)w.m.lock_for(1us); },
                                                         .before = [](world& w) { w.of_the_dead.lock(); }});
}

TEST(StepperWatched, LockOfSeveralReaders) {
  struct world {
    covey::shared_mutex m{looks};
    world() { m.lock_shared(); }
  };
  step("watched shared_mutex.lock while read", stepped<world>{.run = [](world& w) { w.m.lock(); },
                                                              .check =
                                                                  [](world& w, const last_process& last) {
                                                                    EXPECT_FALSE(last.returned);
                                                                    w.m.unlock_shared();
                                                                    EXPECT_TRUE(w.m.try_lock());
                                                                    w.m.unlock();
                                                                  },
                                                              .warm = [](world& w) { (void)w.m.lock_for(1us); }});
}

// Each of two owns what the other waits for, and the one who finds it is killed: the other gets both. It is stopped
// until then, for it looks again, too, and says anew that it waits.
struct circle {
  covey::mutex own{looks}, of_the_other{looks};
  covey::event go, has_it;
  covey::process other{covey::process_options{.daemon = true},
                       [](covey::mutex first, covey::mutex second, covey::event begin, covey::event begun) {
                         first.lock();
                         begun.set();
                         begin.wait();
                         try {
                           second.lock();
                           second.unlock();
                         } catch (const covey::owner_died&) {
                           second.recover([] {});
                         }
                         first.unlock();
                       },
                       of_the_other,
                       own,
                       go,
                       has_it};

  void begin() {
    own.lock();
    has_it.wait();
    go.set();
    EXPECT_TRUE(eventually([&] { return says_that_it_waits_for(other, own.number()); }));
    EXPECT_TRUE(covey::testing::stop_and_wait(other));
  }

  void close() {
    throws_or_aborts<covey::deadlock_detected>([&] { of_the_other.lock(); });
  }
};

TEST(StepperWatched, LockThatFindsADeadlock) {
  step("mutex.lock that finds a deadlock", stepped<circle>{.run = [](circle& w) { w.close(); },
                                                           .check =
                                                               [](circle& w, const last_process& last) {
                                                                 EXPECT_FALSE(last.slept);
                                                                 ::kill(w.other.pid(), SIGCONT);
                                                                 EXPECT_TRUE(w.other.join().success());
                                                                 EXPECT_TRUE(w.own.try_lock());
                                                                 w.own.unlock();
                                                                 expect_usable(w.of_the_other);
                                                               },
                                                           .warm =
                                                               [](circle& w) {
                                                                 w.begin();
                                                                 w.close();
                                                               },
                                                           .before = [](circle& w) { w.begin(); }});
}

// ---- event
// -----------------------------------------------------------------------------------------------------------

struct one_event {
  covey::event e;
};

struct set_event {
  covey::event e;
  set_event() { e.set(); }
};

void expect_usable(covey::event& e) {
  e.clear();
  EXPECT_FALSE(e.is_set());
  EXPECT_FALSE(e.wait_for(1us));
  e.set();
  EXPECT_TRUE(e.is_set());
  e.wait();
}

TEST(StepperEvent, Set) {
  step("event.set", stepped<one_event>{.run = [](one_event& w) { w.e.set(); },
                                       .check =
                                           [](one_event& w, const last_process& last) {
                                             EXPECT_TRUE(!last.finished || w.e.is_set());
                                             expect_usable(w.e);
                                           }});
}

// The setter dies between its store and its wake: the sleeper is woken by the death.
TEST(StepperEvent, SetForOneWhoSleeps) {
  struct world {
    covey::event e;
    covey::event woken;
    covey::process sleeper{covey::process_options{.daemon = true},
                           [](covey::event in, covey::event out) {
                             in.wait();
                             out.set();
                           },
                           e, woken};
  };
  step("event.set for one who sleeps", stepped<world>{.run = [](world& w) { w.e.set(); },
                                                      .check =
                                                          [](world& w, const last_process& last) {
                                                            EXPECT_TRUE(!last.finished || w.e.is_set());
                                                            if (w.e.is_set()) {
                                                              w.woken.wait();
                                                            }
                                                          }});
}

TEST(StepperEvent, Clear) {
  step("event.clear", stepped<set_event>{.run = [](set_event& w) { w.e.clear(); },
                                         .check =
                                             [](set_event& w, const last_process& last) {
                                               EXPECT_TRUE(!last.finished || !w.e.is_set());
                                               expect_usable(w.e);
                                             }});
}

TEST(StepperEvent, Wait) {
  step("event.wait of a set one", stepped<set_event>{.run = [](set_event& w) { w.e.wait(); },
                                                     .check =
                                                         [](set_event& w, const last_process&) {
                                                           EXPECT_TRUE(w.e.is_set());
                                                           expect_usable(w.e);
                                                         }});
  step("event.wait that sleeps", stepped<one_event>{.run = [](one_event& w) { w.e.wait(); },
                                                    .check =
                                                        [](one_event& w, const last_process& last) {
                                                          EXPECT_FALSE(last.returned);
                                                          EXPECT_FALSE(w.e.is_set());
                                                          expect_usable(w.e);
                                                        },
                                                    .warm = [](one_event& w) { (void)w.e.wait_for(1us); }});
}

}  // namespace
