// Readers and writers in several processes, killed in every role; what the others then see is the contract.
#include <covey/sync/shared_mutex.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync/latch.hpp>
#include <covey/testing/victims.hpp>

#include <mutex>
#include <shared_mutex>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;
using testing::HasSubstr;

covey::process reader_of(const covey::shared_mutex& m) {
  return started(
      [](covey::shared_mutex lock, covey::event there) {
        lock.lock_shared();
        there.set();
        until_killed();
      },
      m);
}

covey::process writer_of(const covey::shared_mutex& m) {
  return started(
      [](covey::shared_mutex lock, covey::event there) {
        lock.lock();
        there.set();
        until_killed();
      },
      m);
}

TEST(SharedMutex, LetsReadersInTogetherAndWritersAlone) {
  covey::shared_mutex m;
  covey::process reader = reader_of(m);
  EXPECT_TRUE(m.try_lock_shared());
  m.unlock_shared();
  EXPECT_FALSE(m.try_lock());
  EXPECT_FALSE(m.lock_for(5ms));
  kill_and_join(reader);
  const std::unique_lock alone(m, std::try_to_lock);
  EXPECT_TRUE(alone.owns_lock());
  std::jthread([m]() mutable {
    EXPECT_FALSE(m.try_lock_shared());
    EXPECT_FALSE(m.lock_shared_for(2ms));
    EXPECT_FALSE(m.try_lock());
  }).join();
}

TEST(SharedMutex, WorksWithTheLocksOfStd) {
  covey::shared_mutex m;
  {
    std::shared_lock one(m);
    std::shared_lock two(m, 1s);
    EXPECT_TRUE(two.owns_lock());
    std::jthread([m]() mutable {
      const std::unique_lock timed(m, 1ms);
      EXPECT_FALSE(timed.owns_lock());
    }).join();
  }
  std::unique_lock writer(m, std::chrono::system_clock::now() + 1s);
  EXPECT_TRUE(writer.owns_lock());
}

TEST(SharedMutex, ExcludesWritersFromReadersInThreads) {
  covey::shared_mutex m;
  int a = 0;
  int b = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5'000; ++i) {
        if (t == 0 || i % 10 == 0) {
          const std::scoped_lock alone(m);
          ++a;
          ++b;
        } else {
          const std::shared_lock together(m);
          EXPECT_EQ(a, b);
        }
      }
    });
  threads.clear();
  EXPECT_EQ(a, 5'000 + 3 * 500);
  EXPECT_EQ(b, a);
}

TEST(SharedMutex, ForgetsDeadReadersAlsoWhileAWriterWaits) {
  covey::shared_mutex m;
  std::vector<covey::process> readers;
  for (int i = 0; i < 5; ++i) readers.push_back(reader_of(m));
  covey::process writer{[](covey::shared_mutex lock) { lock.lock(); }, m};  // and ends with it in hand
  EXPECT_TRUE(until_asleep(writer));
  for (auto& r : readers) r.kill();
  EXPECT_EQ(writer.join().code(), 0);
  EXPECT_THROW(m.lock(), covey::owner_died);
}

TEST(SharedMutex, TellsEverybodyThatAWriterDiedUntilItIsRecovered) {
  covey::shared_mutex m;
  covey::process writer = writer_of(m);
  std::atomic<int> told = 0;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 4; ++i)
    waiters.emplace_back([&, i] {
      try {
        i % 2 == 0 ? m.lock() : m.lock_shared();
      } catch (const covey::owner_died&) {
        ++told;
      }
    });
  EXPECT_FALSE(m.lock_shared_for(5ms));
  writer.kill();
  waiters.clear();
  EXPECT_EQ(told, 4);
  EXPECT_THROW((void)m.try_lock(), covey::owner_died);
  EXPECT_THROW((void)m.try_lock_shared(), covey::owner_died);
  EXPECT_TRUE(m.needs_recovery_approx());
  EXPECT_THROW(m.recover([] { throw std::logic_error("repair failed"); }), std::logic_error);
  EXPECT_THROW(m.lock_shared(), covey::owner_died);
  covey::process recoverer{[](covey::shared_mutex lock) { lock.recover([] { ::kill(::getpid(), SIGKILL); }); }, m};
  EXPECT_EQ(recoverer.join().signal(), SIGKILL);
  EXPECT_THROW(m.lock_shared(), covey::owner_died);
  EXPECT_TRUE(m.recover([] {}));
  EXPECT_FALSE(m.recover([] { FAIL() << "nothing to repair any more"; }));
  m.lock_shared();
  m.unlock_shared();
  m.lock();
  m.unlock();
}

