// The operations of covey/sync beyond mutex and event, killed at their instructions. What must hold after each is in
// `check`.
#include <gtest/gtest.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::in_one_that_dies;
using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

// ---- recursive_mutex, shared_mutex ---------------------------------------------------------------------------------

// A thread that is not the owner.
template <class Mutex>
bool others_can_lock(Mutex& m) {
  bool could = false;
  std::thread([&] {
    could = m.try_lock();
    if (could) m.unlock();
  }).join();
  return could;
}

template <class World>
void recover(World& w) {
  w.m.recover([] {});
}

struct recursive_world {
  covey::recursive_mutex m;
};

TEST(StepperRecursiveMutex, LockTwiceAndUnlock) {
  step("recursive_mutex.lock twice, unlock twice",
       stepped<recursive_world>{.run =
                                    [](recursive_world& w) {
                                      w.m.lock();
                                      w.m.lock();
                                      w.m.unlock();
                                      w.m.unlock();
                                    },
                                .check =
                                    [](recursive_world& w, const last_process& last) {
                                      if (last.finished) {
                                        EXPECT_FALSE(w.m.needs_recovery_approx());
                                      }
                                      w.m.recover([] {});
                                      EXPECT_TRUE(w.m.try_lock());
                                      w.m.unlock();
                                      EXPECT_TRUE(others_can_lock(w.m));
                                    },
                                .recover = recover<recursive_world>,
                                .brief = true});
}

// Its owner is dead, and had locked it twice.
struct recursive_of_the_dead : recursive_world {
  recursive_of_the_dead() {
    in_one_that_dies([this] {
      m.lock();
      m.lock();
    });
  }
};

TEST(StepperRecursiveMutex, Recover) {
  using world = recursive_of_the_dead;
  step("recursive_mutex.recover", stepped<world>{.run = recover<world>,
                                                 .check =
                                                     [](world& w, const last_process& last) {
                                                       EXPECT_TRUE(!last.finished || !w.m.needs_recovery_approx());
                                                       w.m.recover([] {});
                                                       EXPECT_FALSE(w.m.needs_recovery_approx());
                                                       EXPECT_TRUE(w.m.try_lock());
                                                       EXPECT_TRUE(w.m.try_lock());
                                                       w.m.unlock();
                                                       EXPECT_FALSE(others_can_lock(w.m));
                                                       w.m.unlock();
                                                       EXPECT_TRUE(others_can_lock(w.m));
                                                     },
                                                 .recover = recover<world>});
}

struct shared_world {
  covey::shared_mutex m;
};

void expect_usable(shared_world& w) {
  w.m.recover([] {});
  EXPECT_TRUE(w.m.try_lock_shared());
  w.m.unlock_shared();
  EXPECT_TRUE(w.m.try_lock());
  w.m.unlock();
}

// A writer, who forgets readers that died.
void write(shared_world& w) {
  try {
    w.m.lock();
    w.m.unlock();
  } catch (const covey::owner_died&) {
    w.m.recover([] {});
  }
}

TEST(StepperSharedMutex, LockShared) {
  step("shared_mutex.lock_shared", stepped<shared_world>{.run = [](shared_world& w) { w.m.lock_shared(); },
                                                         .check =
                                                             [](shared_world& w, const last_process& last) {
                                                               if (!last.followed || last.finished) {
                                                                 EXPECT_FALSE(w.m.needs_recovery_approx());
                                                                 EXPECT_TRUE(w.m.try_lock());
                                                                 w.m.unlock();
                                                               }
                                                               expect_usable(w);
                                                             },
                                                         .recover = write,
                                                         .brief = true});
}

TEST(StepperSharedMutex, LockSharedAndUnlock) {
  step("shared_mutex.lock_shared+unlock", stepped<shared_world>{.run =
                                                                    [](shared_world& w) {
                                                                      w.m.lock_shared();
                                                                      w.m.unlock_shared();
                                                                    },
                                                                .check =
                                                                    [](shared_world& w, const last_process&) {
                                                                      EXPECT_FALSE(w.m.needs_recovery_approx());
                                                                      expect_usable(w);
                                                                    },
                                                                .recover = recover<shared_world>,
                                                                .brief = true});
}

