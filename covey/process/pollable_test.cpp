// Event loops over descriptors of objects.
#include <covey/process/pollable.hpp>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
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

#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::pollable;

bool is_readable(const pollable& p, int timeout_ms = 0) {
  pollfd f{p.fd(), POLLIN, 0};
  return ::poll(&f, 1, timeout_ms) > 0;
}

// What a death or a late wake has made readable is rearmed until it stays unreadable.
bool comes_to_rest(pollable& p) {
  return covey::testing::eventually([&] { return !p.rearm() && !is_readable(p); });
}

TEST(Pollable, TellsWhatWasThereBefore) {
  covey::event e;
  e.set();
  pollable p{e};
  EXPECT_TRUE(is_readable(p));
  EXPECT_TRUE(p.rearm());
  EXPECT_TRUE(is_readable(p));
  e.clear();
  EXPECT_FALSE(p.rearm());
  EXPECT_FALSE(is_readable(p));
}

TEST(Pollable, TellsWhatComes) {
  const covey::queue<int> q;
  covey::counting_semaphore<> s(0);
  covey::event e;
  pollable pq{q};
  pollable ps{s};
  pollable pe{e};
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(is_readable(pq) || is_readable(ps) || is_readable(pe));
    q.put(i);
    EXPECT_TRUE(is_readable(pq, -1));
    s.release();
    EXPECT_TRUE(is_readable(ps, -1));
    e.set();
    EXPECT_TRUE(is_readable(pe, -1));
    EXPECT_TRUE(pq.rearm() && ps.rearm() && pe.rearm());
    EXPECT_EQ(q.try_get(), i);
    s.acquire();
    e.clear();
    EXPECT_FALSE(pq.rearm() || ps.rearm() || pe.rearm());
  }
  e.set();
  e.clear();
  EXPECT_TRUE(is_readable(pe, -1));
}

template <class Object, class Put, class Get>
void tells_what_comes(const Object& object, const Put& put, const Get& get) {
  pollable p{object};
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(is_readable(p));
    put();
    EXPECT_TRUE(is_readable(p, -1));
    EXPECT_TRUE(p.rearm());
    get();
    EXPECT_FALSE(p.rearm());
  }
}

TEST(Pollable, TellsWhatComesToAnythingWithMessages) {
  const auto all_of = [](const auto& from) {
    return [&from] {
      while (from.try_get()) {
      }
    };
  };
  const covey::queue<int> q;
  const auto reader = q.reader();
  tells_what_comes(reader, [&] { q.put(1); }, all_of(reader));
  const covey::priority_queue<int> p;
  tells_what_comes(p, [&] { p.put(1); }, all_of(p));
  const covey::lifo_queue<int> l;
  tells_what_comes(l, [&] { l.put(1); }, all_of(l));
  const auto [one, other] = covey::make_pipe<int>();
  tells_what_comes(one, [&o = other] { o.put(1); }, all_of(one));
  const covey::broadcast<int> b;
  const auto s = b.subscribe();
  tells_what_comes(s, [&] { b.put(1); }, all_of(s));
}

// Without wakes it would be told a second later each time: so many seconds are more than this test has.
template <class Object, class Queue, class Get>
void tells_of_room(const Object& object, const Queue& queue, const Get& get) {
  pollable p{object};
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(is_readable(p) && p.rearm());
    while (queue.try_put(i)) continue;
    ASSERT_TRUE(comes_to_rest(p));
    get();
    ASSERT_TRUE(is_readable(p, -1));
  }
}

class RoomInEachKind : public testing::TestWithParam<int> {};