TEST(SharedMutex, ForgetsAReaderWhoseThreadEnded) {
  covey::shared_mutex m;
  covey::event reads;
  covey::event end;
  std::jthread reader([&] {
    m.lock_shared();
    reads.set();
    end.wait();
  });
  reads.wait();
  std::jthread writer([&] {
    m.lock();
    m.unlock();
  });
  EXPECT_FALSE(m.lock_for(1ms));
  end.set();
}

// It had not begun to change anything.
TEST(SharedMutex, ForgetsAWriterThatDiedWhileItWaitedForReaders) {
  covey::shared_mutex m;
  m.lock_shared();
  covey::process writer = started(
      [](covey::shared_mutex lock, covey::event there) {
        there.set();
        lock.lock();
      },
      m);
  EXPECT_TRUE(until_asleep(writer));
  std::jthread([m]() mutable { EXPECT_FALSE(m.try_lock_shared()); }).join();  // it keeps new readers out
  kill_and_join(writer);
  std::jthread([m]() mutable {
    m.lock_shared();
    m.unlock_shared();
  }).join();
  m.unlock_shared();
  m.lock();
  m.unlock();
}

TEST(SharedMutex, WritersAreNotStarvedByReadersInTurns) {
  covey::shared_mutex m;
  covey::latch begun{2};
  std::vector<covey::process> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back(
        covey::process_options{.daemon = true},
        [](covey::shared_mutex lock, covey::latch l) {
          l.count_down();
          for (;;) const std::shared_lock held(lock);
        },
        m, begun);
  begun.wait();
  for (int i = 0; i < 20; ++i) {
    m.lock();
    m.unlock();
  }
}

TEST(SharedMutex, TheReaderBeyondTheTableWaitsForAPlace) {
  covey::shared_mutex m;
  for (std::uint32_t i = 0; i < covey::shared_mutex::readers_max - 1; ++i) m.lock_shared();
  covey::process last = reader_of(m);
  std::jthread([m]() mutable {
    EXPECT_FALSE(m.try_lock_shared());
    EXPECT_FALSE(m.lock_shared_for(2ms));
  }).join();
  std::jthread waits([m]() mutable {
    m.lock_shared();
    m.unlock_shared();
  });
  kill_and_join(last);
  waits.join();
  for (std::uint32_t i = 0; i < covey::shared_mutex::readers_max - 1; ++i) m.unlock_shared();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST(SharedMutex, RefusesToDeadlockWithItself) {
  covey::shared_mutex m;
  m.lock();
  EXPECT_THROW(m.lock(), std::system_error);
  EXPECT_THROW(m.lock_shared(), std::system_error);
  m.unlock();
  m.lock_shared();
  EXPECT_THROW(m.lock(), std::system_error);
  m.unlock_shared();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST(SharedMutex, FindsADeadlockOfAWriterWithOneOfItsReaders) {
  for (int round = 0; round < 3; ++round) {
    covey::shared_mutex book{covey::mutex_options{.detect_deadlock = true}};
    covey::mutex pen{covey::mutex_options{.detect_deadlock = true}};
    covey::latch both{2};
    covey::process bystander = reader_of(book);
    covey::process reader{[](covey::shared_mutex b, covey::mutex p, covey::latch l) {
                            const std::shared_lock reading(b);
                            l.arrive_and_wait();
                            try {
                              const std::scoped_lock writing(p);
                            } catch (const covey::deadlock_detected&) {
                              return 42;
                            }
                            return 0;
                          },
                          book, pen, both};
    int found = 0;
    {
      const std::scoped_lock writing(pen);
      both.arrive_and_wait();
      try {
        std::jthread later([&] { kill_and_join(bystander); });
        const std::scoped_lock alone(book);
      } catch (const covey::deadlock_detected& e) {
        ++found;
        EXPECT_THAT(e.what(), HasSubstr("which waits for lock " + std::to_string(pen.number())));
      }
    }
    found += reader.join().code() == 42 ? 1 : 0;
    EXPECT_EQ(found, 1);
  }
}

TEST(SharedMutex, StopsWaitingWhenAskedTo) {
  covey::shared_mutex m;
  m.lock();
  std::jthread reader([&](std::stop_token stop) { EXPECT_FALSE(m.lock_shared_for(1h, stop)); });
  std::jthread writer([&](std::stop_token stop) { EXPECT_FALSE(m.lock_for(1h, stop)); });
  reader.request_stop();
  writer.request_stop();
  reader.join();
  writer.join();
  m.unlock();
}

}  // namespace
