// Cycles are closed on purpose, between threads and between processes; and not closed, under load.
#include <covey/sync/deadlock.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/sync/once.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/shared_mutex.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <algorithm>
#include <mutex>
#include <shared_mutex>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;
using testing::HasSubstr;

constexpr covey::mutex_options watched{.detect_deadlock = true};
constexpr int found = 42;

// Takes `first`, waits until all have theirs, takes `second`; returns `found` if that was refused.
template <class First, class Second>
int take_both(First first, Second second, covey::latch all_have_one) {
  const std::scoped_lock mine(first);
  all_have_one.arrive_and_wait();
  try {
    const std::scoped_lock other(second);
    return 0;
  } catch (const covey::deadlock_detected& e) {
    const std::string what = e.what();
    const bool told = what.find("philosopher") != std::string::npos &&
                      what.find("waits for lock " + std::to_string(second.number())) != std::string::npos &&
                      what.find("waits for lock " + std::to_string(first.number())) != std::string::npos &&
                      what.find("pid " + std::to_string(::getpid())) != std::string::npos;
    return told ? found : 1;
  }
}

TEST(Deadlock, IsFoundByOneOfThePhilosophers) {
  constexpr int seats = 4;
  for (int round = 0; round < 5; ++round) {
    std::vector<covey::mutex> forks;
    for (int i = 0; i < seats; ++i) forks.emplace_back(watched);
    const covey::latch all_have_one{seats};
    std::vector<covey::process> philosophers;
    for (int i = 0; i < seats; ++i)
      philosophers.emplace_back(covey::process_options{.name = "philosopher " + std::to_string(i)},
                                take_both<covey::mutex, covey::mutex>, forks[i], forks[(i + 1) % seats], all_have_one);
    int refused = 0;
    for (auto& p : philosophers) {
      const auto code = p.join().code();
      EXPECT_TRUE(code == 0 || code == found) << code;
      refused += code == found ? 1 : 0;
    }
    EXPECT_EQ(refused, 1);  // then the others could eat
  }
}

TEST(Deadlock, IsFoundBetweenThreadsAndKinds) {
  covey::mutex a{watched};
  covey::recursive_mutex b{watched};
  covey::latch both{2};
  std::atomic<int> refused = 0;
  const auto run = [&](auto first, auto second) {
    const std::scoped_lock mine(first);
    both.arrive_and_wait();
    try {
      const std::scoped_lock other(second);
    } catch (const covey::deadlock_detected& e) {
      ++refused;
      EXPECT_THAT(e.what(), HasSubstr("which waits for lock"));
    }
  };
  {
    std::jthread one([&] { run(a, b); });
    std::jthread two([&] { run(b, a); });
  }
  EXPECT_EQ(refused, 1);
}

bool somebody_here_waits_for(std::uint32_t lock) {
  return somebody_waits_for(covey::detail::slot_of(covey::detail::this_name()), lock);
}

// The other one's wait was no deadlock when it began.
TEST(Deadlock, IsFoundByTheOneWhoClosesTheCircle) {
  for (int round = 0; round < 5; ++round) {
    covey::mutex a{watched};
    covey::mutex b{watched};
    std::unique_lock mine(a);
    covey::process first{[](covey::mutex own, covey::mutex other) {
                           const std::scoped_lock held(own);
                           try {
                             const std::scoped_lock both(other);
                             return 0;
                           } catch (const covey::deadlock_detected&) {
                             return found;
                           }
                         },
                         b, a};
    ASSERT_TRUE(eventually([&] { return says_that_it_waits_for(first, a.number()); }));
    EXPECT_THROW(b.lock(), covey::deadlock_detected);
    EXPECT_FALSE(first.join_for(150ms)) << "it looks again after 100 ms";
    mine.unlock();
    EXPECT_EQ(first.join().code(), 0);
    EXPECT_TRUE(b.try_lock());
    b.unlock();
  }
}

// Another thread owns `lock`, as `Hold` does it, and waits for one that this thread owns; `close` closes the circle.
template <template <class> class Hold, class Lock, class Close>
void expect_found_by(Lock& lock, const Close& close) {
  covey::mutex mine{watched};
  std::unique_lock held(mine);
  const std::jthread other([&] {
    const Hold<Lock> its(lock);
    const std::scoped_lock both(mine);
  });
  ASSERT_TRUE(eventually([&] { return somebody_here_waits_for(mine.number()); }));
  EXPECT_THROW(close(), covey::deadlock_detected);
  held.unlock();
}

template <class Lock>
class EachWatched : public testing::Test {};
using watched_locks = testing::Types<covey::mutex, covey::recursive_mutex, covey::shared_mutex>;
TYPED_TEST_SUITE(EachWatched, watched_locks);