TEST_P(RoomInEachKind, IsTold) {
  const auto one_of = [](const auto& from) { return [&from] { ASSERT_TRUE(from.try_get()); }; };
  constexpr covey::queue_options few{.items = 3};
  if (GetParam() == 0) {
    const covey::queue<int> q{few};
    tells_of_room(covey::room{q}, q, one_of(q));
  } else if (GetParam() == 1) {
    const covey::priority_queue<int> q{few};
    const auto w = q.writer();
    tells_of_room(w, w, one_of(q));
  } else if (GetParam() == 2) {
    const covey::lifo_queue<int> q{few};
    tells_of_room(covey::room{q.writer()}, q, one_of(q));
  } else if (GetParam() == 3) {
    const auto [one, other] = covey::make_pipe<int>(few);
    tells_of_room(covey::room{one}, one, one_of(other));
  } else {
    const covey::broadcast<int> b{covey::broadcast_options{.items = 3, .when_slow = covey::slow_subscriber::block}};
    const auto s = b.subscribe();
    tells_of_room(covey::room{b}, b, one_of(s));
  }
}

INSTANTIATE_TEST_SUITE_P(Pollable, RoomInEachKind, testing::Range(0, 5));

// Whatever is in the way: their number, their bytes, one large piece of memory, slots that all have messages in a hand.
TEST(Room, IsThereWhenTryPutFindsIt) {
  const auto is_there = [](const auto& q, std::size_t bytes) {
    return covey::wait_any_for(0ns, covey::room{q, bytes}).has_value();
  };
  const auto agrees = [&](const auto& q, std::size_t bytes, const auto&... priority) {
    std::vector<decltype(q.get_view())> views;
    for (int i = 0; i < 600; ++i) {
      const bool there = is_there(q, bytes + 8);  // and their number
      ASSERT_EQ(q.try_put(std::string(bytes, 'x'), priority...), there) << i;
      if (there && views.size() < 200) continue;
      if (q.size() != 0) views.push_back(q.try_get_view());
      if (q.size() == 0 && !there) views.erase(views.begin());
    }
    EXPECT_GT(views.size(), 60U);
  };
  agrees(covey::queue<std::string>{4}, 1);
  agrees(covey::queue<std::string>{covey::queue_options{.items = 4, .bytes = 1000}}, 300);
  agrees(covey::priority_queue<std::string>{4}, 1, 7);
  agrees(covey::lifo_queue<std::string>{covey::queue_options{.items = 4, .bytes = 1000}}, 300);
  const covey::queue<std::string> full{covey::queue_options{.items = 4, .bytes = 1000}};
  full.put(std::string(900, 'x'));
  EXPECT_TRUE(is_there(full, 0));
  EXPECT_FALSE(is_there(full, 200));
  EXPECT_TRUE(is_there(full, 2000)) << "put() throws";
}

TEST(Room, IsToldWhenPutWouldThrow) {
  const covey::queue<int> q{1};
  q.put(1);
  pollable p{covey::room{q}};
  EXPECT_FALSE(is_readable(p));
  q.close();
  EXPECT_TRUE(is_readable(p, -1) && p.rearm());
  EXPECT_THROW((void)q.try_put(2), covey::queue_closed);
  const covey::broadcast<int> b{covey::broadcast_options{.items = 1, .when_slow = covey::slow_subscriber::block}};
  const auto s = b.subscribe();
  b.put(1);
  pollable pb{covey::room{b}};
  EXPECT_FALSE(is_readable(pb));
  b.close();
  EXPECT_TRUE(is_readable(pb, -1) && pb.rearm());
}

TEST(Room, IsToldWhenWhoeverKeptItDies) {
  const covey::queue<int> q{1};
  const covey::broadcast<int> b{covey::broadcast_options{.items = 1, .when_slow = covey::slow_subscriber::block}};
  covey::process last = covey::testing::started(
      [](covey::queue_reader<int>, covey::subscriber<int>, covey::event there) {
        there.set();
        covey::testing::until_killed();
      },
      q.reader(), b.subscribe());
  q.put(1);
  b.put(1);
  pollable pq{covey::room{q}};
  pollable pb{covey::room{b}};
  EXPECT_TRUE(comes_to_rest(pq) && comes_to_rest(pb));
  last.kill();
  EXPECT_TRUE(covey::testing::eventually([&] { return is_readable(pq, -1) && pq.rearm(); }));
  EXPECT_TRUE(covey::testing::eventually([&] { return is_readable(pb, -1) && pb.rearm(); }));
  EXPECT_THROW((void)q.try_put(2), covey::no_consumers);
  EXPECT_TRUE(b.try_put(2));
}