TEST(StepperSharedMutex, Lock) {
  const auto lock = [](shared_world& w) { w.m.lock(); };
  step("shared_mutex.lock", stepped<shared_world>{.run = lock, .check = [](shared_world& w, const last_process& last) {
                                                    if (last.finished) {
                                                      EXPECT_TRUE(w.m.needs_recovery_approx());
                                                    }
                                                    expect_usable(w);
                                                  }});
  step("shared_mutex.lock, repaired",
       stepped<shared_world>{.run = lock,
                             .check = [](shared_world& w, const last_process&) { expect_usable(w); },
                             .recover = recover<shared_world>});
}

TEST(StepperSharedMutex, LockAndUnlock) {
  step("shared_mutex.lock+unlock", stepped<shared_world>{.run =
                                                             [](shared_world& w) {
                                                               w.m.lock();
                                                               w.m.unlock();
                                                             },
                                                         .check =
                                                             [](shared_world& w, const last_process& last) {
                                                               if (last.finished) {
                                                                 EXPECT_FALSE(w.m.needs_recovery_approx());
                                                               }
                                                               expect_usable(w);
                                                             },
                                                         .recover = write,
                                                         .brief = true});
}

struct shared_of_the_dead : shared_world {
  shared_of_the_dead() {
    in_one_that_dies([this] { m.lock(); });
  }
};

TEST(StepperSharedMutex, Recover) {
  using world = shared_of_the_dead;
  step("shared_mutex.recover", stepped<world>{.run = recover<world>,
                                              .check =
                                                  [](world& w, const last_process& last) {
                                                    EXPECT_TRUE(!last.finished || !w.m.needs_recovery_approx());
                                                    expect_usable(w);
                                                    EXPECT_FALSE(w.m.needs_recovery_approx());
                                                  },
                                              .recover = recover<world>});
}

// ---- semaphore, permits, latch, once
// ---------------------------------------------------------------------------------

struct semaphore_world {
  covey::counting_semaphore<> s{1};
};

TEST(StepperSemaphore, AcquireAndRelease) {
  step("semaphore.acquire", stepped<semaphore_world>{.run = [](semaphore_world& w) { w.s.acquire(); },
                                                     .check =
                                                         [](semaphore_world& w, const last_process& last) {
                                                           EXPECT_LE(w.s.count_approx(), last.finished ? 0 : 1);
                                                           w.s.release();
                                                           EXPECT_TRUE(w.s.try_acquire());
                                                         }});
  step("semaphore.release", stepped<semaphore_world>{.run = [](semaphore_world& w) { w.s.release(); },
                                                     .check =
                                                         [](semaphore_world& w, const last_process& last) {
                                                           EXPECT_GE(w.s.count_approx(), last.finished ? 2 : 1);
                                                           EXPECT_TRUE(w.s.try_acquire());
                                                         }});
}

struct permits_world {
  covey::permits p{2};
};

TEST(StepperPermits, AcquireAndRelease) {
  const auto all_came_back = [](permits_world& w, const last_process&) {
    EXPECT_EQ(w.p.available_approx(), 2);
    EXPECT_TRUE(w.p.try_acquire());
    EXPECT_TRUE(w.p.try_acquire());
    EXPECT_FALSE(w.p.try_acquire());
    w.p.release();
    w.p.release();
  };
  // Who takes all takes those of the dead too, and dies with them.
  const auto take_all = [](permits_world& w) {
    (void)w.p.try_acquire();
    (void)w.p.try_acquire();
  };
  step("permits.acquire",
       stepped<permits_world>{
           .run = [](permits_world& w) { w.p.acquire(); }, .check = all_came_back, .recover = take_all, .brief = true});
  step("permits.acquire+release", stepped<permits_world>{.run =
                                                             [](permits_world& w) {
                                                               w.p.acquire();
                                                               w.p.release();
                                                             },
                                                         .check = all_came_back,
                                                         .recover = take_all,
                                                         .brief = true});
}

