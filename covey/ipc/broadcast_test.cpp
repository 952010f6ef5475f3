// What a broadcast promises while nobody dies: everybody gets everything, or is told what he missed.
#include <covey/ipc/broadcast.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/memory/weak_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <deque>
#include <latch>
#include <map>
#include <numeric>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::broadcast;
using covey::slow_subscriber;
using covey::subscriber;
using ::testing::ElementsAre;

template <class T>
std::vector<T> drain(const subscriber<T>& s) {
  std::vector<T> all;
  while (auto v = s.try_get()) all.push_back(std::move(*v));
  return all;
}

broadcast<int> small(slow_subscriber when_slow) { return broadcast<int>{{.items = 3, .when_slow = when_slow}}; }

// ---- everybody gets everything -------------------------------------------------------------------------------------

TEST(Broadcast, GivesEachSubscriberWhatWasPutAfterItSubscribed) {
  const broadcast<int> b;
  b.put(0);  // to nobody
  const auto early = b.subscribe();
  b.put(1);
  const auto late = b.subscribe();
  b.put(2);
  EXPECT_THAT(drain(early), ElementsAre(1, 2));
  EXPECT_THAT(drain(late), ElementsAre(2));
  EXPECT_EQ(early.missed(), 0U);
  EXPECT_EQ(early.try_get(), std::nullopt);
}

TEST(Broadcast, CopiesOfASubscriberShareItsMessages) {
  const broadcast<int> b;
  const auto one = b.subscribe();
  const auto same = one;
  EXPECT_EQ(one, same);
  EXPECT_EQ(b.subscribers(), 1U);
  b.put(1);
  b.put(2);
  EXPECT_EQ(one.get(), 1);
  EXPECT_EQ(same.get(), 2);
  EXPECT_EQ(one.try_get(), std::nullopt);
}