TYPED_TEST(EachWatched, FindsADeadlockThatRecoverCloses) {
  TypeParam lock{watched};
  expect_found_by<std::unique_lock>(lock, [&] { (void)lock.recover([] { ADD_FAILURE(); }); });
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Deadlock, IsFoundWhereRecoverWaitsForReaders) {
  covey::shared_mutex lock{watched};
  expect_found_by<std::shared_lock>(lock, [&] { (void)lock.recover([] { ADD_FAILURE(); }); });
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Deadlock, IsFoundWhereAReaderClosesTheCircle) {
  covey::shared_mutex lock{watched};
  expect_found_by<std::unique_lock>(lock, [&] { lock.lock_shared(); });
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

// The other one waited for this thread when it was stopped, and says so still. But what this thread had it has given
// up, so it may wait for the other one.
TEST(Deadlock, IsNotSeenInWhatRecoverGaveUp) {
  covey::shared_mutex book{watched};
  covey::mutex pen{watched};
  covey::process victim = started(
      [](covey::shared_mutex b, covey::event there) {
        b.lock();
        there.set();
        until_killed();
      },
      book);
  kill_and_join(victim);
  std::optional<covey::process> other;
  ASSERT_TRUE(book.recover([&] {
    other.emplace(
        [](covey::shared_mutex b, covey::mutex p) {
          const std::scoped_lock first(p);
          const std::scoped_lock second(b);
        },
        book, pen);
    ASSERT_TRUE(eventually([&] { return says_that_it_waits_for(*other, book.number()); }));
    ASSERT_EQ(::kill(other->pid(), SIGSTOP), 0);
  }));
  const std::jthread later([&] {
    EXPECT_TRUE(eventually([&] { return somebody_here_waits_for(pen.number()); }));
    ::kill(other->pid(), SIGCONT);
  });
  EXPECT_NO_THROW(pen.lock(); pen.unlock());
  EXPECT_EQ(other->join().code(), 0);
}

TEST(Deadlock, IsNotSeenWhereTheOwnerDied) {
  covey::mutex a{watched};
  covey::mutex b{watched};
  const std::scoped_lock held(b);
  covey::process victim = started(
      [](covey::mutex mine, covey::mutex other, covey::event there) {
        mine.lock();
        there.set();
        other.lock();
      },
      a, b);
  kill_and_join(victim);
  EXPECT_THROW(a.lock(), covey::owner_died);
}

TEST(Deadlock, IsNeverSeenByThoseWhoTakeTurnsInOrder) {
  std::vector<covey::mutex> locks;
  for (int i = 0; i < 3; ++i) locks.emplace_back(watched);
  std::vector<covey::process> users;
  for (int p = 0; p < 3; ++p)
    users.emplace_back(
        [](std::vector<covey::mutex> all, int from) {
          for (int i = 0; i < 3'000; ++i) {
            auto& low = all[static_cast<std::size_t>(std::min((from + i) % 3, (from + i + 1) % 3))];
            auto& high = all[static_cast<std::size_t>(std::max((from + i) % 3, (from + i + 1) % 3))];
            const std::scoped_lock first(low);
            if (i % 100 == 0) std::this_thread::sleep_for(2ms);  // long enough for the others to look
            const std::scoped_lock second(high);
          }
        },
        locks, p);
  for (auto& u : users) {
    const auto status = u.join();
    EXPECT_EQ(status.code(), 0) << status.describe();
  }
}

// Calls `inside(lock, f)`, which calls `f` while it has the lock, of two locks in both orders at once.
template <class Lock, class Inside>
void expect_found_inside(Lock a, Lock b, const Inside& inside) {
  covey::latch both{2};
  std::atomic<int> refused = 0;
  const auto run = [&](Lock& first, Lock& second) {
    inside(first, [&] {
      both.arrive_and_wait();
      try {
        inside(second, [] {});
      } catch (const covey::deadlock_detected& e) {
        ++refused;
        EXPECT_THAT(e.what(), HasSubstr("waits for lock " + std::to_string(second.number())));
        EXPECT_THAT(e.what(), HasSubstr("which waits for lock " + std::to_string(first.number())));
      }
    });
  };
  {
    const std::jthread one([&] { run(a, b); });
    const std::jthread two([&] { run(b, a); });
  }
  EXPECT_EQ(refused, 1);
}

TEST(Deadlock, IsFoundBetweenUpdatesThatWaitForEachOther) {
  covey::guarded<int> a(1, watched);
  covey::guarded<int> b(2, watched);
  expect_found_inside(a, b, [](covey::guarded<int>& g, const auto& f) {
    g.update([&](int& value) {
      f();
      ++value;
    });
  });
  EXPECT_EQ(a.load() + b.load(), 1 + 2 + 3);  // all but the refused one have counted
}

TEST(Deadlock, IsFoundBetweenFunctionsOfTwoFlags) {
  const covey::once_flag a(watched), b(watched);
  expect_found_inside(a, b, [](const covey::once_flag& flag, const auto& f) { covey::call_once(flag, f); });
  EXPECT_TRUE(a.done());
  EXPECT_TRUE(b.done());
}

TEST(Deadlock, IsFoundBetweenAnUpdateAndAMutex) {
  covey::guarded<int> value(0, watched);
  covey::mutex mine{watched};
  std::unique_lock held(mine);
  const std::jthread other([&] { value.update([&](int&) { const std::scoped_lock both(mine); }); });
  ASSERT_TRUE(eventually([&] { return somebody_here_waits_for(mine.number()); }));
  EXPECT_THROW(value.store(1), covey::deadlock_detected);
  EXPECT_FALSE(value.store_for(10ms, 1)) << "who gave a time is not told";
  held.unlock();
}

TEST(Deadlock, IsNotSeenWhereTheUpdaterDied) {
  covey::guarded<int> value(0, watched);
  covey::mutex mine{watched};
  const std::scoped_lock held(mine);
  covey::process victim = started(
      [](covey::guarded<int> v, covey::mutex other, covey::event there) {
        v.update([&](int& n) {
          n = 7;
          there.set();
          other.lock();
        });
      },
      value, mine);
  kill_and_join(victim);
  EXPECT_NO_THROW(value.update([](int& n) { ++n; }));
  EXPECT_EQ(value.load(), 1);
}

TEST(Deadlock, IsNotLookedForInWaitsThatEndByThemselves) {
  covey::mutex a{watched};
  covey::mutex b{watched};
  covey::latch both{2};
  std::jthread other([&] {
    const std::scoped_lock mine(b);
    both.arrive_and_wait();
    EXPECT_NO_THROW((void)a.lock_for(150ms));
  });
  const std::scoped_lock mine(a);
  both.arrive_and_wait();
  EXPECT_FALSE(b.lock_for(30ms));
}

}  // namespace