struct latch_world {
  covey::latch l{2};
};

TEST(StepperLatch, CountDown) {
  step("latch.count_down", stepped<latch_world>{.run = [](latch_world& w) { w.l.count_down(); },
                                                .check =
                                                    [](latch_world& w, const last_process& last) {
                                                      EXPECT_FALSE(w.l.try_wait());
                                                      w.l.count_down();
                                                      EXPECT_TRUE(w.l.try_wait() || !last.finished);
                                                    }});
}

TEST(StepperLatch, WaitThatSleeps) {
  step("latch.wait that sleeps", stepped<latch_world>{.run = [](latch_world& w) { w.l.wait(); },
                                                      .check =
                                                          [](latch_world& w, const last_process& last) {
                                                            EXPECT_FALSE(last.returned);
                                                            w.l.count_down();
                                                            EXPECT_FALSE(w.l.try_wait());
                                                            w.l.count_down();
                                                            w.l.wait();
                                                            EXPECT_TRUE(w.l.try_wait());
                                                          },
                                                      .warm = [](latch_world& w) { (void)w.l.wait_for(1us); }});
  step("latch.arrive_and_wait that sleeps", stepped<latch_world>{.run = [](latch_world& w) { w.l.arrive_and_wait(); },
                                                                 .check =
                                                                     [](latch_world& w, const last_process& last) {
                                                                       EXPECT_FALSE(last.returned);
                                                                       w.l.count_down();
                                                                       const bool was_counted = w.l.try_wait();
                                                                       EXPECT_TRUE(was_counted || !last.slept);
                                                                       if (!was_counted) w.l.count_down();
                                                                       w.l.wait();
                                                                     },
                                                                 .warm =
                                                                     [](latch_world& w) {
                                                                       w.l.count_down();
                                                                       (void)w.l.wait_for(1us);
                                                                     }});
}

struct once_world {
  covey::once_flag flag;
  covey::shared_ptr<bool> has_run = covey::make_shared<bool>(false);
};

void run_once(once_world& w) {
  covey::call_once(w.flag, [&] { *w.has_run = true; });
}

TEST(StepperOnce, CallOnce) {
  step("call_once", stepped<once_world>{.run = run_once,
                                        .check =
                                            [](once_world& w, const last_process& last) {
                                              const bool before = w.flag.done();
                                              EXPECT_TRUE(before || !last.returned);
                                              EXPECT_TRUE(*w.has_run || !before) << "done, and nobody did it";
                                              bool ran = false;
                                              covey::call_once(w.flag, [&] { ran = true; });
                                              EXPECT_EQ(ran, !before);
                                              EXPECT_TRUE(w.flag.done());
                                            },
                                        .recover = run_once,
                                        .brief = true});
}

// ---- condition_variable
// ----------------------------------------------------------------------------------------------

struct condition_world {
  covey::mutex m;
  covey::condition_variable c;
};

void recover_and_notify(condition_world& w) {
  w.m.recover([] {});
  w.c.notify_all();
}

TEST(StepperCondition, WaitAndNotify) {
  const auto usable = [](condition_world& w, const last_process&) {
    w.m.recover([] {});
    std::unique_lock lock(w.m);
    EXPECT_EQ(w.c.wait_for(lock, 0ns), std::cv_status::timeout);
    EXPECT_TRUE(lock.owns_lock());
    w.c.notify_all();
  };
  step("condition.notify_one",
       stepped<condition_world>{.run = [](condition_world& w) { w.c.notify_one(); }, .check = usable});
  step("condition.wait_for", stepped<condition_world>{.run =
                                                          [](condition_world& w) {
                                                            std::unique_lock lock(w.m);
                                                            (void)w.c.wait_for(lock, 0ns);
                                                          },
                                                      .check = usable,
                                                      .recover = recover_and_notify,
                                                      .brief = true});
}

