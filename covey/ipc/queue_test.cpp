// The contract of a queue while everybody lives; of loans and views: queue_in_place_test.cpp; how many
// wait and may wait: queue_bounds_test.cpp; the rest has queue_kill_test.cpp.
#include <covey/ipc/queue.hpp>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/ipc/priority_queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <latch>
#include <numeric>
#include <thread>

namespace {

using namespace std::chrono_literals;

struct job {
  std::string name;
  std::vector<int> numbers;
  bool operator==(const job&) const = default;
};

// Cannot be read when it is 13, nor put when it is 17.
struct superstitious {
  int number;
};

}  // namespace

template <>
struct covey::travel_as<superstitious> {
  static int pack(const superstitious& s) {
    if (s.number == 17) throw std::domain_error("seventeen");
    return s.number;
  }
  static superstitious unpack(int number) {
    if (number == 13) throw covey::bad_message("thirteen");
    return {number};
  }
};

namespace {

TEST(Queue, IsFirstInFirstOut) {
  const covey::queue<int> q{8};
  for (int i = 0; i < 8; ++i) q.put(i);
  EXPECT_EQ(q.size(), 8U);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(q.get(), i);
  EXPECT_EQ(q.try_get(), std::nullopt);
  EXPECT_TRUE(q.empty());
}

TEST(Queue, CarriesValuesToAnotherProcessAndBack) {
  const covey::queue<job> there;
  const covey::queue<job> back;
  covey::process worker{[](covey::queue<job> in, covey::queue<job> out) {
                          while (auto j = in.get()) {
                            j->numbers.push_back(static_cast<int>(j->name.size()));
                            out.put(*j);
                          }
                        },
                        there, back};
  there.put({"heron", {1, 2}});
  there.put({"", {}});
  there.close();
  EXPECT_EQ(back.get(), (job{"heron", {1, 2, 5}}));
  EXPECT_EQ(back.get(), (job{"", {0}}));
  EXPECT_EQ(worker.join().code(), 0);
}

TEST(Queue, IsNeverFullerThanItSays) {
  const covey::queue<int> q{4};
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(q.try_put(i));
  EXPECT_FALSE(q.try_put(4));
  EXPECT_FALSE(q.put_for(4, 5ms));
  EXPECT_EQ(q.get(), 0);
  EXPECT_TRUE(q.try_put(4));
  const covey::queue<std::string> bytes{covey::queue_options{.items = 100, .bytes = 10'000}};
  EXPECT_TRUE(bytes.try_put(std::string(6000, 'a')));
  EXPECT_FALSE(bytes.try_put(std::string(6000, 'b')));
  EXPECT_THROW(bytes.put(std::string(20'000, 'c')), std::length_error);
}

// The number of blocks was cut to 32 bits before it was checked.
TEST(Queue, RefusesMoreBytesThanItCanCount) {
  EXPECT_THROW(covey::queue<int>({.bytes = (248ULL << 32) + 1}), std::invalid_argument);
  EXPECT_THROW(covey::queue<int>({.bytes = ~std::size_t{0}}), std::invalid_argument);
}

TEST(Queue, CarriesMessagesOfAnySize) {
  const covey::queue<std::string> q;
  for (const std::size_t n : {0U, 1U, 247U, 248U, 249U, 4096U, 5000U, 1U << 20, 10U << 20}) {
    const std::string text(n, static_cast<char>('a' + n % 26));
    q.put(text);
    EXPECT_EQ(q.get(), text) << n;
  }
}

TEST(Queue, CarriesWhatWasPutAndNotWhatItsTypeBeginsWith) {
  struct constant {
    const int version = 1;
    int value = 2;
  };
  struct initialized {
    int version = 1;
    std::array<int, 300> values{};
  };
  static_assert(covey::detail::constant_default<initialized>, "else it is copied twice on its way out");
  const covey::queue<constant> constants;
  constants.put({.version = 7, .value = 8});
  const auto c = constants.get();
  EXPECT_EQ(c->version, 7);
  EXPECT_EQ(c->value, 8);
  const covey::queue<initialized> all;
  all.put({.version = 9, .values = {1, 2, 3}});
  const auto i = all.get();
  EXPECT_EQ(i->version, 9);
  EXPECT_EQ(i->values[2], 3);
  EXPECT_EQ(i->values[299], 0);
}

TEST(Queue, WakesASleepingReaderAndASleepingWriter) {
  const covey::queue<int> q{1};
  std::jthread reader([&] {
    for (int i = 0; i < 100; ++i) EXPECT_EQ(q.get(), i);
  });
  for (int i = 0; i < 100; ++i) q.put(i);
}

TEST(Queue, GivesEachMessageToOneOfManyConsumersInOrderOfItsProducer) {
  const covey::queue<std::pair<int, int>> q{64};
  const covey::queue<std::vector<std::pair<int, int>>> results;
  std::vector<covey::process> consumers;
  for (int c = 0; c < 3; ++c)
    consumers.emplace_back(
        [](covey::queue<std::pair<int, int>> in, covey::queue<std::vector<std::pair<int, int>>> out) {
          std::vector<std::pair<int, int>> seen;
          while (auto m = in.get()) seen.push_back(*m);
          out.put(seen);
        },
        q, results);
  std::vector<covey::process> producers;
  for (int p = 0; p < 3; ++p)
    producers.emplace_back(
        [](covey::queue<std::pair<int, int>> out, int me) {
          for (int i = 0; i < 2000; ++i) out.put({me, i});
        },
        q, p);
  for (auto& p : producers) EXPECT_EQ(p.join().code(), 0);
  q.close();
  std::map<std::pair<int, int>, int> count;
  for (std::size_t c = 0; c < consumers.size(); ++c) {
    std::map<int, int> last;
    const auto seen = results.get().value();
    for (const auto& [p, i] : seen) {
      ++count[{p, i}];
      EXPECT_LE(last.try_emplace(p, -1).first->second, i);
      last[p] = i;
    }
  }
  EXPECT_EQ(count.size(), 6000U);
}

TEST(Queue, JoinWaitsUntilAllIsDone) {
  const covey::queue<int> q;
  const covey::queue<int> sum;
  covey::process worker{[](covey::queue<int> in, covey::queue<int> out) {
                          int total = 0;
                          while (auto n = in.get()) {
                            total += *n;
                            if (*n == 100) out.put(total);
                            in.task_done();
                          }
                        },
                        q, sum};
  for (int i = 1; i <= 100; ++i) q.put(i);
  q.join();
  EXPECT_EQ(sum.size(), 1U);
  EXPECT_EQ(sum.get(), 5050);
  q.close();
  EXPECT_EQ(worker.join().code(), 0);
}

// The thread had lost its name before it acknowledged, and gave up another one's message: nobody's.
TEST(Queue, AThreadThatBeganWithAGetAndEndsHasDoneItsMessage) {
  const covey::queue<int> q;
  q.put(1);
  std::thread([&] { EXPECT_EQ(q.get(), 1); }).join();
  EXPECT_TRUE(q.join_for(1s));
  EXPECT_EQ(q.try_get(), std::nullopt);
}

TEST(Queue, TaskDoneNeedsAMessageInHand) {
  const covey::queue<int> q;
  EXPECT_THROW(q.task_done(), std::logic_error);
  q.put(1);
  EXPECT_EQ(q.get(), 1);
  EXPECT_FALSE(q.join_for(1ms));
  q.task_done();
  q.join();
  EXPECT_THROW(q.task_done(), std::logic_error);
}

TEST(Queue, GivesManyAtOnceAndAllOfThemStayInFlight) {
  const covey::queue<int> q{8};
  for (int i = 0; i < 5; ++i) q.put(i);
  EXPECT_EQ(q.get_many(3), (std::vector{0, 1, 2}));
  EXPECT_EQ(q.size(), 2U);
  q.task_done();
  q.task_done();
  EXPECT_EQ(q.get_many(100), (std::vector{3, 4}));  // 2 is done with this
  EXPECT_FALSE(q.join_for(1ms));
  EXPECT_TRUE(q.get_many_for(3, 1ms).empty());
  q.join();
  q.close();
  EXPECT_TRUE(q.get_many(3).empty());
}

TEST(Queue, GivesNoneToWhoWantsNone) {
  const covey::queue<int> q;
  EXPECT_TRUE(q.get_many(0).empty());
  q.put(1);
  EXPECT_TRUE(q.get_many(0).empty());
  EXPECT_EQ(q.size(), 1U);
}

TEST(Queue, GivingManyWakesEveryWriterForWhomThereIsRoom) {
  for (int round = 0; round < 200; ++round) {
    const covey::queue<int> q{4};
    for (int i = 0; i < 4; ++i) q.put(i);
    std::vector<std::jthread> writers;
    for (int w = 0; w < 4; ++w) writers.emplace_back([&] { q.put(9); });
    if (round % 4 == 0) std::this_thread::sleep_for(1ms);
    std::size_t got = 0;
    while (got < 8) got += q.get_many(4).size();
  }
}

TEST(Queue, OfManyOneThatCannotBeReadIsDroppedAlone) {
  const covey::queue<superstitious> q;
  for (int i = 12; i < 16; ++i) q.put({i});
  EXPECT_THROW((void)q.get_many(3), covey::bad_message);
  EXPECT_EQ(q.size(), 3U);
  std::vector<int> rest;
  for (const auto& each : q.get_many(9)) rest.push_back(each.number);
  EXPECT_EQ(rest, (std::vector{12, 14, 15}));
}

// A thread keeps a queue for what it has in hand of it. It kept it for ever when its hand became empty in one of these
// ways.
TEST(Queue, IsNotKeptByAThreadWithNothingInHand) {
  const auto before = covey::testing::settled();
  {
    const covey::queue<int> q;
    q.put(1);
    EXPECT_EQ(q.get(), 1);
    EXPECT_FALSE(q.get_failed());
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
  {
    const covey::queue<superstitious> q;
    q.put({1});
    q.put({13});
    EXPECT_THROW((void)q.get_many(2), covey::bad_message);
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

TEST(Queue, ClosesForEverybody) {
  const covey::queue<int> q;
  covey::process sleeper{[](covey::queue<int> in) { return in.get() ? 1 : 0; }, q};
  std::this_thread::sleep_for(5ms);
  q.close();
  EXPECT_EQ(sleeper.join().code(), 0);
  EXPECT_THROW(q.put(1), covey::queue_closed);
  EXPECT_TRUE(q.closed());
  const covey::queue<int> other;
  other.put(1);
  other.close(covey::close_mode::discard);
  EXPECT_EQ(other.get(), std::nullopt);
}

// One waits for room and one until all is done, when a third process closes it.
class QueueCloses : public testing::TestWithParam<covey::close_mode> {};

TEST_P(QueueCloses, ForThoseWhoSleepInIt) {
  const covey::queue<int> q{1};
  q.put(1);
  const covey::event putter_told;
  const covey::event joiner_told;
  // None of them ends before the others are told: that would wake everybody.
  const covey::process putter{covey::process_options{.daemon = true},
                              [](covey::queue<int> out, covey::event told) {
                                try {
                                  out.put(2);
                                } catch (const covey::queue_closed&) {
                                  told.set();
                                }
                                covey::testing::until_killed();
                              },
                              q, putter_told};
  const covey::process joiner{covey::process_options{.daemon = true},
                              [](covey::queue<int> all, covey::event told) {
                                all.join();
                                told.set();
                                covey::testing::until_killed();
                              },
                              q, joiner_told};
  EXPECT_TRUE(covey::testing::until_asleep(putter));
  EXPECT_TRUE(covey::testing::until_asleep(joiner));
  const covey::process closer = covey::testing::started(
      [](covey::queue<int> all, covey::close_mode how, covey::event done) {
        all.close(how);
        done.set();
        covey::testing::until_killed();
      },
      q, GetParam());
  EXPECT_TRUE(putter_told.wait_for(20s)) << "waits for room for ever";
  if (GetParam() == covey::close_mode::drain) {
    EXPECT_FALSE(joiner_told.is_set());
    EXPECT_EQ(q.get(), 1);
    q.task_done();
  }
  EXPECT_TRUE(joiner_told.wait_for(20s)) << "waits for what is gone";
  EXPECT_EQ(q.get(), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Queue, QueueCloses, testing::Values(covey::close_mode::drain, covey::close_mode::discard),
                         [](const auto& mode) {
                           return mode.param == covey::close_mode::drain ? "Draining" : "Discarding";
                         });

// A large message is copied without the lock. Committed after close(), it lay in the queue, its put() had returned, and
// the reader had seen the end.
TEST(Queue, ReadersGetWhateverAPutThatReturnedHasPutBeforeTheEnd) {
  for (int round = 0; round < 100; ++round) {
    const covey::queue<std::string> q;
    bool put = false;
    std::thread writer([&] {
      try {
        q.put(std::string(4'000'000, 'x'));
        put = true;
      } catch (const covey::queue_closed&) {
      }
    });
    std::this_thread::sleep_for(round * 50us);
    q.close();
    const bool got = q.get().has_value();
    writer.join();
    ASSERT_EQ(put, got);
  }
}

TEST(Queue, CarriesHandlesAlsoWhenTheSenderDropsIts) {
  const covey::queue<covey::event> q;
  const covey::queue<covey::queue<int>> queues;
  {
    const covey::event e;
    covey::event set = e;
    set.set();
    q.put(e);
    const covey::queue<int> inner;
    inner.put(42);
    queues.put(inner);
  }
  covey::process reader{[](covey::queue<covey::event> in, covey::queue<covey::queue<int>> more) {
                          const auto e = in.get().value();
                          const auto inner = more.get().value();
                          return e.is_set() ? inner.get().value() : 0;
                        },
                        q, queues};
  EXPECT_EQ(reader.join().code(), 42);
}

// It crashed, because it gave back what its parent had in hand.
TEST(Queue, AChildForkedPastCoveyEndsInOrder) {
  const covey::queue<int> q;
  auto writer = std::make_unique<covey::queue_writer<int>>(q.writer());
  writer->put(1);
  EXPECT_EQ(q.get(), 1);
  std::fflush(nullptr);
  const pid_t past = ::fork();
  if (past == 0) {
    writer.reset();
    ::exit(0);  // with the destructors of its thread
  }
  int status = 0;
  ASSERT_EQ(::waitpid(past, &status, 0), past);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(q.join_for(1ms));
}

// It had its parent's role, and lost it with its parent.
TEST(Queue, AForkedChildTakesARoleOfItsOwn) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "the thread sanitizer has a thread of its own, and forked() refuses a program with two";
#endif
#endif
  const covey::queue<int> q{1};
  auto reader = std::make_unique<covey::queue_reader<int>>(q.reader());
  EXPECT_EQ(reader->try_get(), std::nullopt);
  covey::event ready;
  covey::process child = covey::process::forked([&] {
    (void)reader->try_get();
    ready.set();
    return reader->get().value() + reader->get().value();
  });
  ready.wait();
  reader.reset();
  EXPECT_NO_THROW(q.put(1));
  EXPECT_NO_THROW(q.put(2));
  EXPECT_EQ(child.join().code(), 3);
}

TEST(Queue, TemporariesMayBeArguments) {
  covey::process p{[](covey::event e) { return e.is_set() ? 1 : 0; }, covey::event{}};
  const auto status = p.join();
  EXPECT_NO_THROW(status.check());
  EXPECT_EQ(status.code(), 0);
}

TEST(Queue, StopsWaitingWhenAskedTo) {
  const covey::queue<int> q;
  std::jthread waiter([&](std::stop_token stop) { EXPECT_EQ(q.get(stop), std::nullopt); });
  std::this_thread::sleep_for(5ms);
  waiter.request_stop();
}

TEST(Queue, PutsManyInOrderAndAsManyAsThereIsRoomFor) {
  const covey::queue<int> q{40};
  std::vector<int> numbers(100);
  std::iota(numbers.begin(), numbers.end(), 0);
  EXPECT_EQ(q.try_put_many(numbers), 40U);
  EXPECT_EQ(q.put_many_for(std::span(numbers).subspan(40), 1ms), 0U);
  std::jthread reader([&] {
    for (int i = 0; i < 40; ++i) EXPECT_EQ(q.get(), i);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(q.get(), i);
  });
  q.put_many(numbers);
  reader.join();
  EXPECT_TRUE(q.empty());
}

TEST(Queue, OfAMillionItemsHasManyProducers) {
  if (covey::detail::family.arena_bytes < 1ULL << 44)
    GTEST_SKIP() << "skipped: the address range is smaller here (ThreadSanitizer, RLIMIT_FSIZE)";
  const covey::queue<int> q{1'000'000};
  constexpr int producers = 40;
  std::barrier all(producers);
  {
    std::vector<std::jthread> threads;
    for (int n = 0; n < producers; ++n)
      threads.emplace_back([&, n] {
        q.put(n);
        all.arrive_and_wait();  // each keeps its lane
      });
  }
  EXPECT_EQ(q.size(), static_cast<std::size_t>(producers));
}

TEST(Queue, PutsWhatComesBeforeOneThatCannotBePut) {
  const covey::queue<superstitious> q;
  const std::vector<superstitious> some{{1}, {2}, {17}, {4}};
  EXPECT_THROW(q.put_many(some), std::domain_error);
  EXPECT_EQ(q.size(), 2U);
  EXPECT_EQ(q.get()->number, 1);
  EXPECT_EQ(q.get()->number, 2);
  EXPECT_THROW(q.put_many(std::span(some).subspan(2)), std::domain_error);
  EXPECT_TRUE(q.empty());
}

TEST(Queue, PutsManyOfAnySizeAndHandlesToo) {
  const covey::queue<std::vector<covey::event>> events;
  const covey::event e;
  events.put_many(std::vector<std::vector<covey::event>>{{e}, {}, {e, e}});
  EXPECT_EQ(events.get_many(9), (std::vector<std::vector<covey::event>>{{e}, {}, {e, e}}));
  const covey::queue<std::string> texts;
  std::vector<std::string> all;
  for (const std::size_t n : {0U, 10U, 64U, 65U, 100'000U, 3U}) all.emplace_back(n, 'x');
  texts.put_many(all);
  EXPECT_EQ(texts.get_many(9), all);
}

// What its threads remember of a queue ended with the process's last handle, but the queue has the same id when it
// comes back.
TEST(Queue, MayLeaveAProcessAndComeBack) {
  const covey::queue<covey::queue<int>> post;
  std::optional<covey::queue<int>> q(std::in_place);
  q->put_many(std::vector{1, 2, 3});
  std::latch used(1), back(1);
  std::thread other([&] {
    EXPECT_EQ(q->get(), 1);
    q->task_done();
    used.count_down();
    back.wait();
    EXPECT_EQ(q->get(), 3);
    q->put(4);
    q->task_done();
  });
  used.wait();
  post.put(*q);
  q.reset();
  q = post.get();
  EXPECT_EQ(q->get(), 2);
  q->task_done();
  back.count_down();
  other.join();
  EXPECT_EQ(q->get(), 4);
  q->task_done();
  post.task_done();
}

// They run after the thread has forgotten its queues.
TEST(Queue, ServesDestructorsAtTheEndOfTheThread) {
  const auto before = covey::testing::settled();
  {
    const covey::queue<std::string> q;
    const covey::priority_queue<std::pair<int, std::string>> ordered;
    struct late {
      ~late() {
        for (int i = 0; i < 3; ++i) {
          queue->put("last");
          ordered->put({i, "words"});
          EXPECT_EQ(queue->get(), "last");
          EXPECT_EQ(ordered->get(), std::pair(i, std::string("words")));
        }
        queue.reset();
        ordered.reset();
      }
      std::optional<covey::queue<std::string>> queue{};
      std::optional<covey::priority_queue<std::pair<int, std::string>>> ordered{};
    };
    std::thread([&] {
      thread_local late last;
      last.queue = q;
      last.ordered = ordered;
      q.put("first");
      ordered.put({1, "first"});
      EXPECT_EQ(q.get(), "first");
      EXPECT_EQ(ordered.get(), std::pair(1, std::string("first")));
    }).join();
    EXPECT_TRUE(q.join_for(5s));
    EXPECT_TRUE(ordered.join_for(5s));
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

// The ring comes round to a slot whose message is still in somebody's hand.
TEST(Queue, GoesOnAroundAMessageThatStaysInAHand) {
  const covey::queue<std::string> q{covey::queue_options{.items = 4, .bytes = 4096}};
  q.put(std::string(1000, 'a'));
  const auto kept = q.get_view().value();
  for (int i = 0; i < 2000; ++i) {
    const std::string text(static_cast<std::size_t>(i % 1500), 'b');
    q.put(text);
    ASSERT_EQ(q.get(), text);
    q.task_done();
  }
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(q.try_put("c")) << i;
  EXPECT_FALSE(q.try_put("d"));
  EXPECT_EQ(q.size(), 4U);
  EXPECT_EQ(std::string(kept.begin(), kept.end()), std::string(1000, 'a'));
}

struct office {
  covey::queue<std::string> in{4};
  covey::queue<std::string> out{4};
};

// The process that takes from it was never given the queues, only the object in which they lie.
TEST(Queue, MayLieInASharedObject) {
  const auto before = covey::testing::settled();
  {
    const auto o = covey::make_shared<office>();
    covey::process clerk{[](covey::shared_ptr<office> there) {
                           while (const auto letter = there->in.get()) {
                             there->out.put(*letter + ", answered");
                             there->in.task_done();
                           }
                         },
                         o};
    o->in.put("a letter");
    EXPECT_EQ(o->out.get(), "a letter, answered");
    o->out.task_done();
    o->in.close();
    EXPECT_TRUE(clerk.join().success());
  }
  EXPECT_TRUE(covey::testing::comes_back_to(before));
}

}  // namespace
