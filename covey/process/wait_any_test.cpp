// One who waits for several things, in threads and processes; some of those who wait, and of those waited for, are
// killed.
#include <covey/process/wait_any.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/pipe.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/room.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>

#include <random>
#include <set>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::wait_any;
using covey::wait_any_for;
using covey::testing::descriptors_open;
using covey::testing::until_asleep;

struct pipe_of_two {
  pipe_of_two() {
    int fds[2];
    if (::pipe(fds) != 0) throw std::runtime_error("pipe");
    out.reset(fds[0]);
    in.reset(fds[1]);
  }
  void put() const { EXPECT_EQ(::write(in.get(), "x", 1), 1); }
  covey::unique_fd out, in;
};

void sleep_for_ever() {
  for (;;) ::pause();
}

// These two fork, which is refused once covey has a thread of its own here: they come first.
TEST(WaitAny, SeesTheEndOfAForkedProcess) {
  const covey::event never;
  for (int i = 0; i < 20; ++i) {
    covey::process p = covey::process::forked([] { return 3; });
    EXPECT_EQ(wait_any(never, p), 1U);
    EXPECT_EQ(p.join().code(), 3);
    covey::process dies = covey::process::forked([]() -> int { covey::testing::until_killed(); });
    dies.kill();  // perhaps before the family knows it
    EXPECT_EQ(wait_any(never, dies), 1U);
  }
}

TEST(WaitAny, WithDescriptorsAloneStartsNoThread) {
  const pipe_of_two p;
  covey::process child{sleep_for_ever};
  EXPECT_EQ(wait_any_for(1ms, child, covey::readable{p.out.get()}), std::nullopt);
  // The child makes a descriptor of its own to be woken by.
  covey::process forked = covey::process::forked([&] {
    const covey::event e;
    std::jthread setter([&] { covey::event(e).set(); });
    return wait_any(e, covey::readable{p.out.get()}) == 0 ? 0 : 1;
  });
  EXPECT_EQ(forked.join().code(), 0);
  child.kill();
}

// `make_ready` is called once before anybody waits, and once by a process that sees the waiting one asleep.
template <class Object, class MakeReady>
void is_seen_before_and_while_waiting(const Object& object, const MakeReady& make_ready) {
  const covey::event never;
  EXPECT_EQ(wait_any_for(0ns, never, object), std::nullopt);
  EXPECT_EQ(wait_any_for(0.5ms, never, object), std::nullopt);
  EXPECT_EQ(wait_any_for(std::chrono::hours::min(), never, object), std::nullopt);
  std::jthread later([&, waiter = ::getpid(), tid = ::gettid()] {
    const std::string stat = "/proc/" + std::to_string(waiter) + "/task/" + std::to_string(tid) + "/stat";
    std::string text;
    do {
      std::this_thread::yield();
      std::getline(std::ifstream(stat), text);
    } while (text.substr(text.rfind(')') + 2, 1) != "S");
    make_ready();
  });
  EXPECT_EQ(wait_any(never, object), 1U);
  later.join();
  EXPECT_EQ(wait_any(object, never), 0U);  // nothing was taken
  EXPECT_EQ(wait_any(never, object, object), 1U);
}

TEST(WaitAny, SeesAMessage) {
  const covey::queue<int> q;
  is_seen_before_and_while_waiting(q, [&] { q.put(1); });
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(wait_any_for(0ns, q), std::nullopt);
}

TEST(WaitAny, SeesAMessageAtAReader) {
  const covey::queue<std::string> q;
  const auto r = q.reader();
  is_seen_before_and_while_waiting(r, [&] { q.put("one"); });
}

TEST(WaitAny, SeesAMessageInAnyOrder) {
  const covey::priority_queue<int> p;
  is_seen_before_and_while_waiting(p, [&] { p.put(1); });
  const covey::priority_queue<int> read;
  is_seen_before_and_while_waiting(read.reader(), [&] { read.put(1); });
  const covey::lifo_queue<int> l;
  is_seen_before_and_while_waiting(l, [&] { l.put(1); });
}