// Two loops, in two processes, put into one queue, each when it is told that there is room.
class LoopsThatPut : public testing::TestWithParam<bool> {};

TEST_P(LoopsThatPut, MissNoRoom) {
  constexpr int messages = 2000;
  const covey::queue<int> q{covey::queue_options{.items = 4}};
  std::vector<covey::process> loops;
  for (int i = 0; i < 2; ++i)
    loops.emplace_back(
        [](covey::queue<int> out, bool edge) {
          pollable p{covey::room{out}};
          const covey::unique_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
          epoll_event e{};
          e.events = EPOLLIN | (edge ? static_cast<std::uint32_t>(EPOLLET) : 0U);
          if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, p.fd(), &e) != 0) return 1;
          for (int next = 0; next < messages; p.rearm()) {
            if (::epoll_wait(epoll.get(), &e, 1, -1) != 1) return 2;
            while (next < messages && out.try_put(next)) ++next;
          }
          return 0;
        },
        q, GetParam());
  long sum = 0;
  for (int i = 0; i < 2 * messages; ++i) sum += q.get().value();
  EXPECT_EQ(sum, static_cast<long>(messages) * (messages - 1));
  for (auto& p : loops) EXPECT_EQ(p.join().code(), 0);
}

INSTANTIATE_TEST_SUITE_P(Pollable, LoopsThatPut, testing::Bool());

// A latch does not go back: it stays readable.
TEST(Pollable, TellsOfALatchThatIsDownAndOfPermits) {
  covey::latch l(2);
  pollable p{l};
  EXPECT_FALSE(is_readable(p));
  l.count_down();
  EXPECT_TRUE(comes_to_rest(p));  // it was looked at, and is not down
  const covey::process other = covey::testing::started(
      [](covey::latch there, covey::event done) {
        there.count_down();
        done.set();
        covey::testing::until_killed();  // its end would wake everybody
      },
      l);
  EXPECT_TRUE(is_readable(p, -1));
  EXPECT_TRUE(p.rearm());
  EXPECT_TRUE(is_readable(p));
  EXPECT_TRUE(l.try_wait());
  const pollable late{l};
  EXPECT_TRUE(is_readable(late));
  covey::permits one(1);
  one.acquire();
  tells_what_comes(one, [&] { one.release(); }, [&] { one.acquire(); });
  one.release();
}

TEST(Pollable, TellsOfTheDead) {
  covey::permits one(1);
  covey::process owner = covey::testing::started(
      [](covey::permits from, covey::event there) {
        from.acquire();
        there.set();
        covey::testing::until_killed();
      },
      one);
  pollable p{one};
  EXPECT_TRUE(comes_to_rest(p));
  owner.kill();
  EXPECT_TRUE(covey::testing::eventually([&] { return is_readable(p, -1) && p.rearm(); }));
  EXPECT_TRUE(one.try_acquire());
}

