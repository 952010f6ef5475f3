// A participant writes over all of covey's shared memory that it may write. Those who share the queue get errors: no
// crash, no hang, no wrong message. Those who do not share it notice nothing.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/process/process.hpp>
#include <covey/testing/scribbler.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <concepts>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <set>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::filling;
using covey::testing::fillings;
using covey::testing::scribble;
using covey::testing::sealed;

constexpr covey::queue_options small{.items = 32, .bytes = 64 * 1024};
enum : int { told = 3, ended = 4, wrong = 5 };

template <class Queue>
constexpr bool has_priorities = requires { typename Queue::priority_type; };

// To a queue or its writing end; where there are priorities, several messages have the same.
template <class Queue, class End, class T>
void put(const End& to, const T& value, std::uint64_t n) {
  if constexpr (has_priorities<Queue>)
    to.put(value, static_cast<typename Queue::priority_type>(n % 5));
  else
    to.put(value);
}

// Written where it will be read.
template <class Queue>
void put_in_place(const Queue& to, const typename Queue::value_type& value, std::uint64_t n) {
  auto lent = to.loan(value.size());
  std::ranges::copy(value, lent.begin());
  if constexpr (has_priorities<Queue>)
    to.publish(lent, static_cast<typename Queue::priority_type>(n % 5));
  else
    to.publish(lent);
}

template <class Queue>
covey::detail::region memory_of(const Queue& q) {
  covey::detail::encoder out;
  q.encode_handle(out);
  return covey::detail::region::hold(out.attachments.at(0));
}