TEST(WaitAny, SeesAMessageInAPipe) {
  const auto [one, other] = covey::make_pipe<int>();
  is_seen_before_and_while_waiting(one, [&o = other] { o.put(1); });
  EXPECT_EQ(wait_any_for(0ns, other), std::nullopt);
  EXPECT_EQ(one.get(), 1);
  other.close();
  EXPECT_EQ(wait_any(one), 0U);
}

TEST(WaitAny, SeesABroadcastOnEachSubscriber) {
  const covey::broadcast<int> b;
  const auto s = b.subscribe();
  const auto t = b.subscribe();
  is_seen_before_and_while_waiting(s, [&] { b.put(1); });
  EXPECT_EQ(s.get(), 1);
  EXPECT_EQ(wait_any_for(0ns, s), std::nullopt);
  EXPECT_EQ(wait_any(s, t), 1U);
  EXPECT_EQ(t.get(), 1);
  is_seen_before_and_while_waiting(t, [&] { b.close(); });
}

TEST(WaitAny, SeesTheEndOfAQueue) {
  const covey::queue<int> q;
  is_seen_before_and_while_waiting(q, [&] { q.close(); });
}

TEST(WaitAny, SeesRoomInAnyOrder) {
  const auto is_seen_in = [](const auto& q) {
    q.put(1);
    is_seen_before_and_while_waiting(covey::room{q}, [&] { (void)q.get(); });
    q.put(1);
    is_seen_before_and_while_waiting(q.writer(), [&] { (void)q.get(); });
    q.put(1);
    is_seen_before_and_while_waiting(q.writer(), [&] { q.close(); });
  };
  is_seen_in(covey::queue<int>{1});
  is_seen_in(covey::priority_queue<int>{1});
  is_seen_in(covey::lifo_queue<int>{1});
}

TEST(WaitAny, SeesRoomInAPipeAndABroadcast) {
  const auto [one, other] = covey::make_pipe<int>(covey::queue_options{.items = 1});
  one.put(1);
  is_seen_before_and_while_waiting(covey::room{one}, [&o = other] { (void)o.get(); });
  const covey::broadcast<int> b{covey::broadcast_options{.items = 1, .when_slow = covey::slow_subscriber::block}};
  auto s = std::optional(b.subscribe());
  b.put(1);
  is_seen_before_and_while_waiting(covey::room{b}, [&] { (void)s->get(); });
  b.put(2);
  is_seen_before_and_while_waiting(covey::room{b}, [&] { s.reset(); });
  EXPECT_EQ(wait_any(covey::room{covey::broadcast<int>{1}}), 0U) << "it never waits";
}

TEST(WaitAny, SeesAnEvent) {
  covey::event e;
  is_seen_before_and_while_waiting(e, [&] { e.set(); });
  e.clear();
  EXPECT_EQ(wait_any_for(0ns, e), std::nullopt);
}

TEST(WaitAny, SeesASemaphore) {
  covey::counting_semaphore<> s(0);
  is_seen_before_and_while_waiting(s, [&] { s.release(); });
  s.acquire();
  EXPECT_EQ(wait_any_for(0ns, s), std::nullopt);
}

TEST(WaitAny, SeesAPermit) {
  covey::permits p(1);
  p.acquire();
  is_seen_before_and_while_waiting(p, [&] { p.release(); });
}

TEST(WaitAny, SeesALatch) {
  covey::latch l(1);
  is_seen_before_and_while_waiting(l, [&] { l.count_down(); });
}

TEST(WaitAny, SeesADescriptorThatCanBeRead) {
  const pipe_of_two p;
  is_seen_before_and_while_waiting(covey::readable{p.out.get()}, [&] { p.put(); });
}

TEST(WaitAny, SeesADescriptorThatCanBeWritten) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  const covey::unique_fd a(pair[0]);
  const covey::unique_fd b(pair[1]);
  std::vector<char> much(1U << 16);
  while (::write(a.get(), much.data(), much.size()) > 0) {
  }
  is_seen_before_and_while_waiting(covey::writable{a.get()}, [&] {
    while (::read(b.get(), much.data(), much.size()) > 0) {
    }
  });
}

