// A participant writes over all of covey's shared memory that it may write. Those who share the broadcast get errors:
// no crash, no hang, no wrong message. Those who do not share it notice nothing.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/broadcast_layout.hpp>
#include <covey/process/process.hpp>
#include <covey/testing/scribbler.hpp>
#include <covey/testing/victims.hpp>

#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::broadcast;
using covey::slow_subscriber;
using covey::subscriber;
using covey::testing::filling;
using covey::testing::fillings;
using covey::testing::scribble;
using covey::testing::sealed;

enum : int { told = 3, ended = 4, wrong = 5 };

int puts_until_told(broadcast<sealed> b) {
  try {
    for (std::uint64_t n = 0;; ++n) b.put(sealed::with(n));
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

int gets_until_told(subscriber<sealed> s) {
  try {
    for (const auto& m : s)
      if (!m.whole()) return wrong;
    return ended;
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

// Words that could be true, but not beside the others: who believes them must not go round for ever.
TEST(Broadcast, ANumberThatWasNeverReachedIsDamage) {
  namespace d = covey::detail;
  const d::broadcast_core b{covey::broadcast_options{.items = 4}};
  const auto s = b.subscribe();
  for (int n = 0; n < 10; ++n) ASSERT_TRUE(b.put({}, std::nullopt, nullptr));
  const d::broadcast_memory m(b.memory());
  m.place(9).word = d::place_word::at(d::place_kind::queued, 14).word ^ m.key;
  EXPECT_THROW((void)b.put({}, std::nullopt, nullptr), covey::queue_damaged);
  d::subscription_core::copied out;
  EXPECT_THROW((void)s.next(out, std::nullopt, nullptr), covey::queue_damaged);
}

TEST(Broadcast, AHintThatWentBackIsMadeGood) {
  namespace d = covey::detail;
  const d::broadcast_core b{covey::broadcast_options{.items = 4}};
  for (int n = 0; n < 10; ++n) ASSERT_TRUE(b.put({}, std::nullopt, nullptr));
  const d::broadcast_memory m(b.memory());
  m.header().next = m.cursor_word(6);
  m.header().oldest = m.cursor_word(2);
  for (int n = 0; n < 10; ++n) ASSERT_TRUE(b.put({}, std::nullopt, nullptr));
  EXPECT_EQ(m.next_number(), 20U);
}

class BroadcastScribbled : public ::testing::TestWithParam<filling> {};

TEST_P(BroadcastScribbled, GivesErrorsToThoseWhoShareItAndNothingToOthers) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const broadcast<sealed> b{
        {.items = 32, .bytes = 64 * 1024, .when_slow = seed % 2 == 0 ? slow_subscriber::block : slow_subscriber::lag}};
    const broadcast<sealed> other{{.items = 200}};
    covey::process putter{puts_until_told, b};
    covey::process getter{gets_until_told, b.subscribe()};
    covey::process bystander{gets_until_told, other.subscribe()};
    covey::process scribbler{[](broadcast<sealed> shared, filling how, unsigned s) {
                               for (unsigned i = 0; i < 3; ++i) scribble(how, s + i);
                               try {
                                 (void)shared.subscribe();
                               } catch (const std::exception&) {
                                 // Of course.
                               }
                             },
                             b, GetParam(), seed};
    EXPECT_TRUE(scribbler.join_for(20s));
    ASSERT_TRUE(putter.join_for(20s)) << "putter hangs";
    ASSERT_TRUE(getter.join_for(20s)) << "getter hangs";
    EXPECT_EQ(putter.join().code(), told);
    EXPECT_EQ(getter.join().code(), told);
    EXPECT_THROW(b.put(sealed::with(1)), covey::queue_damaged);
    EXPECT_THROW((void)b.subscribe(), covey::queue_damaged);
    for (std::uint64_t n = 0; n < 100; ++n) other.put(sealed::with(n));
    other.close();
    EXPECT_EQ(bystander.join().code(), ended);
  }
}

// Nobody does anything when it is written over, and who sleeps in it must be told all the same.
TEST_P(BroadcastScribbled, WakesThoseWhoSleepInItAsSoonAsSomebodyLooks) {
  const broadcast<sealed> b{{.items = 32, .bytes = 64 * 1024}};
  covey::process sleeper{gets_until_told, b.subscribe()};
  EXPECT_TRUE(covey::testing::until_asleep(sleeper));
  covey::process scribbler{[](broadcast<sealed>, filling how) { scribble(how, 1); }, b, GetParam()};
  scribbler.join();
  ASSERT_TRUE(sleeper.join_for(20s)) << "hangs";
  EXPECT_EQ(sleeper.join().code(), told);
}

INSTANTIATE_TEST_SUITE_P(All, BroadcastScribbled, ::testing::ValuesIn(fillings));

}  // namespace