TEST(Broadcast, WorksForManyRounds) {
  for (const auto policy : {slow_subscriber::lag, slow_subscriber::drop, slow_subscriber::block}) {
    const broadcast<std::string> b{{.items = 7, .bytes = 4096, .when_slow = policy}};
    const auto s = b.subscribe();
    for (std::size_t i = 0; i < 5'000; ++i) {
      const std::string text(i * 37 % 1'500, static_cast<char>('a' + i % 26));
      b.put(text);
      ASSERT_EQ(s.get(), text);
    }
    EXPECT_EQ(s.missed(), 0U);
  }
}

TEST(Broadcast, CarriesAnythingOfAnySize) {
  const broadcast<std::string> b{{.items = 8, .bytes = 1U << 20, .when_slow = slow_subscriber::block}};
  const auto s = b.subscribe();
  const auto t = b.subscribe();
  std::vector<std::string> put;
  for (const std::size_t size : {0UL, 1UL, 240UL, 248UL, 249UL, 5'000UL, 500'000UL}) {
    put.emplace_back(size, static_cast<char>('a' + size % 26));
    b.put(put.back());
  }
  EXPECT_FALSE(b.try_put(std::string(600'000, 'x')));  // bytes
  EXPECT_EQ(drain(s), put);
  EXPECT_EQ(drain(t), put);
  EXPECT_TRUE(b.try_put(std::string(600'000, 'x')));
  EXPECT_THROW(b.put(std::string(1U << 20, 'x')), std::length_error);
}

TEST(Broadcast, GetsManyAndGoesThroughThem) {
  const broadcast<std::vector<int>> b;
  const auto s = b.subscribe();
  EXPECT_TRUE(s.get_many_for(5, 1ms).empty());
  for (int i = 0; i < 6; ++i) b.put({i, i});
  EXPECT_EQ(s.get_many(4).size(), 4U);
  b.close();
  std::vector<int> rest;
  for (const auto& v : s) rest.push_back(v.at(0));
  EXPECT_THAT(rest, ElementsAre(4, 5));
  EXPECT_TRUE(s.get_many(4).empty());
}

// ---- who is slow ---------------------------------------------------------------------------------------------------

TEST(Broadcast, TellsWhoLagsHowManyItMissed) {
  const auto b = small(slow_subscriber::lag);
  const auto slow = b.subscribe();
  for (int i = 0; i < 3; ++i) b.put(i);
  EXPECT_EQ(slow.get(), 0);
  for (int i = 3; i < 8; ++i) EXPECT_TRUE(b.try_put(i));
  EXPECT_EQ(slow.missed(), 0U);  // it does not know yet
  EXPECT_EQ(slow.get(), 5);
  EXPECT_EQ(slow.missed(), 4U);
  EXPECT_THAT(drain(slow), ElementsAre(6, 7));
  for (int i = 8; i < 18; ++i) b.put(i);
  EXPECT_EQ(slow.get(), 15);
  EXPECT_EQ(slow.missed(), 11U);
}

TEST(Broadcast, LagsAlsoWhenALargeMessageTakesThePlaceOfSeveral) {
  const broadcast<std::string> b{{.items = 100, .bytes = 10'000}};
  const auto s = b.subscribe();
  for (int i = 0; i < 9; ++i) b.put(std::string(1'000, 'a'));
  b.put(std::string(9'900, 'b'));
  EXPECT_EQ(s.get()->size(), 9'900U);
  EXPECT_EQ(s.missed(), 9U);
  b.put("c");
  b.put("d");
  EXPECT_THAT(drain(s), ElementsAre("c", "d"));
}

TEST(Broadcast, DropsWhoIsTooSlowAndNobodyElse) {
  const auto b = small(slow_subscriber::drop);
  const auto slow = b.subscribe();
  const auto quick = b.subscribe();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(b.try_put(i));
    EXPECT_EQ(quick.get(), i);
  }
  EXPECT_EQ(covey::wait_any(slow), 0U);
  EXPECT_THROW((void)slow.get(), covey::too_slow);
  EXPECT_THROW((void)slow.try_get(), covey::too_slow);
  b.put(4);
  EXPECT_EQ(quick.get(), 4);
  const auto again = b.subscribe();
  b.put(5);
  EXPECT_EQ(again.get(), 5);
}

TEST(Broadcast, BlocksForTheSlowestOne) {
  const auto b = small(slow_subscriber::block);
  const auto slow = b.subscribe();
  auto gone = std::optional(b.subscribe());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(b.try_put(i));
  EXPECT_EQ(slow.get(), 0);
  EXPECT_FALSE(b.try_put(3));
  EXPECT_FALSE(b.put_for(3, 1ms));
  gone.reset();
  EXPECT_TRUE(b.try_put(3));
  EXPECT_FALSE(b.try_put(4));
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_FALSE(b.put_for(4, 1h, stop.get_token()));
  std::jthread putting([&] { b.put(4); });
  EXPECT_EQ(slow.get(), 1);
  putting.join();
  EXPECT_THAT(drain(slow), ElementsAre(2, 3, 4));
  EXPECT_EQ(slow.missed(), 0U);
}

// Its end is the keeper's to tell, not that of whoever has the last copy.
TEST(Broadcast, WhoBlocksIsToldOfTheEndOfASubscription) {
  const auto b = small(slow_subscriber::block);
  auto s = std::optional(b.subscribe());
  for (int i = 0; i < 3; ++i) b.put(i);
  const covey::event about_to_put;
  covey::process putter{[](broadcast<int> to, covey::event e) {
                          e.set();
                          to.put(3);
                        },
                        b, about_to_put};
  about_to_put.wait();
  EXPECT_TRUE(covey::testing::until_asleep(putter));
  s.reset();
  EXPECT_EQ(putter.join().code(), 0);
}

TEST(Broadcast, RefusesMoreSubscribersThanItHasRoomFor) {
  const broadcast<int> b{{.subscribers = 2}};
  const auto one = b.subscribe();
  auto two = std::optional(b.subscribe());
  EXPECT_THROW((void)b.subscribe(), std::length_error);
  two.reset();
  EXPECT_EQ(b.subscribers(), 1U);
  two = b.subscribe();
  b.put(1);
  EXPECT_EQ(two->get(), 1);
}

TEST(Broadcast, RefusesWhatCannotBe) {
  EXPECT_THROW(broadcast<int>{0}, std::invalid_argument);
  EXPECT_THROW((broadcast<int>{{.bytes = 0}}), std::invalid_argument);
  EXPECT_THROW((broadcast<int>{{.subscribers = 0}}), std::invalid_argument);
  EXPECT_THROW((broadcast<int>{{.subscribers = 5000}}), std::invalid_argument);
  const broadcast<int> b;
  covey::detail::encoder out;
  b.encode_handle(out);
  covey::detail::decoder in{out.bytes};
  EXPECT_THROW((void)covey::queue<int>::decode_handle(in), covey::bad_message);
}

TEST(Broadcast, RefusesMorePublishingThreadsThanItHasLanes) {
  const broadcast<int> b{{.items = 3}};
  const auto s = b.subscribe();
  std::atomic<int> put{0};
  std::atomic<int> refused{0};
  std::latch all{257};
  const auto put_and_stay = [&](int n) {
    try {
      b.put(n);
      ++put;
    } catch (const std::length_error&) {
      ++refused;
    }
    all.arrive_and_wait();
  };
  std::vector<std::jthread> threads;
  for (int n = 0; n < 257; ++n) threads.emplace_back(put_and_stay, n);
  threads.clear();
  EXPECT_EQ(put, 256);
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(drain(s).size(), 3U);
  b.put(7);  // their lanes are free
  EXPECT_THAT(drain(s), ElementsAre(7));
}

// Both bounds are exact, whatever the sizes are: as in a model of the simplest kind.
TEST(Broadcast, KeepsExactlyWhatItsBoundsSay) {
  constexpr std::size_t items = 7;
  constexpr std::size_t bytes = 10'000;
  const broadcast<std::string> b{{.items = items, .bytes = bytes, .when_slow = slow_subscriber::block}};
  const auto s = b.subscribe();
  std::mt19937 random(5);
  std::deque<std::size_t> kept;
  covey::detail::encoder out;
  const std::size_t more = [&] {  // than the text: what a message has besides
    covey::detail::encode(out, std::string());
    return out.bytes.size();
  }();
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t size = random() % 3 == 0 ? random() % (bytes - more + 1) : random() % 50;
    const std::size_t sum = std::accumulate(kept.begin(), kept.end(), kept.size() * more);
    ASSERT_EQ(b.try_put(std::string(size, 'x')), kept.size() < items && sum + size + more <= bytes) << i;
    if (kept.size() < items && sum + size + more <= bytes) kept.push_back(size);
    if (random() % 3 == 0 || kept.size() == items) {
      ASSERT_EQ(s.get()->size(), kept.front());
      kept.pop_front();
    }
  }
}

// ---- the end -------------------------------------------------------------------------------------------------------

TEST(Broadcast, ClosesForAll) {
  const broadcast<int> b;
  const auto s = b.subscribe();
  b.put(1);
  b.close();
  EXPECT_TRUE(b.closed());
  EXPECT_TRUE(s.closed());
  EXPECT_THROW(b.put(2), covey::queue_closed);
  EXPECT_EQ(s.get(), 1);
  EXPECT_EQ(s.get(), std::nullopt);
  EXPECT_EQ(b.subscribe().get(), std::nullopt);
}

TEST(Broadcast, DiscardsWhenClosedSo) {
  for (const auto policy : {slow_subscriber::lag, slow_subscriber::drop, slow_subscriber::block}) {
    const auto b = small(policy);
    const auto s = b.subscribe();
    b.put(1);
    b.close(covey::close_mode::discard);
    EXPECT_EQ(s.get(), std::nullopt);
  }
}

TEST(Broadcast, ClosingWakesAllWhoWait) {
  const auto b = small(slow_subscriber::block);
  const auto full = b.subscribe();
  const auto empty = b.subscribe();
  for (int i = 0; i < 3; ++i) b.put(i);
  EXPECT_THAT(drain(empty), ElementsAre(0, 1, 2));
  covey::process putter{[](broadcast<int> to) {
                          try {
                            to.put(3);
                          } catch (const covey::queue_closed&) {
                            return 7;
                          }
                          return 0;
                        },
                        b};
  covey::process getter{[](subscriber<int> from) { return from.get() ? 0 : 7; }, empty};
  EXPECT_TRUE(covey::testing::until_asleep(putter) && covey::testing::until_asleep(getter));
  b.close();
  EXPECT_EQ(putter.join().code(), 7);
  EXPECT_EQ(getter.join().code(), 7);
}

TEST(Broadcast, WaitsNoLongerThanItIsTold) {
  const broadcast<int> b;
  const auto s = b.subscribe();
  EXPECT_EQ(s.get_for(1ms), std::nullopt);
  EXPECT_EQ(s.get_until(std::chrono::steady_clock::now() + 1ms), std::nullopt);
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_EQ(s.get(stop.get_token()), std::nullopt);
}

// ---- between processes ---------------------------------------------------------------------------------------------

// Subscribed by who starts it, it misses nothing however late the process comes.
TEST(Broadcast, ASubscriberTravels) {
  const broadcast<int> b;
  covey::process summer{[](subscriber<int> numbers) {
                          int sum = 0;
                          for (const int n : numbers) sum += n;
                          return sum;
                        },
                        b.subscribe()};
  for (int i = 1; i <= 10; ++i) b.put(i);
  b.close();
  EXPECT_EQ(summer.join().code(), 55);
  EXPECT_EQ(b.subscribers(), 0U);
}

using numbered = std::pair<int, int>;

int gets_all_in_order(subscriber<numbered> s, int publishers, int each) {
  std::map<int, int> next;
  int n = 0;
  for (const auto& [who, number] : s) {
    if (next[who]++ != number) return 1;
    ++n;
  }
  return n == publishers * each && s.missed() == 0 ? 0 : 2;
}

TEST(Broadcast, GivesAllOfManyPublishersToAllSubscribersInOneOrder) {
  constexpr int publishers = 3;
  constexpr int each = 3'000;
  const broadcast<numbered> b{{.items = 64, .when_slow = slow_subscriber::block}};
  std::vector<covey::process> getters;
  for (int i = 0; i < 3; ++i) getters.emplace_back(gets_all_in_order, b.subscribe(), publishers, each);
  const auto one = b.subscribe();
  const auto other = b.subscribe();
  std::vector<covey::process> putters;
  for (int p = 0; p < publishers; ++p)
    putters.emplace_back(
        [](broadcast<numbered> to, int who) {
          for (int i = 0; i < each; ++i) to.put({who, i});
        },
        b, p);
  for (int i = 0; i < publishers * each; ++i) ASSERT_EQ(one.get(), other.get());
  for (auto& p : putters) p.join();
  b.close();
  for (auto& g : getters) EXPECT_EQ(g.join().code(), 0);
}

// They overtake each other all the time: what is got is whole, in order, and what was not is counted.
TEST(Broadcast, LaggingProcessesCountWhatTheyMiss) {
  constexpr std::uint64_t count = 5'000;
  using text = std::vector<std::uint64_t>;
  const broadcast<text> b{{.items = 8}};
  std::vector<covey::process> getters;
  for (int i = 0; i < 3; ++i)
    getters.emplace_back(
        [](subscriber<text> s) {
          std::uint64_t got = 0;
          std::uint64_t last = 0;
          for (const text& t : s) {
            const std::uint64_t n = t.at(0);
            if (n <= last || t != text(1 + n % 5'000, n)) return 1;
            last = n;
            if (++got + s.missed() != n) return 2;
          }
          return last == count ? 0 : 3;
        },
        b.subscribe());
  for (std::uint64_t n = 1; n <= count; ++n) b.put(text(1 + n % 5'000, n));
  b.close();
  for (auto& g : getters) EXPECT_EQ(g.join().code(), 0);
}

// ---- references ----------------------------------------------------------------------------------------------------

using object = covey::shared_ptr<int>;

TEST(Broadcast, HoldsWhatAMessageNamesUntilTheLastSubscriberHasIt) {
  const broadcast<object> b;
  const auto one = b.subscribe();
  const auto other = b.subscribe();
  object o = covey::make_shared<int>(7);
  const covey::weak_ptr<int> watching = o;
  b.put(o);
  o = nullptr;
  EXPECT_EQ(**one.get(), 7);
  EXPECT_FALSE(watching.expired());
  EXPECT_EQ(**other.get(), 7);
  EXPECT_TRUE(covey::testing::eventually([&] { return watching.expired(); }));
}

TEST(Broadcast, HoldsNothingForNobody) {
  const broadcast<object> b;
  auto gone = std::optional(b.subscribe());
  object o = covey::make_shared<int>(7);
  const covey::weak_ptr<int> watching = o;
  b.put(o);
  o = nullptr;
  gone.reset();
  EXPECT_TRUE(covey::testing::eventually([&] { return watching.expired(); }));
  object p = covey::make_shared<int>(8);
  const covey::weak_ptr<int> watching_too = p;
  b.put(p);
  p = nullptr;
  EXPECT_TRUE(covey::testing::eventually([&] { return watching_too.expired(); }));
}

TEST(Broadcast, HoldsNothingForWhoWasDropped) {
  const broadcast<object> b{{.items = 2, .when_slow = slow_subscriber::drop}};
  const auto dropped = b.subscribe();
  for (int i = 0; i < 3; ++i) b.put(covey::make_shared<int>(i));
  const auto living = b.subscribe();
  object o = covey::make_shared<int>(7);
  const covey::weak_ptr<int> watching = o;
  b.put(o);
  o = nullptr;
  EXPECT_EQ(**living.get(), 7);
  EXPECT_TRUE(covey::testing::eventually([&] { return watching.expired(); }));
}

// Nobody leaves it, and nobody dies: it goes with the message in which it lay.
TEST(Broadcast, WhatASubscriptionHadNotGotIsGivenBackWhenItGoesWithAMessage) {
  const broadcast<object> b;
  const auto living = b.subscribe();
  object o = covey::make_shared<int>(7);
  const covey::weak_ptr<int> watching = o;
  {
    const covey::queue<subscriber<object>> nobody_reads;
    nobody_reads.put(b.subscribe());
    b.put(std::exchange(o, nullptr));
    EXPECT_EQ(**living.get(), 7);
    (void)covey::testing::settled();
    EXPECT_FALSE(watching.expired());
  }
  EXPECT_TRUE(covey::testing::eventually([&] { return !living.try_get() && watching.expired(); }));
}

TEST(Broadcast, HoldsNothingThatWasOverwrittenOrDiscarded) {
  const auto before = covey::testing::settled();
  {
    const broadcast<object> b{{.items = 2}};
    const auto s = b.subscribe();
    // Besides the objects: the broadcast, the subscription, and the lane of who puts.
    for (int i = 0; i < 10; ++i) b.put(covey::make_shared<int>(i));
    const auto regions = [] { return covey::testing::settled().regions; };
    EXPECT_TRUE(covey::testing::eventually([&] { return regions() == before.regions + 5; }));
    EXPECT_EQ(**s.get(), 8);
    EXPECT_EQ(s.missed(), 8U);
    EXPECT_TRUE(covey::testing::eventually([&] { return regions() == before.regions + 4; }));
    b.close(covey::close_mode::discard);
    EXPECT_TRUE(covey::testing::eventually([&] { return regions() == before.regions + 3; }));
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

TEST(Broadcast, ObjectsThatLaggardsRaceForAreWholeOrMissed) {
  const auto before = covey::testing::settled();
  {
    const broadcast<std::pair<int, object>> b{{.items = 3}};
    std::vector<covey::process> getters;
    for (int i = 0; i < 2; ++i)
      getters.emplace_back(
          [](subscriber<std::pair<int, object>> s) {
            for (const auto& [n, o] : s)
              if (*o != n) return 1;
            return 0;
          },
          b.subscribe());
    for (int i = 0; i < 1'000; ++i) b.put({i, covey::make_shared<int>(i)});
    b.close();
    for (auto& g : getters) EXPECT_EQ(g.join().code(), 0);
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

TEST(Broadcast, AMessageThatCannotBeReadIsSkipped) {
  const broadcast<std::vector<int>> b;
  const auto s = b.subscribe();
  covey::detail::encoder out;
  s.encode_handle(out);
  covey::detail::decoder in{out.bytes};
  const auto wrong = subscriber<std::string>::decode_handle(in);
  b.put({1, 2, 3});  // 3 characters, it says, in 12 bytes
  b.put({});
  EXPECT_THROW((void)wrong.get(), covey::bad_message);
  EXPECT_EQ(wrong.get(), "");
  b.put({});
  b.put({1, 2, 3});
  b.put({});
  EXPECT_EQ(wrong.get_many(9).size(), 1U);  // what came before it is not lost
  EXPECT_THROW((void)wrong.get_many(9), covey::bad_message);
  EXPECT_EQ(wrong.get_many(9).size(), 1U);
}

}  // namespace