// ---- barrier
// -----------------------------------------------------------------------------------------------------------

struct barrier_world {
  covey::barrier b{2};
};

// Finds the dead party, and says so to all.
void come_too(barrier_world& w) {
  try {
    (void)w.b.arrive();
  } catch (const covey::broken_barrier&) {
  }
}

// Dead before it enlisted, it is unknown; afterwards the barrier is broken, unless it left properly.
TEST(StepperBarrier, ArriveAndDrop) {
  step("barrier.arrive", stepped<barrier_world>{.run = [](barrier_world& w) { (void)w.b.arrive(); },
                                                .check =
                                                    [](barrier_world& w, const last_process& last) {
                                                      try {
                                                        const auto token = w.b.arrive();
                                                        EXPECT_FALSE(last.returned || last.finished);
                                                        EXPECT_FALSE(w.b.wait_for(token, 0ns));
                                                      } catch (const covey::broken_barrier&) {
                                                      }
                                                    },
                                                .recover = come_too,
                                                .brief = true});
  step("barrier.arrive_and_drop",
       stepped<barrier_world>{.run = [](barrier_world& w) { w.b.arrive_and_drop(); },
                              .check =
                                  [](barrier_world& w, const last_process& last) {
                                    try {
                                      const auto token = w.b.arrive();
                                      EXPECT_TRUE(w.b.wait_for(token, 0ns) || !last.finished);
                                    } catch (const covey::broken_barrier&) {
                                      EXPECT_FALSE(last.finished && !last.followed);
                                    }
                                  },
                              .recover = come_too,
                              .brief = true});
}

// What others do while a party is stopped, wherever it is: all returns, and waits end in time.
void go_on_beside_a_stopped_party(covey::barrier& b) {
  try {
    b.enlist();
    EXPECT_FALSE(b.wait_for(b.arrive(), 0ns));
  } catch (const covey::broken_barrier&) {
    ADD_FAILURE() << "the stopped are not dead";
  }
}

struct barrier_of_three {
  covey::barrier b{3};
};

void step_a_stopped_party(const std::string& name, const std::function<void(barrier_of_three&)>& run, bool leaves) {
  step(name,
       stepped<barrier_of_three>{.run = run,
                                 .check =
                                     [=](barrier_of_three& w, const last_process& last) {
                                       try {
                                         w.b.enlist();
                                         EXPECT_TRUE(leaves || (!last.finished && !last.slept));
                                       } catch (const covey::broken_barrier&) {
                                         EXPECT_FALSE(leaves && last.finished);
                                       }
                                     },
                                 .warm = [=](barrier_of_three& w) { leaves ? w.b.arrive_and_drop() : w.b.enlist(); },
                                 .while_stopped = [](barrier_of_three& w) { go_on_beside_a_stopped_party(w.b); },
                                 .goes_on = true});
}

TEST(StepperBarrier, GoesOnBesideAStoppedParty) {
  step_a_stopped_party("barrier.enlist, others go on", [](barrier_of_three& w) { w.b.enlist(); }, false);
  step_a_stopped_party("barrier.arrive, others go on", [](barrier_of_three& w) { (void)w.b.arrive(); }, false);
  step_a_stopped_party(
      "barrier.arrive_and_wait, others go on", [](barrier_of_three& w) { w.b.arrive_and_wait(); }, false);
  step_a_stopped_party(
      "barrier.arrive_and_drop, others go on", [](barrier_of_three& w) { w.b.arrive_and_drop(); }, true);
}

// ---- guarded
// -----------------------------------------------------------------------------------------------------------

struct twins {
  std::array<long, 4> same{};
  [[nodiscard]] bool whole() const {
    return std::ranges::all_of(same, [&](long v) { return v == same[0]; });
  }
};

struct guarded_world {
  covey::guarded<twins> g;
  covey::guarded<std::string> text{"old"};
};

void count_up(guarded_world& w) {
  w.g.update([](twins& t) {
    for (long& v : t.same) ++v;
  });
}