template <class Queue>
int puts_until_told(Queue q) {
  try {
    const auto out = q.writer();
    for (std::uint64_t n = 0;; ++n) put<Queue>(out, sealed::with(n), n);
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

template <class Queue>
int gets_until_told(Queue q) {
  try {
    const auto in = q.reader();
    while (const auto m = in.get())
      if (!m->whole()) return wrong;
    return ended;
  } catch (const covey::queue_damaged&) {
    return told;
  }
}

struct queues {
  template <class T>
  using queue_of = covey::queue<T>;
};
struct priority_queues {
  template <class T>
  using queue_of = covey::priority_queue<T>;
};
struct lifo_queues {
  template <class T>
  using queue_of = covey::lifo_queue<T>;
};

template <class Order>
class QueueScribbled : public ::testing::Test {};
using orders = ::testing::Types<queues, priority_queues, lifo_queues>;
TYPED_TEST_SUITE(QueueScribbled, orders);

// This process has both roles of the queue to the end: who is told that one is lost is told what is not so.
TYPED_TEST(QueueScribbled, GivesErrorsToThoseWhoShareItAndNothingToOthers) {
  using queue = typename TypeParam::template queue_of<sealed>;
  for (const filling how : fillings) {
    for (unsigned seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE("filling " + std::to_string(static_cast<int>(how)) + ", seed " + std::to_string(seed));
      const queue q{small};
      const queue other{small};
      const auto in = q.reader();
      const auto out = q.writer();
      in.take_role();
      out.take_role();
      covey::process putter{puts_until_told<queue>, q};
      covey::process getter{gets_until_told<queue>, q};
      covey::process bystander{gets_until_told<queue>, other};
      covey::process scribbler{[](queue shared, filling with, unsigned s) {
                                 for (int i = 0; i < 20; ++i) (void)shared.try_get();  // its own hand, too
                                 for (unsigned i = 0; i < 3; ++i) scribble(with, s + i);
                               },
                               q, how, seed};
      EXPECT_TRUE(scribbler.join_for(20s));
      ASSERT_TRUE(putter.join_for(20s)) << "hangs";
      ASSERT_TRUE(getter.join_for(20s)) << "hangs";
      EXPECT_EQ(putter.join().code(), told);
      EXPECT_EQ(getter.join().code(), told);
      EXPECT_THROW((void)q.size(), covey::queue_damaged);
      EXPECT_THROW((void)q.join_for(1s), covey::queue_damaged);
      for (std::uint64_t n = 0; n < 100; ++n) put<queue>(other, sealed::with(n), n);
      other.close();
      EXPECT_EQ(bystander.join().code(), ended);
    }
  }
}

// Nobody does anything with the queue when it is written over, and who sleeps in it must be told all the same.
TYPED_TEST(QueueScribbled, WakesThoseWhoSleepInItAsSoonAsSomebodyLooks) {
  using queue = typename TypeParam::template queue_of<sealed>;
  for (const filling how : fillings) {
    for (const bool full : {false, true}) {
      SCOPED_TRACE("filling " + std::to_string(static_cast<int>(how)) + (full ? ", full" : ", empty"));
      const queue q{small};
      for (std::uint64_t n = 0; full && n < small.items; ++n) put<queue>(q, sealed::with(n), n);
      covey::process sleeper =
          full ? covey::process{puts_until_told<queue>, q} : covey::process{gets_until_told<queue>, q};
      ASSERT_TRUE(covey::testing::until_asleep(sleeper));
      covey::process scribbler{[](queue shared, filling with) {
                                 (void)shared.size();
                                 scribble(with, 1);
                               },
                               q, how};
      scribbler.join();
      ASSERT_TRUE(sleeper.join_for(20s)) << "hangs";
      EXPECT_EQ(sleeper.join().code(), told);
    }
  }
}

// Larger messages lie in memory that their producer alone may write.
TYPED_TEST(QueueScribbled, GivesErrorsForLargeMessagesThatTheirProducerWroteOver) {
  using values = std::vector<std::uint64_t>;
  using queue = typename TypeParam::template queue_of<values>;
  static constexpr std::uint64_t count = 3000;
  static constexpr bool in_order = std::same_as<TypeParam, queues>;
  for (const filling how : fillings) {
    for (unsigned seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE("filling " + std::to_string(static_cast<int>(how)) + ", seed " + std::to_string(seed));
      const queue q{{.items = 64, .bytes = 256 * 1024}};
      const covey::process scribbler{[](queue shared, filling with, unsigned s) {
                                       const auto put_next =
                                           s % 2 == 0 ? put<queue, queue, values> : put_in_place<queue>;
                                       for (std::uint64_t n = 1; n <= count; ++n) put_next(shared, values(200, n), n);
                                       for (unsigned i = 0; i < 5; ++i) scribble(with, s + i);
                                       (void)shared.size();  // else the reader may have got all and sleep
                                     },
                                     q, how, seed};
      std::set<std::uint64_t> seen;
      const auto get_whole_ones = [&] {
        while (const auto m = q.get_for(20s)) {
          ASSERT_FALSE(m->empty());
          const std::uint64_t n = m->front();
          ASSERT_EQ(*m, values(200, n));
          ASSERT_TRUE(n >= 1 && n <= count);
          ASSERT_TRUE(seen.insert(n).second) << n << " came twice";
          ASSERT_TRUE(n == seen.size() || !in_order) << n;
        }
      };
      EXPECT_THROW(get_whole_ones(), covey::queue_damaged);
    }
  }
}

// What is read in place changes under the reader's eyes; the queue says so at his next call, whichever that is, and
// whether he has let go of the view before it.
TYPED_TEST(QueueScribbled, TellsWhoReadsInPlaceWhatItsProducerWroteOver) {
  using values = std::vector<std::uint64_t>;
  using queue = typename TypeParam::template queue_of<values>;
  const std::function<void(const queue&)> calls[] = {
      [](const queue& q) { (void)q.get_view(); },  //
      [](const queue& q) { (void)q.try_get(); },
      [](const queue& q) { (void)q.get_many(3); },
      [](const queue& q) { put<queue>(q, values(200, 9), 9); },
      [](const queue& q) { (void)q.size(); },
      [](const queue& q) { q.join(); },
  };
  bool let_go = false;
  for (const filling how : fillings) {
    let_go = !let_go;  // so that each call comes after both
    for (const auto& call : calls) {
      let_go = !let_go;
      SCOPED_TRACE("filling " + std::to_string(static_cast<int>(how)) + ", call " + std::to_string(&call - calls));
      const queue q{{.items = 16, .bytes = 256 * 1024}};
      covey::process producer{[](queue shared, filling with) {
                                for (std::uint64_t n = 1; n <= 5; ++n) put<queue>(shared, values(200, n), n);
                                while (shared.size() != 6) std::this_thread::sleep_for(50us);
                                scribble(with, 1);
                                ::kill(::getpid(), SIGKILL);  // and says nothing
                              },
                              q, how};
      auto view = q.get_view();
      ASSERT_TRUE(view);
      EXPECT_EQ(view->size(), 200U);
      for (std::uint64_t n = 6; n <= 7; ++n) put<queue>(q, values(200, n), n);  // that it has it
      ASSERT_TRUE(producer.join_for(20s));
      (void)std::accumulate(view->begin(), view->end(), std::uint64_t{0});
      if (let_go) view.reset();
      EXPECT_THROW(call(q), covey::queue_damaged);
    }
  }
}

// One that goes by rank threw it while it arrived, as if what brought it were damaged.
TYPED_TEST(QueueScribbled, SaysSoItselfAndNotTheQueueThatBroughtIt) {
  using queue = typename TypeParam::template queue_of<sealed>;
  const queue q{small};
  const covey::queue<queue> sound;
  sound.put(q);
  std::memset(memory_of(q).data(), 0x55, sizeof(covey::detail::queue_header));
  covey::process getter{[](covey::queue<queue> from) {
                          const auto brought = from.get().value();
                          try {
                            (void)brought.size();
                            return static_cast<int>(wrong);
                          } catch (const covey::queue_damaged&) {
                            return static_cast<int>(told);
                          }
                        },
                        sound};
  EXPECT_EQ(getter.join().code(), told);
}

// Small and large texts in turn.
std::string text_of(unsigned n) { return std::string(n % 2 == 0 ? 500 : 20, static_cast<char>('a' + n % 26)); }

// Some words of the header, of the first lanes, of its slots or of what says in which order they go; and somebody who
// shares the queue dies, so that its dead are looked for.
template <class Queue>
void write_over_a_part(const Queue& q, unsigned seed) {
  namespace d = covey::detail;
  covey::process{[](Queue victim, unsigned n) {
                   (void)victim.size();
                   const auto memory = memory_of(victim);
                   const d::queue_shape shape = reinterpret_cast<const d::queue_header*>(memory.data())->shape;
                   std::mt19937_64 random(n);
                   const std::uint64_t parts[] = {0, offsetof(d::queue_header, lanes), shape.slots_at,
                                                  shape.by_rank() ? shape.nodes_at : shape.slots_at};
                   const std::uint64_t from = parts[random() % 4] + (random() % 1024 & ~7ULL);
                   const auto begin = reinterpret_cast<std::uint64_t>(memory.data()) + from;
                   covey::testing::fill(begin, begin + (8ULL << random() % 9), fillings[n % std::size(fillings)],
                                        random);
                   ::kill(::getpid(), SIGKILL);
                 },
                 q, seed}
      .join();
}

// Whatever part it is: each call does what it says, or says that the queue is damaged.
TYPED_TEST(QueueScribbled, GivesNothingThatWasNotPutWhateverPartOfItWasWrittenOver) {
  using queue = typename TypeParam::template queue_of<std::string>;
  constexpr unsigned seeds = 100;
  unsigned damaged = 0;
  for (unsigned seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE(seed);
    const queue q{{.items = 16, .bytes = 64 << 10}};
    std::multiset<std::string> put_so_far;
    const auto put_next = [&](unsigned n) {
      put_so_far.insert(text_of(n));
      put<queue>(q, text_of(n), n);
    };
    const auto get_all = [&] {
      while (const auto text = q.get_for(0ms)) {
        const auto it = put_so_far.find(*text);
        ASSERT_NE(it, put_so_far.end()) << *text;
        put_so_far.erase(it);
      }
    };
    for (unsigned n = 0; n < 10; ++n) put_next(n);
    write_over_a_part(q, seed);
    try {
      get_all();
      for (unsigned n = 10; n < 16; ++n) put_next(n);  // blocks no one: there is room
      get_all();
      (void)q.join_for(0ms);
    } catch (const covey::queue_damaged&) {
      ++damaged;
    }
  }
  EXPECT_GT(damaged, seeds / 4);
}

// Of each order, in this process.
class QueueScribble : public ::testing::TestWithParam<covey::detail::queue_order> {};
using enum covey::detail::queue_order;
INSTANTIATE_TEST_SUITE_P(Each, QueueScribble, ::testing::Values(first_in, by_rank, newest_first));

// The payload alone is written over, by its producer, and the slot stays as it was.
TEST_P(QueueScribble, SeesThatALargePayloadIsNotWhatWasPut) {
  namespace d = covey::detail;
  constexpr std::size_t sizes[] = {73, 1000, 70'000};
  for (const std::size_t size : sizes) {
    for (const bool viewed : {false, true}) {
      const d::queue_core q{covey::queue_options{.items = 4, .bytes = 256 * 1024}, GetParam()};
      const std::vector<std::byte> message(size, std::byte{7});
      EXPECT_TRUE(q.put(d::queue_core::outgoing{.bytes = message}, std::nullopt, nullptr));
      d::queue_core::incoming m;
      ASSERT_EQ(q.get(m, std::nullopt, nullptr), d::queue_core::get_result::got);
      EXPECT_NO_THROW(m.expect_unchanged());
      std::memset(const_cast<std::byte*>(m.large.data()), 0x55, m.large.size());  // ours: we put it
      EXPECT_THROW(m.expect_unchanged(), covey::queue_damaged);
      if (!viewed) continue;
      const d::queue_core sound{covey::queue_options{.items = 4, .bytes = 256 * 1024}, GetParam()};
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
TEST_P(QueueScribble, DoesNotKeepWhatIsDoneInOtherQueues) {
  namespace d = covey::detail;
  const covey::queue_options options{.items = 32, .bytes = 64 * 1024};
  const d::queue_core broken(options, GetParam()), sound(options, GetParam()), broken_too(options, GetParam());
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
TEST_P(QueueScribble, KeepsNoMemoryOfADamagedQueueForAThreadThatWasTold) {
  namespace d = covey::detail;
  const auto before = covey::testing::settled();
  {
    const d::queue_core q{covey::queue_options{.items = 32, .bytes = 64 * 1024}, GetParam()};
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
TEST_P(QueueScribble, GivesNothingAgainThatWasInNobodysHand) {
  namespace d = covey::detail;
  const d::queue_core q{covey::queue_options{.items = 4, .bytes = 64 * 1024}, GetParam()};
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
