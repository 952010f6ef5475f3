// A worker whose program is replaced by another (exec) takes part in nothing any more, but its pid lives on.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <covey/ipc/queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/memory/weak_ptr.hpp>
#include <covey/process/inspect.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/sync/permits.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;

void become(const char* command) {
  ::execl("/bin/sh", "sh", "-c", command, nullptr);
  ::_exit(126);
}

struct things {
  covey::mutex mutex;
  covey::queue<int> queue{4};
  covey::permits permits{1};
  covey::event ready;

  void take() {
    mutex.lock();
    permits.acquire();
    queue.get();
  }
};

// Blocks until what a member of the family held is free, as after a death.
void expect_left(things& t) {
  EXPECT_THROW(t.mutex.lock(), covey::owner_died);
  t.mutex.recover([] {});
  t.permits.acquire();
  t.permits.release();
  const auto again = t.queue.get_delivery();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->value, 7);
  EXPECT_EQ(again->deliveries, 2U);
  t.queue.task_done();
}

void hold_and_exec(things t) {
  t.take();
  t.ready.set();
  become("exec sleep 1000");
}

bool runs(const covey::process& p, const std::string& program) {
  std::ifstream comm("/proc/" + std::to_string(p.pid()) + "/comm");
  std::string name;
  return std::getline(comm, name) && name == program;
}

// Its program sleeps, and its pid lives.
void expect_runs_and_can_be_killed(covey::process& worker) {
  EXPECT_TRUE(worker.alive());
  EXPECT_FALSE(worker.join_for(1ms));
  EXPECT_EQ(covey::wait_any_for(1ms, worker), std::nullopt);
  worker.kill();
  EXPECT_EQ(worker.join().signal(), SIGKILL);
  EXPECT_FALSE(worker.alive());
}

TEST(Exec, GivesBackWhatItHeld) {
  things t;
  t.queue.put(7);
  covey::process worker(hold_and_exec, t);
  t.ready.wait();
  expect_left(t);
  expect_runs_and_can_be_killed(worker);
}

TEST(Exec, GivesBackWhatAForkedOneHeld) {
  things t;
  t.queue.put(7);
  auto worker = covey::process::forked([&] {
    hold_and_exec(t);
    return 0;
  });
  t.ready.wait();
  expect_left(t);
  expect_runs_and_can_be_killed(worker);
}

TEST(Exec, DropsReferences) {
  const auto before = covey::testing::settled();
  {
    auto object = covey::make_shared<int>(1);
    covey::process worker(
        [](covey::shared_ptr<int> mine) {
          *mine = 2;
          become("exec sleep 1000");
        },
        object);
    const covey::weak_ptr<int> weak = object;
    EXPECT_TRUE(covey::testing::eventually([&] { return *object == 2; }));
    object.reset();
    EXPECT_TRUE(covey::testing::eventually([&] { return weak.expired(); }));
    const auto all = covey::inspect().processes;
    const auto seen = std::ranges::find(all, worker.pid(), &covey::process_info::pid);
    ASSERT_NE(seen, all.end());
    EXPECT_EQ(seen->state, "exec");
    worker.kill();
    worker.join();
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

TEST(Exec, ItsStatusIsThatOfTheProgram) {
  covey::mutex mutex;
  covey::process worker(
      [](covey::mutex m) {
        m.lock();
        become("read line; exit 7");
      },
      mutex);
  EXPECT_EQ(worker.join().code(), 7);
  EXPECT_THROW(mutex.lock(), covey::owner_died);
}

// The next keeper learns of what happened while there was none, and of the end of what the last one knew.
TEST(Exec, IsKnownToTheNextKeeper) {
  const auto kill_keeper = [] { ::kill(covey::detail::family.book->keeper_pid, SIGKILL); };
  things t;
  t.queue.put(7);
  covey::process worker(hold_and_exec, t);
  EXPECT_TRUE(covey::testing::eventually([&] { return runs(worker, "sleep"); }));
  kill_keeper();
  expect_left(t);
  kill_keeper();
  expect_runs_and_can_be_killed(worker);

  t.queue.put(7);
  auto forked = covey::process::forked([&] {
    hold_and_exec(t);
    return 0;
  });
  EXPECT_TRUE(covey::testing::eventually([&] { return runs(forked, "sleep"); }));
  expect_left(t);
  kill_keeper();
  expect_runs_and_can_be_killed(forked);
}

// Only its line is lost: it runs on as a member, with its lock.
TEST(Exec, IsNotWhatClosingDescriptorsIs) {
  covey::mutex mutex;
  covey::event closed, end;
  covey::process worker(
      {.daemon = true},
      [](covey::mutex m, covey::event c, covey::event e) {
        m.lock();
        ::closefrom(3);
        c.set();
        e.wait();
        m.unlock();
      },
      mutex, closed, end);
  closed.wait();
  EXPECT_EQ(covey::process([] { return 3; }).join().code(), 3);  // the keeper has seen the line's end before
  EXPECT_FALSE(mutex.lock_for(50ms));
  end.set();
  mutex.lock();
  mutex.unlock();
  EXPECT_EQ(worker.join().code(), 0);
}

// A program that the worker starts beside itself takes nothing from it.
TEST(Exec, InAChildIsNothing) {
  covey::mutex mutex;
  covey::event ran, end;
  covey::process worker(
      {.daemon = true},
      [](covey::mutex m, covey::event r, covey::event e) {
        m.lock();
        if (std::system("true") == 0) r.set();
        e.wait();
        m.unlock();
      },
      mutex, ran, end);
  ran.wait();
  EXPECT_EQ(covey::process([] { return 3; }).join().code(), 3);
  EXPECT_FALSE(mutex.lock_for(50ms));
  end.set();
  mutex.lock();
  mutex.unlock();
}

}  // namespace