TEST(WaitAny, SeesTheEndOfAProcess) {
  covey::process p{sleep_for_ever};
  is_seen_before_and_while_waiting(p, [&] { p.kill(); });
  EXPECT_FALSE(p.alive());
  EXPECT_EQ(p.join().signal(), SIGKILL);
  EXPECT_EQ(wait_any(p), 0U);
  EXPECT_EQ(wait_any(covey::process()), 0U);
}

TEST(WaitAny, SeesObjectsProcessesAndDescriptorsTogether) {
  const covey::queue<int> q;
  const covey::event e;
  covey::counting_semaphore<> s(0);
  covey::process p{sleep_for_ever};
  const pipe_of_two pipe;
  const covey::readable r{pipe.out.get()};
  EXPECT_EQ(wait_any_for(1ms, q, e, s, p, r), std::nullopt);
  const covey::process putter{[](covey::queue<int> out) { out.put(1); }, q};
  EXPECT_EQ(wait_any(q, e, s, p, r), 0U);
  (void)q.get();
  const covey::process setter{[](covey::event out) { out.set(); }, e};
  EXPECT_EQ(wait_any(q, e, s, p, r), 1U);
  covey::event(e).clear();
  const covey::process releaser{[](covey::counting_semaphore<> out) { out.release(); }, s};
  EXPECT_EQ(wait_any(q, e, s, p, r), 2U);
  EXPECT_TRUE(s.try_acquire());
  p.kill();
  EXPECT_EQ(wait_any(q, e, s, p, r), 3U);
  EXPECT_FALSE(p.alive());
  EXPECT_EQ(wait_any_for(1ms, q, e, s, r), std::nullopt);
  std::jthread later([&] { pipe.put(); });
  EXPECT_EQ(wait_any(q, e, s, r), 3U);
}

TEST(WaitAny, PrefersTheFirst) {
  covey::event a;
  covey::event b;
  a.set();
  b.set();
  EXPECT_EQ(wait_any(a, b), 0U);
  EXPECT_EQ(wait_any(b, a), 0U);
  const pipe_of_two p;
  p.put();
  EXPECT_EQ(wait_any(covey::readable{p.out.get()}, a), 0U);
  EXPECT_EQ(wait_any(b, covey::readable{p.out.get()}), 0U);
}

TEST(WaitAny, TakesARange) {
  std::vector<covey::process> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back(sleep_for_ever);
  EXPECT_EQ(wait_any_for(1ms, workers), std::nullopt);
  workers[1].kill();
  EXPECT_EQ(wait_any(workers), 1U);
  std::array<const covey::process*, 2> some{&workers[2], &workers[1]};
  EXPECT_EQ(wait_any(std::span(some)), 1U);
  for (auto& w : workers) w.kill();
}

TEST(WaitAny, RefusesTooMany) {
  const std::vector<covey::event> enough(126);
  EXPECT_EQ(wait_any_for(1ms, enough), std::nullopt);
  EXPECT_EQ(wait_any_for(1ms, std::stop_source().get_token(), enough), std::nullopt);
  const std::vector<covey::event> many(127);
  try {
    (void)wait_any_for(1ms, many);
    ADD_FAILURE();
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::argument_list_too_long);
    EXPECT_NE(std::string(e.what()).find("at most 126 objects"), std::string::npos) << e.what();
  }
}

TEST(WaitAny, StopsWhenAskedTo) {
  const covey::event never;
  const pipe_of_two p;
  for (const bool early : {true, false}) {
    std::stop_source words;
    std::stop_source polling;
    if (early) words.request_stop(), polling.request_stop();
    std::jthread a([&] { EXPECT_EQ(wait_any(words.get_token(), never), std::nullopt); });
    std::jthread b(
        [&] { EXPECT_EQ(wait_any_for(1h, polling.get_token(), never, covey::readable{p.out.get()}), std::nullopt); });
    words.request_stop();
    polling.request_stop();
  }
  EXPECT_EQ(covey::wait_any_until(std::chrono::system_clock::now() + 1ms, never), std::nullopt);
  EXPECT_EQ(covey::wait_any_until(std::chrono::steady_clock::now() + 1ms, std::stop_token(), never), std::nullopt);
}