// Two queues and a socket, level-triggered and edge-triggered, one message a turn and all that there are.
class Loop : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(Loop, MissesNothing) {
  const bool edge = std::get<0>(GetParam());
  const bool one_a_turn = std::get<1>(GetParam());
  constexpr int messages = 3000;
  const covey::queue<int> a{covey::queue_options{.items = 4}};
  const covey::queue<int> b;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  const covey::unique_fd here(pair[0]);
  const covey::unique_fd there(pair[1]);
  pollable pa{a};
  pollable pb{b};
  const covey::unique_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto add = [&](int fd, bool et) {
    epoll_event e{};
    e.events = EPOLLIN | (et ? static_cast<std::uint32_t>(EPOLLET) : 0U);
    e.data.fd = fd;
    ASSERT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &e), 0);
  };
  add(pa.fd(), edge);
  add(pb.fd(), edge);
  add(here.get(), false);
  std::vector<covey::process> putters;
  for (const auto& q : {a, b})
    putters.emplace_back(
        [](covey::queue<int> out) {
          for (int i = 0; i < messages; ++i) out.put(i);
          out.close();
        },
        q);
  std::jthread sender([&] {
    for (int i = 0; i < messages; ++i) (void)::send(there.get(), &i, sizeof i, 0);
  });
  int got_a = 0;
  int got_b = 0;
  int received = 0;
  const auto serve = [&](pollable& p, const covey::queue<int>& q, int& got) {
    const bool closed = q.closed();  // before the last look: nothing comes after that
    bool more = false;
    while (const auto m = q.try_get()) {
      EXPECT_EQ(*m, got++);
      more = one_a_turn;
      if (more) break;
    }
    if (closed && !more)
      ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, p.fd(), nullptr);  // the end, at which it would be readable for ever
    else
      p.rearm();
  };
  while (got_a < messages || got_b < messages || received < messages) {
    epoll_event events[3];
    const int n = ::epoll_wait(epoll.get(), events, 3, 10'000);
    ASSERT_GT(n, 0) << got_a << ' ' << got_b << ' ' << received;
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == pa.fd()) serve(pa, a, got_a);
      if (fd == pb.fd()) serve(pb, b, got_b);
      int value = 0;
      if (fd == here.get() && ::recv(fd, &value, sizeof value, MSG_DONTWAIT) > 0) {
        EXPECT_EQ(value, received++);
      }
    }
  }
  for (auto& p : putters) EXPECT_TRUE(p.join().success());
  EXPECT_TRUE(is_readable(pa, 10'000));  // the end
}

INSTANTIATE_TEST_SUITE_P(Pollable, Loop, testing::Combine(testing::Bool(), testing::Bool()), [](const auto& way) {
  return std::string(std::get<0>(way.param) ? "Edge" : "Level") + (std::get<1>(way.param) ? "One" : "All");
});

TEST(Pollable, ServesMoreThanOneThreadCanWatch) {
  const std::vector<covey::event> events(300);
  std::deque<pollable> all;
  for (const auto& e : events) all.emplace_back(e);
  for (std::size_t i = 0; i < events.size(); i += 37) {
    covey::event(events[i]).set();
    EXPECT_TRUE(is_readable(all[i], -1));
    EXPECT_FALSE(is_readable(all[(i + 1) % 300]) && all[(i + 1) % 300].rearm());
  }
}

TEST(Pollable, LeavesNoDescriptors) {
  const covey::queue<int> q;
  {
    const pollable warm{q};
  }
  const auto before = covey::testing::descriptors_open();
  for (int i = 0; i < 1000; ++i) const pollable p{q};
  EXPECT_EQ(covey::testing::descriptors_open(), before);
}

TEST(Pollable, UsesNoProcessorWhileNothingHappens) {
  const auto context_switches = [] {
    rusage all{};
    rusage own{};
    ::getrusage(RUSAGE_SELF, &all);
    ::getrusage(RUSAGE_THREAD, &own);
    return all.ru_nvcsw + all.ru_nivcsw - own.ru_nvcsw - own.ru_nivcsw;
  };
  const covey::queue<int> q;
  const covey::event never;
  const pollable p{q};
  const pollable other{never};
  std::this_thread::sleep_for(20ms);
  const auto before = context_switches();
  std::this_thread::sleep_for(100ms);
  EXPECT_LE(context_switches() - before, 2);
}

TEST(Pollable, StandsInTheWayOfForking) {
  const covey::event e;
  const pollable p{e};
  EXPECT_THROW((void)covey::process::forked([] { return 0; }), std::system_error);
}

}  // namespace
