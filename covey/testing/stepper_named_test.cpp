// Named memory opened, and regions that arrive, leave and are attached, killed at their instructions. The name's
// holders are processes of their own: who has one has a second thread, and cannot fork who is to be stepped.
#include <gtest/gtest.h>
#include <covey/memory.hpp>
#include <covey/memory/named.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/named_mutex.hpp>
#include <covey/testing/stepper.hpp>
#include <covey/testing/victims.hpp>

#include <atomic>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

struct board {
  int written;
  int again;
};

// A name of its own for each.
struct free_name {
  std::string name;
  free_name() {
    static int made = 0;
    name = "stepper." + std::to_string(::getpid()) + '.' + std::to_string(++made);
  }
  [[nodiscard]] bool is_free() const {
    try {
      (void)covey::attach<board>(name);
      return false;
    } catch (const std::system_error& e) {
      return e.code() == std::errc::no_such_file_or_directory;
    }
  }
};

// It stays open: closing is another operation.
void open_and_keep(const std::string& name, int written) {
  auto* const kept = new auto(covey::open_or_create<board>(name, written, written));
  asm volatile("" ::"r"(kept) : "memory");
}

TEST(StepperNamed, Create) {
  step("open_or_create that creates",
       stepped<free_name>{.run = [](free_name& w) { open_and_keep(w.name, 1); },
                          .check =
                              [](free_name& w, const last_process&) {
                                EXPECT_TRUE(w.is_free());
                                {
                                  const auto mine = covey::open_or_create<board>(w.name, 2, 2);
                                  EXPECT_EQ(mine->written, 2);  // not what the dead had begun
                                  EXPECT_EQ(mine->again, 2);
                                }
                                EXPECT_TRUE(w.is_free());
                              },
                          .recover = [](free_name& w) { (void)covey::open_or_create<board>(w.name, 3, 3); },
                          .warm = [](free_name& w) { (void)covey::open_or_create<board>(w.name, 1, 1); },
                          .brief = true});
}

int hold(const std::string& name, covey::event there, covey::event leave) {
  const auto held = covey::create<board>(name, 1, 1);
  there.set();
  leave.wait();
  return held->written == 1 && held->again == 1 ? 0 : 1;
}

struct held_name : free_name {
  covey::event leave;
  covey::process holder;
  held_name() {
    const covey::event there;
    holder = covey::process{covey::process_options{.name = "holder", .daemon = true}, hold, name, there, leave};
    there.wait();
  }
};

TEST(StepperNamed, Attach) {
  step("open_or_create that attaches",
       stepped<held_name>{.run = [](held_name& w) { open_and_keep(w.name, 2); },
                          .check =
                              [](held_name& w, const last_process&) {
                                {
                                  const auto mine = covey::attach<board>(w.name);
                                  EXPECT_EQ(mine->written, 1);
                                  EXPECT_EQ(mine->again, 1);
                                }
                                w.leave.set();
                                EXPECT_TRUE(w.holder.join().success());
                                EXPECT_TRUE(w.is_free());
                              },
                          .warm = [](held_name& w) { (void)covey::attach<board>(w.name); }});
}

// The dead was the only holder but one, who goes on.
TEST(StepperNamed, Leave) {
  struct world : held_name {
    std::optional<covey::named<board>> mine;  // the stepped one's
  };
  step("named dropped", stepped<world>{.run = [](world& w) { w.mine.reset(); },
                                       .check =
                                           [](world& w, const last_process&) {
                                             EXPECT_EQ(covey::attach<board>(w.name)->written, 1);
                                             w.leave.set();
                                             EXPECT_TRUE(w.holder.join().success());
                                             EXPECT_TRUE(w.is_free());
                                           },
                                       .warm = [](world& w) { (void)covey::attach<board>(w.name); },
                                       .before = [](world& w) { w.mine = covey::attach<board>(w.name); }});
}

// ---- what lies in named memory
// ----------------------------------------------------------------------------------------------

struct desk {
  int drawers = 1;
  covey::named_mutex m{};
  covey::named_event e{};
};

// A process that has made the desk, done `act` with it, and keeps it until it may leave; or does `act` when it may.
enum class when : std::uint8_t { before, at_last };
template <int (*act)(desk&), when then>
struct held_desk : free_name {
  covey::event leave;
  covey::process holder;
  std::optional<covey::named<desk>> mine;  // the stepped one's
  held_desk() {
    const covey::event there;
    holder = covey::process{covey::process_options{.name = "holder", .daemon = true},
                            [](const std::string& called, covey::event begun, covey::event end) {
                              const auto held = covey::create<desk>(called);
                              int result = then == when::before ? act(*held) : 0;
                              begun.set();
                              if (then == when::at_last) result = act(*held);
                              end.wait();
                              return result;
                            },
                            name, there, leave};
    there.wait();
  }
  void expect_left_in_order() {
    leave.set();
    EXPECT_TRUE(holder.join().success());
    EXPECT_TRUE(is_free());
  }
};

template <class World>
void sit_down(World& w) {
  if (!w.mine) w.mine = covey::attach<desk>(w.name);
}

// A thread that owns it ends.
int die_as_owner(desk& d) {
  std::thread([&] { d.m.lock(); }).join();
  return 0;
}