TEST(StepperGuarded, Update) {
  step("guarded.update", stepped<guarded_world>{.run = count_up,
                                                .check =
                                                    [](guarded_world& w, const last_process& last) {
                                                      const twins now = w.g.load();
                                                      EXPECT_TRUE(now.whole());
                                                      const long least = last.finished && last.followed ? 2 : 1;
                                                      EXPECT_GE(now.same[0], last.returned ? least : 0);
                                                      EXPECT_LE(now.same[0], last.followed ? 3 : 1);
                                                      count_up(w);
                                                      EXPECT_EQ(w.g.load().same[3], now.same[0] + 1);
                                                    },
                                                .recover = count_up,
                                                .brief = true});
  step("guarded.store text",
       stepped<guarded_world>{.run = [](guarded_world& w) { w.text.store("another"); },
                              .check =
                                  [](guarded_world& w, const last_process& last) {
                                    const std::string now = w.text.load();
                                    EXPECT_TRUE(now == "another" || (now == "old" && !last.returned) ||
                                                (now == "a later one" && last.followed))
                                        << now;
                                    EXPECT_TRUE(now == "a later one" || !last.finished || !last.followed) << now;
                                    w.text.store("third");
                                    EXPECT_EQ(w.text.load(), "third");
                                  },
                              .recover = [](guarded_world& w) { w.text.store("a later one"); },
                              .brief = true});
}

// Both places of a large value are pages of their own, taken by the update that needs one first.
TEST(StepperGuarded, UpdateThatTakesPages) {
  using numbers = std::array<long, 500>;
  struct world {
    covey::guarded<numbers> g;
  };
  const auto count = [](world& w) {
    w.g.update([](numbers& n) {
      ++n.front();
      ++n.back();
    });
  };
  step("guarded.update that takes pages", stepped<world>{.run = count,
                                                         .check =
                                                             [=](world& w, const last_process& last) {
                                                               const numbers now = w.g.load();
                                                               EXPECT_EQ(now.front(), now.back());
                                                               const long least =
                                                                   last.finished && last.followed ? 2 : 1;
                                                               EXPECT_GE(now.front(), last.returned ? least : 0);
                                                               EXPECT_LE(now.front(), last.followed ? 3 : 1);
                                                               count(w);
                                                               count(w);
                                                               EXPECT_EQ(w.g.load().front(), now.front() + 2);
                                                               EXPECT_EQ(w.g.load().back(), now.front() + 2);
                                                             },
                                                         .recover = count,
                                                         .brief = true});
}

// An updater that is stopped keeps other updaters out until their time is up; readers go on.
TEST(StepperGuarded, IsReadBesideAStoppedUpdater) {
  const auto add = [](twins& t) {
    for (long& v : t.same) ++v;
  };
  step("guarded.update, others read", stepped<guarded_world>{.run = [=](guarded_world& w) { w.g.update(add); },
                                                             .check =
                                                                 [](guarded_world& w, const last_process&) {
                                                                   const twins now = w.g.load();
                                                                   EXPECT_TRUE(now.whole());
                                                                   EXPECT_GE(now.same[0], 1);
                                                                 },
                                                             .while_stopped =
                                                                 [=](guarded_world& w) {
                                                                   EXPECT_TRUE(w.g.load().whole());
                                                                   (void)w.g.update_for(0ns, add);
                                                                   EXPECT_TRUE(w.g.load().whole());
                                                                 },
                                                             .goes_on = true});
}

// What a reader got, where all can see it.
struct read_world : guarded_world {
  covey::shared_ptr<twins> got = covey::make_shared<twins>();
};

