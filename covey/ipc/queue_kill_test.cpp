// Participants are killed at random, then there is a quiet phase: nothing is lost, doubled without reason, or stuck.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/memory/family.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/random_kills.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <algorithm>
#include <random>
#include <thread>

namespace {

bool dies_after_telling_the_keeper = false;

}  // namespace

// Takes the place of libc's, so that a process can be killed between what it tells the keeper and what it does next.
extern "C" ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  const ssize_t n = ::syscall(SYS_sendmsg, socket, message, flags);
  if (dies_after_telling_the_keeper) ::kill(::getpid(), SIGKILL);
  return n;
}

namespace {

#ifndef __has_feature
#define __has_feature(x) 0
#endif
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
constexpr int many_kills = sanitized ? 200 : 700;  // a sanitized process starts slowly

using namespace std::chrono_literals;

TEST(QueueDeath, RedeliversWhatADeadConsumerHadInHand) {
  const covey::queue<int> q;
  const covey::event got;
  for (int i = 0; i < 3; ++i) q.put(i);
  covey::process consumer{[](covey::queue<int> in, covey::event e) {
                            (void)in.get();
                            (void)in.get();
                            e.set();
                            for (;;) ::pause();
                          },
                          q, got};
  got.wait();
  consumer.kill();
  consumer.join();
  EXPECT_EQ(q.get(), 1);  // 0 was acknowledged by the second get
  EXPECT_EQ(q.get(), 2);
  q.task_done();
  q.join();
}

TEST(QueueDeath, RedeliversAllThatADeadConsumerGotAtOnce) {
  const covey::queue<int> q;
  const covey::event got;
  for (int i = 0; i < 5; ++i) q.put(i);
  covey::process consumer{[](covey::queue<int> in, covey::event e) {
                            (void)in.get_many(4);
                            in.task_done();
                            e.set();
                            for (;;) ::pause();
                          },
                          q, got};
  got.wait();
  consumer.kill();
  consumer.join();
  EXPECT_EQ(q.get_many(10), (std::vector{1, 2, 3, 4}));
  q.close();
  EXPECT_TRUE(q.get_many(1).empty());
  q.join();
}

// The head of a lane lags behind what was taken, so what comes back may stand at it, before others that are gone.
TEST(QueueDeath, OfAConsumerLeavesNothingCountedThatIsGone) {
  using numbers = std::vector<int>;  // what can be viewed is a range
  const covey::queue<numbers> q{64};
  const covey::event got;
  for (int i = 0; i < 4; ++i) q.put({i});
  covey::process consumer{[](covey::queue<numbers> in, covey::event e) {
                            const auto first = in.get_view();
                            (void)in.get();
                            (void)in.get();  // which is done with the second
                            e.set();
                            for (;;) ::pause();
                          },
                          q, got};
  got.wait();
  EXPECT_EQ(q.size(), 1U);
  consumer.kill();
  consumer.join();
  EXPECT_EQ(q.size(), 3U);
  EXPECT_FALSE(q.empty());
  q.put({4});
  EXPECT_EQ(q.size(), 4U);
  std::vector<int> all;
  for (std::size_t left = 4; left > 0; --left) {
    EXPECT_EQ(q.size(), left);
    all.push_back(q.try_get().value().front());
  }
  EXPECT_EQ(q.size(), 0U);
  EXPECT_EQ(all, (std::vector{0, 2, 3, 4}));
}

TEST(QueueDeath, GivesNoMoreAtOnceThanItsCapacity) {
  const covey::queue<int> q{2};
  const covey::event got;
  q.put_many(std::array{0, 1});
  covey::process consumer{[](covey::queue<int> in, covey::event e) {
                            (void)in.get_many(2);
                            e.set();
                            for (;;) ::pause();
                          },
                          q, got};
  got.wait();
  q.put_many(std::array{2, 3});
  consumer.kill();
  consumer.join();
  EXPECT_EQ(q.try_get_many(9), (std::vector{0, 1}));
  EXPECT_EQ(q.try_get_many(9), (std::vector{2, 3}));
}

TEST(QueueDeath, DropsItWhenToldTo) {
  const covey::queue<int> q{covey::queue_options{.on_death = covey::in_flight_policy::drop}};
  const covey::event got;
  q.put(0);
  covey::process consumer{[](covey::queue<int> in, covey::event e) {
                            (void)in.get();
                            e.set();
                            for (;;) ::pause();
                          },
                          q, got};
  got.wait();
  EXPECT_FALSE(q.join_for(1ms));
  consumer.kill();
  q.join();  // woken by the death
  EXPECT_TRUE(q.empty());
}

TEST(QueueDeath, SetsItAsideWhenToldTo) {
  const covey::queue<int> q{covey::queue_options{.on_death = covey::in_flight_policy::fail}};
  q.put(7);
  covey::process consumer{[](covey::queue<int> in) {
                            (void)in.get();
                            ::kill(::getpid(), SIGKILL);
                          },
                          q};
  consumer.join();
  q.join();
  EXPECT_EQ(q.try_get(), std::nullopt);
  EXPECT_EQ(q.failed(), 1U);
  const auto failed = q.get_failed().value();
  EXPECT_EQ(failed.value, 7);
  EXPECT_EQ(failed.deliveries, 2U);
  q.task_done();
  EXPECT_EQ(q.failed(), 0U);
}

TEST(QueueDeath, AMessageThatKillsItsConsumersFailsAfterSoManyDeliveries) {
  const covey::queue<int> q{covey::queue_options{.deliveries_max = 3}};
  q.put(13);
  int consumers = 0;
  while (q.failed() == 0) {
    ASSERT_LT(++consumers, 5);
    covey::process{[](covey::queue<int> in) {
                     if (in.try_get()) ::kill(::getpid(), SIGKILL);
                   },
                   q}
        .join();
  }
  EXPECT_EQ(consumers, 3);
  EXPECT_EQ(q.try_get(), std::nullopt);
  EXPECT_EQ(q.get_failed().value().value, 13);
}

TEST(QueueDeath, CountsDeliveries) {
  const covey::queue<int> q;
  q.put(1);
  covey::process{[](covey::queue<int> in) {
                   (void)in.get();
                   ::kill(::getpid(), SIGKILL);
                 },
                 q}
      .join();
  EXPECT_EQ(q.get_delivery().value().deliveries, 2U);
}

TEST(QueueDeath, ALoanOfTheDeadIsTheQueuesAgain) {
  const covey::queue<std::string> q{covey::queue_options{.items = 4, .bytes = 1U << 20}};
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(covey::process(
                  [](covey::queue<std::string> out) {
                    const auto slot = out.loan(1'000'000);
                    slot[0] = 'x';
                    ::kill(::getpid(), SIGKILL);
                  },
                  q)
                  .join()
                  .signal(),
              SIGKILL);
  q.put(std::string(1'000'000, 'y'));
  EXPECT_EQ(q.get().value().size(), 1'000'000U);
}

TEST(QueueDeath, DoesNotRedeliverToAConsumerThatEndedInOrder) {
  const covey::queue<int> q;
  q.put(7);
  EXPECT_EQ(covey::process([](covey::queue<int> in) { return in.get().value(); }, q).join().code(), 7);
  EXPECT_EQ(q.try_get(), std::nullopt);
  q.join();
}

// It had given back what the message held, but not the message: the next consumer got one that named nothing.
TEST(QueueDeath, WhileAcknowledgingDoesNotTakeTheReferencesOfAMessageThatStays) {
  const covey::queue<covey::event> q;
  q.put(covey::event());
  covey::process consumer{[](covey::queue<covey::event> in) {
                            (void)in.get();
                            dies_after_telling_the_keeper = true;
                            in.task_done();
                          },
                          q};
  EXPECT_EQ(consumer.join().signal(), SIGKILL);
  EXPECT_NO_THROW((void)q.try_get());
}

// Who is done with a message tells the keeper, and does not wait for it. Both are killed before it is read.
template <class Queue>
void keep_nothing_that_a_killed_keeper_was_told(bool put_again) {
  using covey::detail::family;
  for (int round = 0; round < 30; ++round) {
    const Queue q(1);
    auto object = covey::make_shared<int>(5);
    const covey::weak_ptr<int> seen(object);
    q.put(object);
    object.reset();
    covey::process{[](Queue in) {
                     (void)in.get();
                     ::kill(family.book->keeper_pid, SIGKILL);
                     in.task_done();
                     ::kill(::getpid(), SIGKILL);
                   },
                   q}
        .join();
    if (put_again) q.put(covey::shared_ptr<int>());
    while (q.try_get()) q.task_done();  // it comes again when it had not been done
    EXPECT_TRUE(covey::testing::eventually([&] { return q.size() == 0 && seen.expired(); })) << round;
  }
}

TEST(QueueDeath, KeepsNothingThatAKilledKeeperWasTold) {
  keep_nothing_that_a_killed_keeper_was_told<covey::queue<covey::shared_ptr<int>>>(false);
  keep_nothing_that_a_killed_keeper_was_told<covey::queue<covey::shared_ptr<int>>>(true);
  keep_nothing_that_a_killed_keeper_was_told<covey::lifo_queue<covey::shared_ptr<int>>>(false);
  keep_nothing_that_a_killed_keeper_was_told<covey::lifo_queue<covey::shared_ptr<int>>>(true);
}

TEST(QueueDeath, TellsAWriterThatTheLastReaderIsGone) {
  const covey::queue<int> q{1};
  q.put(1);
  covey::process reader = covey::testing::started(
      [](covey::queue_reader<int> in, covey::event got) {
        (void)in.get();
        got.set();
        covey::testing::until_killed();
      },
      q.reader());
  q.put(2);
  covey::process writer{[](covey::queue<int> out) {
                          try {
                            out.put(3);
                          } catch (const covey::no_consumers&) {
                            return 3;
                          }
                          return 0;
                        },
                        q};
  EXPECT_TRUE(covey::testing::until_asleep(writer));
  reader.kill();
  EXPECT_EQ(writer.join().code(), 3);
}

// It has a message in hand, which nobody will take again.
template <class Queue>
void tells_who_joins_that_the_last_reader_is_gone() {
  const Queue q;
  q.put(1);
  covey::process reader = covey::testing::started(
      [](covey::reader_of<Queue> in, covey::event got) {
        (void)in.get();
        got.set();
        covey::testing::until_killed();
      },
      q.reader());
  covey::process joiner{[](Queue all) {
                          try {
                            all.join();
                          } catch (const covey::no_consumers&) {
                            return 3;
                          }
                          return 0;
                        },
                        q};
  EXPECT_TRUE(covey::testing::until_asleep(joiner));
  reader.kill();
  ASSERT_TRUE(joiner.join_for(20s)) << "it waits for ever";
  EXPECT_EQ(joiner.join().code(), 3);
  EXPECT_THROW(q.join(), covey::no_consumers);
  EXPECT_THROW((void)q.join_for(1h), covey::no_consumers);
  EXPECT_EQ(q.reader().get(), 1);  // somebody is there again
  q.task_done();
  q.join();
}

TEST(QueueDeath, TellsWhoJoinsThatTheLastReaderIsGone) {
  tells_who_joins_that_the_last_reader_is_gone<covey::queue<int>>();
  tells_who_joins_that_the_last_reader_is_gone<covey::lifo_queue<int>>();
}

void put_by_one_that_dies(const covey::queue<int>& q, int value) {
  covey::process writer = covey::testing::started(
      [](covey::queue_writer<int> out, int n, covey::event put) {
        out.put(n);
        put.set();
        covey::testing::until_killed();
      },
      q.writer(), value);
  covey::testing::kill_and_join(writer);
}

TEST(QueueDeath, TellsAReaderThatTheLastWriterDiedAfterWhatItWrote) {
  const covey::queue<int> q;
  put_by_one_that_dies(q, 5);
  EXPECT_EQ(q.get(), 5);
  EXPECT_THROW((void)q.get(), covey::no_producers);
}

// A reader that slept while another had the last message in hand was not woken when that one was done.
TEST(QueueDeath, TellsASleepingReaderThatTheLastMessageOfADeadWriterIsDone) {
  const covey::queue<int> q;
  put_by_one_that_dies(q, 5);
  EXPECT_EQ(q.get(), 5);
  covey::process other{[](covey::queue<int> in) {
                         try {
                           (void)in.get();
                         } catch (const covey::no_producers&) {
                           return 3;
                         }
                         return 0;
                       },
                       q};
  EXPECT_TRUE(covey::testing::until_asleep(other));
  q.task_done();
  EXPECT_EQ(other.join().code(), 3);
}

TEST(QueueDeath, EndsForReadersWhenTheLastWriterEndedInOrder) {
  const covey::queue<int> q;
  covey::process writer{[](covey::queue_writer<int> out) { out.put(5); }, q.writer()};
  writer.join();
  EXPECT_EQ(q.get(), 5);
  EXPECT_EQ(q.get(), std::nullopt);
}

// ---- at random -----------------------------------------------------------------------------------------------------

TEST(QueueDeath, LosesNothingUnderRandomKillsAndIsQuickAgainAfterwards) {
  covey::testing::lose_nothing_under<covey::queue<covey::testing::parcel>>(many_kills);

  // Quiet: everything works at once, by everybody.
  const covey::queue<int> fresh;
  covey::process echo{[](covey::queue<int> in) {
                        int n = 0;
                        while (in.get()) ++n;
                        return n % 251;
                      },
                      fresh};
  for (int i = 0; i < 20'000; ++i) fresh.put(i);
  fresh.close();
  EXPECT_EQ(echo.join().code(), 20'000 % 251);
}

TEST(QueueDeath, LeavesTheSameQueueUsableAfterManyKills) {
  const covey::queue<int> q{16};
  std::mt19937 random(11);
  const auto put_for_ever = [](covey::queue<int> out) {
    for (int i = 0;; ++i) out.put(i);
  };
  const auto get_for_ever = [](covey::queue<int> in) {
    while (in.get()) {
    }
  };
  for (int i = 0; i < many_kills / 2; ++i) {
    covey::process a{covey::process_options{.daemon = true}, put_for_ever, q};
    covey::process b{covey::process_options{.daemon = true}, get_for_ever, q};
    std::this_thread::sleep_for(std::chrono::microseconds(500 + random() % 1500));
  }
  while (q.try_get()) {
  }
  q.join();
  // All capacity is there: nothing leaked into reserved or in flight.
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(q.try_put(i)) << i;
  EXPECT_FALSE(q.try_put(16));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(q.get(), i);
}

// ---- the mutex, at random -------------------------------------------------------------------------------------------

TEST(MutexDeath, KeepsTwoCountsEqualUnderRandomKills) {
  struct counts {
    std::atomic<std::int64_t> first{0}, second{0};
  };
  const covey::detail::region shared({.bytes = sizeof(counts)});
  // The region travels inside a queue message of its id: tests of shared_ptr are elsewhere.
  covey::mutex m;
  auto* const both = new (shared.data()) counts;
  const auto work = [](covey::mutex lock, std::uint64_t id) {
    covey::detail::encoder out;
    covey::detail::encode(out, id);
    covey::detail::decoder in{out.bytes};
    const auto held = covey::detail::region::decode(in, covey::detail::region_kind::plain);
    auto* const c = reinterpret_cast<counts*>(held.data());
    for (;;) {
      try {
        const std::scoped_lock guard(lock);
        c->first.fetch_add(1, std::memory_order_relaxed);
        c->second.fetch_add(1, std::memory_order_relaxed);
      } catch (const covey::owner_died&) {
        lock.recover([&] { c->second.store(c->first.load()); });
      }
    }
  };
  std::mt19937 random(3);
  std::vector<covey::process> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back(covey::process_options{.daemon = true}, work, m, shared.id());
  for (int i = 0; i < many_kills; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1500));
    auto& victim = workers[random() % workers.size()];
    victim.kill();
    victim = covey::process{covey::process_options{.daemon = true}, work, m, shared.id()};
  }
  workers.clear();
  m.recover([&] { both->second.store(both->first.load()); });
  m.lock();
  EXPECT_EQ(both->first.load(), both->second.load());
  EXPECT_GT(both->first.load(), 10'000);
  m.unlock();
}

}  // namespace
