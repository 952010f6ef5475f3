// Named memory opened, and regions that arrive, leave and are attached, killed at their instructions. The name's
// holders are processes of their own: who has one has a second thread, and cannot fork who is to be stepped.
#include <gtest/gtest.h>
#include <covey/memory.hpp>
#include <covey/memory/named.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/stepper.hpp>
#include <covey/testing/victims.hpp>

#include <atomic>

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
                          .warm = [](free_name& w) { (void)covey::open_or_create<board>(w.name, 1, 1); }});
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
