// A participant writes over all of covey's shared memory that it may write. Those who share the queue get errors: no
// crash, no hang, no wrong message. Those who do not share it notice nothing.
#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/process/process.hpp>
#include <covey/testing/scribbler.hpp>
#include <covey/testing/settle.hpp>

#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::filling;
using covey::testing::fillings;
using covey::testing::scribble;
using covey::testing::sealed;

constexpr covey::queue_options small{.items = 32, .bytes = 64 * 1024};
enum : int { told = 3, ended = 4, wrong = 5 };

int puts_until_told(covey::queue<sealed> q) {
  try {
    for (std::uint64_t n = 0;; ++n) q.put(sealed::with(n));
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

int gets_until_told(covey::queue<sealed> q) {
  try {
    while (const auto m = q.get())
      if (!m->whole()) return wrong;
    return ended;
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

class QueueScribbled : public ::testing::TestWithParam<filling> {};

TEST_P(QueueScribbled, GivesErrorsToThoseWhoShareItAndNothingToOthers) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const covey::queue<sealed> q{small};
    const covey::queue<sealed> other{small};
    covey::process putter{puts_until_told, q};
    covey::process getter{gets_until_told, q};
    covey::process bystander{gets_until_told, other};
    covey::process scribbler{[](covey::queue<sealed> shared, filling how, unsigned s) {
                               for (int i = 0; i < 20; ++i) (void)shared.try_get();  // its own lane and hand, too
                               for (int i = 0; i < 3; ++i) scribble(how, s + static_cast<unsigned>(i));
                             },
                             q, GetParam(), seed};
    EXPECT_TRUE(scribbler.join_for(20s));
    ASSERT_TRUE(putter.join_for(20s)) << "hangs";
    ASSERT_TRUE(getter.join_for(20s)) << "hangs";
    EXPECT_EQ(putter.join().code(), told);
    EXPECT_EQ(getter.join().code(), told);
    EXPECT_THROW((void)q.size(), covey::queue_damaged);
    EXPECT_THROW((void)q.join_for(1s), covey::queue_damaged);
    for (std::uint64_t n = 0; n < 100; ++n) other.put(sealed::with(n));
    other.close();
    EXPECT_EQ(bystander.join().code(), ended);
  }
}

// Nobody does anything with the queue when it is written over, and who sleeps in it must be told all the same.
TEST_P(QueueScribbled, WakesThoseWhoSleepInItAsSoonAsSomebodyLooks) {
  const covey::queue<sealed> q{small};
  covey::process sleeper{gets_until_told, q};
  std::this_thread::sleep_for(20ms);
  covey::process scribbler{[](covey::queue<sealed> shared, filling how) {
                             (void)shared.try_get();
                             scribble(how, 1);
                           },
                           q, GetParam()};
  scribbler.join();
  ASSERT_TRUE(sleeper.join_for(20s)) << "hangs";
  EXPECT_EQ(sleeper.join().code(), told);
}

// Larger messages lie in memory that their producer alone may write.
TEST_P(QueueScribbled, GivesErrorsForLargeMessagesThatTheirProducerWroteOver) {
  using values = std::vector<std::uint64_t>;
  for (unsigned seed = 0; seed < 6; ++seed) {
    const covey::queue<values> q{{.items = 64, .bytes = 256 * 1024}};
    const covey::process scribbler{[](covey::queue<values> shared, filling how, unsigned s) {
                                     for (std::uint64_t n = 1; n <= 3000; ++n) shared.put(values(200, n));
                                     for (unsigned i = 0; i < 5; ++i) scribble(how, s + i);
                                     (void)shared.size();  // else the reader may have got all and sleep
                                   },
                                   q, GetParam(), seed};
    std::uint64_t last = 0;
    const auto get_whole_ones = [&] {
      while (const auto m = q.get_for(20s)) {
        ASSERT_EQ(*m, values(200, last + 1));
        ++last;
      }
    };
    EXPECT_THROW(get_whole_ones(), covey::queue_damaged);
  }
}

INSTANTIATE_TEST_SUITE_P(All, QueueScribbled, ::testing::ValuesIn(fillings));

// The payload alone is written over, by its producer, and the slot stays as it was.
TEST(QueueScribble, SeesThatALargePayloadIsNotWhatWasPut) {
  namespace d = covey::detail;
  constexpr std::size_t sizes[] = {73, 1000, 70'000};
  for (const std::size_t size : sizes) {
    for (const bool viewed : {false, true}) {
      const d::queue_core q{covey::queue_options{.items = 4, .bytes = 256 * 1024}};
      const std::vector<std::byte> message(size, std::byte{7});
      EXPECT_TRUE(q.put(d::queue_core::outgoing{.bytes = message}, std::nullopt, nullptr));
      d::queue_core::incoming m;
      ASSERT_EQ(q.get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
      EXPECT_NO_THROW(q.expect_unchanged(0, m));
      std::memset(const_cast<std::byte*>(m.large.data()), 0x55, m.large.size());  // ours: we put it
      EXPECT_THROW(q.expect_unchanged(0, m), covey::queue_damaged);
      if (!viewed) continue;
      const d::queue_core sound{covey::queue_options{.items = 4, .bytes = 256 * 1024}};
      EXPECT_TRUE(sound.put(d::queue_core::outgoing{.bytes = message}, std::nullopt, nullptr));
      ASSERT_EQ(sound.get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
      std::memset(const_cast<std::byte*>(m.large.data()), 0x55, m.large.size());
      sound.drop_one_put_back_others(d::queue_core::none);
      d::queue_core::viewed v;
      EXPECT_THROW((void)sound.get_view(v, std::nullopt, nullptr), covey::queue_damaged);
    }
  }
}

// What a thread had in hand in sound queues is done when it ends in order, whatever became of another queue.
TEST(QueueScribble, DoesNotKeepWhatIsDoneInOtherQueues) {
  namespace d = covey::detail;
  const covey::queue_options options{.items = 32, .bytes = 64 * 1024};
  const d::queue_core broken(options), sound(options), broken_too(options);
  std::thread([&] {
    const std::array<std::byte, 8> bytes{};
    for (const auto* q : {&broken, &sound, &broken_too}) {
      EXPECT_TRUE(q->put(d::queue_core::outgoing{.bytes = bytes}, std::nullopt, nullptr));
      d::queue_core::incoming m;
      EXPECT_EQ(q->get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
    }
    std::memset(broken.memory().data(), 0x55, 4096);
    std::memset(broken_too.memory().data(), 0x55, 4096);
    d::acknowledge_all();
    EXPECT_TRUE(sound.join(std::chrono::steady_clock::now(), nullptr));
  }).join();
  EXPECT_THROW((void)broken.size(), covey::queue_damaged);
}

// What a thread had in hand kept the queue's memory, though nothing could be done with it any more.
TEST(QueueScribble, KeepsNoMemoryOfADamagedQueueForAThreadThatWasTold) {
  namespace d = covey::detail;
  const auto before = covey::testing::settled();
  {
    const d::queue_core q{covey::queue_options{.items = 32, .bytes = 64 * 1024}};
    const std::array<std::byte, 8> bytes{};
    EXPECT_TRUE(q.put(d::queue_core::outgoing{.bytes = bytes}, std::nullopt, nullptr));
    d::queue_core::incoming m;
    EXPECT_EQ(q.get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
    std::memset(q.memory().data(), 0x55, 4096);
    EXPECT_THROW((void)q.get(m, std::nullopt, nullptr), covey::queue_damaged);
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

// One word of a slot that was free came to say that a message is in the hand of somebody who never lived. The queue
// took him for dead, and gave the message again, which was long done, with whatever was in its place by then.
TEST(QueueScribble, GivesNothingAgainThatWasInNobodysHand) {
  namespace d = covey::detail;
  const d::queue_core q{covey::queue_options{.items = 4, .bytes = 64 * 1024}};
  auto& header = *reinterpret_cast<d::queue_header*>(q.memory().data());
  auto* const slots = reinterpret_cast<d::message_slot*>(q.memory().data() + header.shape.slots_at);
  const std::vector<std::byte> large(1000, std::byte{1});
  d::queue_core::taken m;
  EXPECT_TRUE(q.put(d::queue_core::outgoing{.bytes = large}, std::nullopt, nullptr));
  EXPECT_EQ(q.get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
  EXPECT_TRUE(q.acknowledge());
  const d::participant nobody = d::make_name(900, 77, 5, 6);
  ASSERT_FALSE(d::may_have_lived(nobody));
  slots[0].state = d::slot_state::in_hand_of(nobody, 0).word ^ d::queue_key(q.memory().id());
  header.swept_deaths.fetch_sub(1);
  EXPECT_THROW((void)q.get(m, std::chrono::steady_clock::now(), nullptr), covey::queue_damaged);
}

}  // namespace