TEST(WaitAny, SeesAFlashOfAnEvent) {
  const covey::event never;
  covey::event flash;
  auto waiter = covey::testing::started(
      [](covey::event n, covey::event f, covey::event there) {
        there.set();
        return static_cast<int>(wait_any(n, f));
      },
      never, flash);
  EXPECT_TRUE(until_asleep(waiter));
  flash.set();
  flash.clear();
  EXPECT_EQ(waiter.join().code(), 1);
}

TEST(WaitAny, SaysThatWhoShouldSetTheEventDied) {
  const covey::event ready;
  for (int i = 0; i < 20; ++i) {
    covey::process setter{[](covey::event) { ::kill(::getpid(), SIGKILL); }, ready};
    EXPECT_EQ(wait_any(ready, setter), 1U);
  }
}

TEST(WaitAny, SeesWhatADeadConsumerHadInHandAndADeadOwnersPermit) {
  const covey::queue<int> q;
  covey::permits p(1);
  const covey::event never;
  q.put(7);
  auto victim = covey::testing::started(
      [](covey::queue<int> in, covey::permits from, covey::event there) {
        (void)in.get();
        from.acquire();
        there.set();
        covey::testing::until_killed();
      },
      q, p);
  EXPECT_EQ(wait_any_for(0ns, q, p), std::nullopt);
  std::jthread permit([&] { EXPECT_EQ(wait_any(never, p), 1U); });
  std::jthread killer([&] { victim.kill(); });
  EXPECT_EQ(wait_any(never, q), 1U);
  EXPECT_EQ(q.try_get(), 7);
}

TEST(WaitAny, SeesThatTheLastWriterDied) {
  const covey::queue<int> q;
  const covey::event never;
  auto victim = covey::testing::started(
      [](covey::queue_writer<int> w, covey::event there) {
        w.put(1);
        there.set();
        covey::testing::until_killed();
      },
      q.writer());
  EXPECT_EQ(q.get(), 1);
  q.task_done();
  EXPECT_EQ(wait_any_for(0ns, q), std::nullopt);
  std::jthread killer([&] { victim.kill(); });
  EXPECT_EQ(wait_any(never, q), 1U);
  EXPECT_THROW((void)q.get(), covey::no_producers);
}

// Who sleeps looks again after a second anyway: so many seconds are more than this test has. So many objects are not
// looked at before sleeping.
TEST(WaitAny, IsWokenEachTime) {
  constexpr int rounds = 200;
  const covey::queue<int> there;
  const covey::counting_semaphore<> back(0);
  const covey::event never;
  covey::process echo{[](covey::queue<int> in, covey::counting_semaphore<> out, covey::event no) {
                        while (wait_any(no, no, no, no, in) == 4 && in.get()) out.release();
                      },
                      there, back, never};
  for (int i = 0; i < rounds; ++i) {
    there.put(i);
    EXPECT_EQ(wait_any(never, never, never, never, back), 4U);
    EXPECT_TRUE(covey::counting_semaphore<>(back).try_acquire());
  }
  there.close();
  EXPECT_TRUE(echo.join().success());
}

// The same for room, of which each message that is got makes some.
TEST(WaitAny, IsWokenEachTimeThereIsRoom) {
  constexpr int rounds = 200;
  const covey::queue<int> q{1};
  const covey::event never;
  covey::process putter{[](covey::queue<int> out, covey::event no) {
                          const auto w = out.writer();
                          for (int i = 0; i < rounds;)
                            if (wait_any(no, no, no, no, w) == 4 && w.try_put(i)) ++i;
                        },
                        q, never};
  for (int i = 0; i < rounds; ++i) {
    (void)until_asleep(putter);
    EXPECT_EQ(q.get(), i);
  }
  EXPECT_TRUE(putter.join().success());
}