TEST(StepperNamed, MutexRecover) {
  using world = held_desk<die_as_owner, when::before>;
  const auto recover = [](world& w) {
    sit_down(w);
    (*w.mine)->m.recover([] {});
  };
  step("named_mutex.recover", stepped<world>{.run = recover,
                                             .check =
                                                 [](world& w, const last_process& last) {
                                                   {
                                                     const auto there = covey::attach<desk>(w.name);
                                                     const bool broken = there->m.needs_recovery_approx();
                                                     EXPECT_FALSE(broken && last.finished);
                                                     EXPECT_EQ(there->m.recover([] {}), broken);
                                                     EXPECT_FALSE(there->m.needs_recovery_approx());
                                                     EXPECT_TRUE(there->m.try_lock());
                                                     there->m.unlock();
                                                   }
                                                   w.expect_left_in_order();
                                                 },
                                             .recover = recover,
                                             .before = sit_down<world>});
}

int nothing(desk&) { return 0; }

// The kernel tells of the owner's death; whoever comes next learns of it and repairs.
TEST(StepperNamed, MutexLock) {
  using world = held_desk<nothing, when::before>;
  const auto lock = [](world& w) { (*w.mine)->m.lock(); };
  const auto unlock = [](world& w) { (*w.mine)->m.unlock(); };
  const auto lock_and_unlock = [lock, unlock](world& w) {
    sit_down(w);
    lock(w);
    unlock(w);
  };
  const auto sit_down_and_lock = [lock](world& w) {
    sit_down(w);
    lock(w);
  };
  // Owned by the dead once it was locked, and while it is not yet unlocked.
  const auto check = [](bool owned_at_the_end) {
    return [owned_at_the_end](world& w, const last_process& last) {
      {
        const auto there = covey::attach<desk>(w.name);
        const bool repaired = there->m.recover([] {});
        if (last.finished) {
          EXPECT_EQ(repaired, owned_at_the_end);
        }
        EXPECT_FALSE(there->m.recover([] {}));
        EXPECT_TRUE(there->m.try_lock());
        there->m.unlock();
      }
      w.expect_left_in_order();
    };
  };
  step("named_mutex.lock",
       stepped<world>{.run = lock, .check = check(true), .warm = lock_and_unlock, .before = sit_down<world>});
  step("named_mutex.unlock",
       stepped<world>{.run = unlock, .check = check(false), .warm = lock_and_unlock, .before = sit_down_and_lock});
}

int wait_for_it(desk& d) {
  d.e.wait();
  return d.e.is_set() ? 0 : 1;
}

// Whoever waits is woken, or looks by itself.
TEST(StepperNamed, EventSet) {
  using world = held_desk<wait_for_it, when::at_last>;
  step("named_event.set for one who sleeps", stepped<world>{.run = [](world& w) { (*w.mine)->e.set(); },
                                                            .check =
                                                                [](world& w, const last_process& last) {
                                                                  {
                                                                    const auto there = covey::attach<desk>(w.name);
                                                                    EXPECT_TRUE(there->e.is_set() || !last.finished);
                                                                    if (!there->e.is_set()) there->e.set();
                                                                  }
                                                                  w.expect_left_in_order();
                                                                },
                                                            .warm =
                                                                [](world& w) {
                                                                  sit_down(w);
                                                                  (*w.mine)->e.set();
                                                                },
                                                            .before =
                                                                [](world& w) {
                                                                  EXPECT_TRUE(covey::testing::until_asleep(w.holder));
                                                                  sit_down(w);
                                                                }});
}

TEST(StepperNamed, EventWait) {
  using world = held_desk<nothing, when::before>;
  step("named_event.wait that sleeps", stepped<world>{.run = [](world& w) { (*w.mine)->e.wait(); },
                                                      .check =
                                                          [](world& w, const last_process& last) {
                                                            EXPECT_FALSE(last.returned);
                                                            {
                                                              const auto there = covey::attach<desk>(w.name);
                                                              EXPECT_FALSE(there->e.is_set());
                                                              EXPECT_FALSE(there->e.wait_for(1us));
                                                              there->e.set();
                                                              there->e.wait();
                                                              there->e.clear();
                                                              EXPECT_FALSE(there->e.is_set());
                                                            }
                                                            w.expect_left_in_order();
                                                          },
                                                      .warm =
                                                          [](world& w) {
                                                            sit_down(w);
                                                            (void)(*w.mine)->e.wait_for(1us);
                                                          },
                                                      .before = sit_down<world>});
}

// ---- regions
// ------------------------------------------------------------------------------------------------------------

// What a worker does with the bytes that it was sent: the region is attached, used, and released.
struct sent {
  covey::shared_ptr<int> item = covey::make_shared<int>(3);
  covey::shared_ptr<covey::shared_ptr<int>> place = covey::make_shared<covey::shared_ptr<int>>();
  sent() {
    *place = item;
    item.reset();
  }
};

TEST(StepperRegion, AttachedAndReleased) {
  step("region attached and released",
       stepped<sent>{.run =
                         [](sent& w) {
                           const covey::shared_ptr<int> held = *w.place;
                           if (*held != 3) std::abort();
                         },
                     .check =
                         [](sent& w, const last_process&) {
                           const covey::shared_ptr<int> held = *w.place;
                           EXPECT_EQ(*held, 3);
                         },
                     .recover = [](sent& w) { const covey::shared_ptr<int> held = *w.place; }});
}

}  // namespace
