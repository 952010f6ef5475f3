// Owners are killed for real; what the others then see is the contract.
#include <covey/sync/mutex.hpp>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/shared_mutex.hpp>

#include <mutex>
#include <shared_mutex>
#include <thread>

namespace {

using namespace std::chrono_literals;

// A process that holds `m` until it is killed; returns when it holds it.
covey::process holder_of(const covey::mutex& m) {
  covey::event holds;
  covey::process p{covey::process_options{.daemon = true},
                   [](covey::mutex lock, covey::event e) {
                     lock.lock();
                     e.set();
                     for (;;) ::pause();
                   },
                   m, holds};
  holds.wait();
  return p;
}

TEST(Mutex, ExcludesThreads) {
  covey::mutex m;
  int count = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const std::scoped_lock held(m);
        ++count;
      }
    });
  threads.clear();
  EXPECT_EQ(count, 80'000);
}

TEST(Mutex, IsHeldByAnotherProcessAndGivenBack) {
  covey::mutex m;
  covey::event go;
  covey::event holds;
  covey::process p{[](covey::mutex lock, covey::event h, covey::event g) {
                     const std::scoped_lock held(lock);
                     h.set();
                     g.wait();
                   },
                   m, holds, go};
  holds.wait();
  EXPECT_FALSE(m.try_lock());
  EXPECT_FALSE(m.lock_for(5ms));
  go.set();
  m.lock();
  m.unlock();
  EXPECT_EQ(p.join().code(), 0);
}

TEST(Mutex, TellsEverybodyThatItsOwnerDiedUntilItIsRecovered) {
  covey::mutex m;
  covey::process owner = holder_of(m);
  std::atomic<int> told = 0;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 3; ++i)
    waiters.emplace_back([&] {
      try {
        m.lock();
      } catch (const covey::owner_died&) {
        ++told;
      }
    });
  std::this_thread::sleep_for(20ms);
  owner.kill();
  waiters.clear();
  EXPECT_EQ(told, 3);
  EXPECT_THROW(m.lock(), covey::owner_died);
  EXPECT_THROW((void)m.try_lock(), covey::owner_died);
  EXPECT_THROW((void)m.lock_for(1s), covey::owner_died);
  EXPECT_TRUE(m.needs_recovery_approx());
  EXPECT_THROW(m.recover([] { throw std::logic_error("repair failed"); }), std::logic_error);
  EXPECT_THROW(m.lock(), covey::owner_died);
  EXPECT_TRUE(m.recover([] {}));
  EXPECT_FALSE(m.recover([] { FAIL() << "nothing to repair any more"; }));
  m.lock();
  m.unlock();
}

TEST(Mutex, StaysUnrepairedWhenTheRecovererDiesToo) {
  covey::mutex m;
  holder_of(m).kill();
  covey::process recoverer{[](covey::mutex lock) { lock.recover([] { ::kill(::getpid(), SIGKILL); }); }, m};
  EXPECT_EQ(recoverer.join().signal(), SIGKILL);
  EXPECT_THROW(m.lock(), covey::owner_died);
  EXPECT_TRUE(m.recover([] {}));
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST(Mutex, CountsAThreadThatEndedAsDead) {
  covey::mutex m;
  std::thread([&] { m.lock(); }).join();
  EXPECT_THROW(m.lock(), covey::owner_died);
}

// Only deaths of processes woke those who slept already.
TEST(Mutex, WakesWhoSleepsWhenTheThreadThatOwnsItEnds) {
  covey::mutex m;
  covey::event locked;
  std::jthread owner([&] {
    m.lock();
    locked.set();
    std::this_thread::sleep_for(50ms);
  });
  locked.wait();
  EXPECT_THROW(m.lock(), covey::owner_died);
}

// The kernel refuses such a time, and that was taken for a wake: it never returned.
TEST(Mutex, ATimeBeforeTheClockBeganHasPassed) {
  covey::mutex m;
  m.lock();
  std::jthread([&] { EXPECT_FALSE(m.lock_until(std::chrono::steady_clock::time_point::min())); }).join();
  std::jthread([&] { EXPECT_FALSE(m.lock_for(-10'000h)); }).join();
  m.unlock();
  EXPECT_FALSE(covey::event().wait_until(std::chrono::steady_clock::time_point::min()));
}

TEST(Mutex, RefusesToDeadlockWithItself) {
  covey::mutex m;
  m.lock();
  EXPECT_THROW(m.lock(), std::system_error);
  m.unlock();
}

TEST(Mutex, StopsWaitingWhenAskedTo) {
  covey::mutex m;
  m.lock();
  std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(m.lock_for(1h, stop)); });
  std::this_thread::sleep_for(5ms);
  waiter.request_stop();
  waiter.join();
  m.unlock();
}

TEST(Mutex, CopiesNameTheSameMutex) {
  covey::mutex m;
  const covey::mutex copy = m;
  EXPECT_EQ(copy, m);
  m.lock();
  std::jthread([c = copy]() mutable { EXPECT_FALSE(c.try_lock()); }).join();
  m.unlock();
  EXPECT_NE(covey::mutex(), m);
}

// Its destructors run as in any process.
TEST(Mutex, AChildForkedPastCoveyUnlocksNothingOfItsParents) {
  covey::mutex m(covey::mutex_options{.detect_deadlock = true});
  covey::recursive_mutex recursive;
  covey::shared_mutex written, read;
  covey::permits one(1);
  std::unique_lock lock(m);
  std::unique_lock outer(recursive), inner(recursive);
  std::unique_lock writer(written);
  std::shared_lock reader(read);
  covey::permit owned(one);
  const pid_t past = ::fork();
  if (past == 0) {
    lock = {};
    inner = {};
    outer = {};
    writer = {};
    reader = {};
    owned = {};
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(past, &status, 0), past);
  EXPECT_EQ(status, 0);
  inner = {};
  std::thread([&] {
    EXPECT_FALSE(m.try_lock());
    EXPECT_FALSE(recursive.try_lock());
    EXPECT_FALSE(written.try_lock_shared());
    EXPECT_FALSE(read.try_lock());
    EXPECT_FALSE(one.try_acquire());
  }).join();
}

}  // namespace