// A wake that was meant for one who waits for the queue alone must not be lost at one who then returns for the event.
TEST(WaitAny, TakesNoWakeFromOthers) {
  constexpr int messages = 20'000;
  const covey::queue<int> q{covey::queue_options{.items = 8}};
  covey::counting_semaphore<> all(0);
  covey::event busy;
  const covey::event over;
  std::vector<covey::process> those;
  for (int i = 0; i < 2; ++i)
    those.emplace_back(
        [](covey::queue<int> in, covey::counting_semaphore<> done) {
          while (in.get()) done.release();
        },
        q, all);
  for (int i = 0; i < 2; ++i)
    those.emplace_back(
        [](covey::queue<int> in, covey::counting_semaphore<> done, covey::event e) {
          for (;;) {
            if (wait_any(e, in) == 0) {
              e.clear();
              continue;
            }
            const auto m = in.try_get();
            if (m) done.release();
            if (!m && in.closed()) return;
          }
        },
        q, all, busy);
  covey::process firing{[](covey::event e, covey::event end) {
                          while (!end.wait_for(20us)) e.set();
                        },
                        busy, over};
  for (int i = 0; i < messages; ++i) q.put(i);
  for (int i = 0; i < messages; ++i) ASSERT_TRUE(all.try_acquire_for(10s)) << i;
  q.close();
  for (auto& p : those) EXPECT_TRUE(p.join().success());
  covey::event(over).set();
}

TEST(WaitAny, TakesNoPermitFromOthers) {
  constexpr int rounds = 5'000;
  covey::counting_semaphore<> some(0);
  covey::counting_semaphore<> taken(0);
  covey::event busy;
  std::vector<std::jthread> those;
  for (int i = 0; i < 2; ++i)
    those.emplace_back([&](const std::stop_token& stop) {
      while (some.try_acquire_for(1h, stop)) taken.release();
    });
  // These look only, and leave what they see to the others.
  for (int i = 0; i < 2; ++i)
    those.emplace_back([&](const std::stop_token& stop) {
      while (wait_any(stop, busy, some)) busy.clear();
    });
  those.emplace_back([&](const std::stop_token& stop) {
    const covey::event never;
    while (!never.wait_for(50us) && !stop.stop_requested()) busy.set();
  });
  for (int i = 0; i < rounds; ++i) {
    some.release();
    ASSERT_TRUE(taken.try_acquire_for(10s)) << i;
  }
}

TEST(WaitAny, IsKilledAnywhereAndHarmsNobody) {
  constexpr int kills = 100;
  const covey::queue<int> q{covey::queue_options{.items = 64}};
  const covey::queue<int> seen;
  covey::event busy;
  std::mt19937 random(1);
  int next = 0;
  const auto consumer = [](covey::queue<int> in, covey::queue<int> out, covey::event e, bool with_descriptor) {
    const pipe_of_two p;
    for (;;) {
      const auto i = with_descriptor ? wait_any(e, in, covey::readable{p.out.get()}) : wait_any(e, in);
      if (i == 0) e.clear();
      if (const auto m = in.try_get()) {
        out.put(*m);
        in.task_done();
      }
    }
  };
  for (int k = 0; k < kills; ++k) {
    std::vector<covey::process> two;
    for (int i = 0; i < 2; ++i)
      two.emplace_back(covey::process_options{.daemon = true}, consumer, q, seen, busy, k % 2 == i);
    for (unsigned n = random() % 16; n > 0; --n) {
      q.put(next++);
      busy.set();
    }
    if (k % 4 == 0) (void)until_asleep(two[0]);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    two[k % 2].kill();
    (void)two[k % 2].join();
    if (k % 3 == 0) q.join();
  }
  covey::process last{covey::process_options{.daemon = true}, consumer, q, seen, busy, false};
  q.join();
  std::set<int> all;
  while (const auto m = seen.try_get()) all.insert(*m);
  EXPECT_EQ(all.size(), static_cast<std::size_t>(next));
}

TEST(WaitAny, LeavesNoDescriptors) {
  const covey::event never;
  const covey::queue<int> q;
  const pipe_of_two p;
  covey::process other{sleep_for_ever};
  (void)wait_any_for(1us, never, q, other, covey::readable{p.out.get()});
  const auto before = descriptors_open();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(wait_any_for(1us, never, q, other, covey::readable{p.out.get()}), std::nullopt);
    EXPECT_EQ(wait_any_for(1us, never, q, other), std::nullopt);
  }
  EXPECT_EQ(descriptors_open(), before);
  other.kill();
}

}  // namespace