// Two updates while a reader stands anywhere: it waits for nobody, nobody for it, and it gets no mixture of them.
TEST(StepperGuarded, LoadOfAStoppedOne) {
  step("guarded.load, stopped and going on",
       stepped<read_world>{.run = [](read_world& w) { *w.got = w.g.load(); },
                           .check =
                               [](read_world& w, const last_process& last) {
                                 if (last.finished) {
                                   EXPECT_TRUE(w.got->whole());
                                   EXPECT_TRUE(w.got->same[0] == 0 || w.got->same[0] == 2) << w.got->same[0];
                                 }
                                 EXPECT_EQ(w.g.load().same, (std::array<long, 4>{2, 2, 2, 2}));
                                 count_up(w);
                                 EXPECT_EQ(w.g.load().same[3], 3);
                               },
                           .while_stopped =
                               [](read_world& w) {
                                 count_up(w);
                                 count_up(w);
                               },
                           .goes_on = true});
}

TEST(StepperGuarded, Load) {
  step("guarded.load of a text", stepped<guarded_world>{.run = [](guarded_world& w) { (void)w.text.load(); },
                                                        .check =
                                                            [](guarded_world& w, const last_process&) {
                                                              EXPECT_EQ(w.text.load(), "old");
                                                              w.text.store("another");
                                                              EXPECT_EQ(w.text.load(), "another");
                                                            }});
}

// ---- killed on the way to sleep, and in the sleep
// ----------------------------------------------------------------------

struct nothing_to_take {
  covey::counting_semaphore<> s{0};
};

struct read_by_another {
  covey::shared_mutex m;
  read_by_another() { m.lock_shared(); }
};

struct taken_by_another {
  covey::permits p{1};
  taken_by_another() { p.acquire(); }
};

TEST(StepperSleep, HarmsNobody) {
  step("semaphore.acquire of none",
       stepped<nothing_to_take>{.run = [](nothing_to_take& w) { w.s.acquire(); },
                                .check =
                                    [](nothing_to_take& w, const last_process& last) {
                                      EXPECT_FALSE(last.returned);
                                      w.s.release();
                                      EXPECT_TRUE(w.s.try_acquire());
                                    },
                                .warm = [](nothing_to_take& w) { (void)w.s.try_acquire_for(0ns); }});
  step("shared_mutex.lock while read",
       stepped<read_by_another>{.run = [](read_by_another& w) { w.m.lock(); },
                                .check =
                                    [](read_by_another& w, const last_process& last) {
                                      EXPECT_FALSE(last.returned);
                                      EXPECT_FALSE(w.m.needs_recovery_approx());
                                      EXPECT_TRUE(w.m.try_lock_shared());
                                      w.m.unlock_shared();
                                      w.m.unlock_shared();
                                      EXPECT_TRUE(w.m.try_lock());
                                      w.m.unlock();
                                    },
                                .recover = [](read_by_another& w) { (void)w.m.lock_for(0ns); },
                                .warm = [](read_by_another& w) { (void)w.m.lock_for(0ns); },
                                .brief = true});
  step("permits.acquire of none",
       stepped<taken_by_another>{.run = [](taken_by_another& w) { w.p.acquire(); },
                                 .check =
                                     [](taken_by_another& w, const last_process& last) {
                                       EXPECT_FALSE(last.returned);
                                       w.p.release();
                                       EXPECT_TRUE(w.p.try_acquire());
                                       w.p.release();
                                     },
                                 .warm = [](taken_by_another& w) { (void)w.p.try_acquire_for(0ns); }});
  step("condition.wait", stepped<condition_world>{.run =
                                                      [](condition_world& w) {
                                                        std::unique_lock lock(w.m);
                                                        w.c.wait(lock, [] { return false; });
                                                      },
                                                  .check =
                                                      [](condition_world& w, const last_process& last) {
                                                        EXPECT_FALSE(last.returned);
                                                        w.m.recover([] {});
                                                        const std::unique_lock lock(w.m, std::try_to_lock);
                                                        EXPECT_TRUE(lock.owns_lock());
                                                        w.c.notify_one();
                                                      },
                                                  .recover = recover_and_notify,
                                                  .warm =
                                                      [](condition_world& w) {
                                                        std::unique_lock lock(w.m);
                                                        (void)w.c.wait_for(lock, 0ns);
                                                      },
                                                  .brief = true});
}

}  // namespace
