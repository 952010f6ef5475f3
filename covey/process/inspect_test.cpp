// What inspect() says of processes, regions and queues, also of such that are killed and stopped meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>
#include <covey/testing/busy_heap.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

namespace {

using covey::testing::eventually;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using shelf = covey::vector<covey::string>;

const covey::process_info* find_process(const covey::snapshot& s, std::int64_t pid) {
  const auto it = std::ranges::find_if(s.processes, [&](const auto& p) { return p.pid == pid; });
  return it == s.processes.end() ? nullptr : &*it;
}

std::int64_t in_flight_at(const covey::snapshot& s, std::int64_t pid) {
  for (const auto& q : s.queues)
    for (const auto& h : q.in_flight)
      if (h.pid == pid) return h.count;
  return 0;
}

std::size_t regions_of(const covey::snapshot& s, const std::string& kind, std::int64_t pid) {
  return static_cast<std::size_t>(std::ranges::count_if(s.regions, [&](const auto& r) {
    return r.kind == kind && std::ranges::any_of(r.holders, [&](const auto& h) { return h.pid == pid; });
  }));
}

TEST(Inspect, NamesProcessesAndWhatTheyHold) {
  covey::event go;
  covey::process worker{covey::process_options{.name = "looked at"}, [](covey::event e) { e.wait(); }, go};
  ASSERT_TRUE(eventually([&] { return regions_of(covey::inspect(), "event", worker.pid()) == 1; }));
  const covey::snapshot s = covey::inspect();
  const auto* const w = find_process(s, worker.pid());
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->name, "looked at");
  EXPECT_EQ(w->state, "alive");
  EXPECT_EQ(w->parent, ::getpid());
  EXPECT_GT(w->age.count(), 0);
  EXPECT_NE(find_process(s, ::getpid()), nullptr);
  EXPECT_EQ(regions_of(s, "event", ::getpid()), 1U);
  go.set();
  worker.join();
}

TEST(Inspect, CountsWhatWaitsAndWhatIsInWhoseHand) {
  const covey::queue<int> q(100);
  covey::event taken;
  for (int i = 0; i < 5; ++i) q.put(i);
  covey::process worker{[](covey::queue<int> shared, covey::event e) {
                          (void)shared.get_many(2);
                          e.set();
                          covey::event().wait();
                        },
                        q, taken};
  taken.wait();
  covey::snapshot s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 1U);
  EXPECT_EQ(s.queues[0].capacity, 100U);
  EXPECT_EQ(s.queues[0].waiting, 3U);
  EXPECT_EQ(s.queues[0].put, 5U);
  EXPECT_FALSE(s.queues[0].closed);
  EXPECT_EQ(in_flight_at(s, worker.pid()), 2);
  // Stopped or killed, nobody waits for it.
  ::kill(worker.pid(), SIGSTOP);
  EXPECT_EQ(in_flight_at(covey::inspect(), worker.pid()), 2);
  const std::int64_t pid = worker.pid();
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([&] { return in_flight_at(covey::inspect(), pid) == 0; }));
  q.put(5);
  q.close();
  s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 1U);
  EXPECT_EQ(s.queues[0].put, 6U);
  EXPECT_TRUE(s.queues[0].closed);
}

template <class Queue>
void expect_counts_between_two_snapshots() {
  const Queue q(100);
  for (int i = 0; i < 7; ++i) q.put(i);
  (void)q.get();
  q.task_done();
  const covey::queue_info before = covey::inspect().queues.at(0);
  for (int i = 0; i < 20; ++i) q.put(i);
  for (int i = 0; i < 12; ++i) {
    (void)q.get();
    q.task_done();
  }
  const covey::queue_info after = covey::inspect().queues.at(0);
  EXPECT_EQ(after.put - before.put, 20U);
  EXPECT_EQ(after.got - before.got, 12U);
  (void)q.get();  // in hand, and so not away
  EXPECT_EQ(covey::inspect().queues.at(0).got, after.got);
  EXPECT_EQ(covey::inspect().queues.at(0).put, after.put);
  q.task_done();
  EXPECT_EQ(covey::inspect().queues.at(0).got, after.got + 1);
}

TEST(Inspect, CountsWhatIsPutAndGotBetweenTwoSnapshots) {
  expect_counts_between_two_snapshots<covey::queue<int>>();
  expect_counts_between_two_snapshots<covey::priority_queue<int>>();
  expect_counts_between_two_snapshots<covey::lifo_queue<int>>();
}

// The time is written over: nothing is timed.
TEST(Inspect, TwoSnapshotsGiveARate) {
  using namespace std::chrono_literals;
  const covey::queue<int> q(100);
  const covey::broadcast<int> news({.items = 4});
  covey::snapshot before = covey::inspect();
  for (int i = 0; i < 30; ++i) q.put(i);
  for (int i = 0; i < 10; ++i) {
    (void)q.get();
    q.task_done();
    news.put(i);
  }
  covey::snapshot after = covey::inspect();
  EXPECT_GT(after.taken_at, before.taken_at);
  after.taken_at = before.taken_at + 2s;
  const std::vector<covey::rate_info> all = covey::rates(before, after);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].region, before.queues.at(0).region);
  EXPECT_DOUBLE_EQ(all[0].put, 15);
  EXPECT_DOUBLE_EQ(all[0].got.value_or(-1), 5);
  EXPECT_EQ(all[1].region, before.broadcasts.at(0).region);
  EXPECT_DOUBLE_EQ(all[1].put, 5);
  EXPECT_EQ(all[1].got, std::nullopt);
  EXPECT_TRUE(covey::rates(before, before).empty());
  before.queues.clear();
  EXPECT_EQ(covey::rates(before, after).size(), 1U);
  after.taken_at = covey::snapshot().taken_at + 1500ms;
  EXPECT_EQ(to_json(after).find("{\"taken_at\":1.500000000,\"processes\""), 0U);
}

TEST(Inspect, CountsInQueuesOfAnotherOrder) {
  const covey::priority_queue<int> by_rank({.items = 10});
  const covey::lifo_queue<int> newest(20);
  for (int i = 0; i < 4; ++i) by_rank.put(i, i);
  newest.put(1);
  covey::event taken;
  covey::process worker{[](covey::priority_queue<int> shared, covey::event e) {
                          (void)shared.get();
                          e.set();
                          covey::event().wait();
                        },
                        by_rank, taken};
  taken.wait();
  ::kill(worker.pid(), SIGSTOP);
  covey::snapshot s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 2U);
  if (s.queues[0].kind == "lifo_queue") std::swap(s.queues[0], s.queues[1]);
  EXPECT_EQ(s.queues[0].kind, "priority_queue");
  EXPECT_EQ(s.queues[0].capacity, 10U);
  EXPECT_EQ(s.queues[0].waiting, 3U);
  EXPECT_EQ(s.queues[0].put, 4U);
  EXPECT_FALSE(s.queues[0].closed);
  EXPECT_EQ(in_flight_at(s, worker.pid()), 1);
  EXPECT_EQ(s.queues[1].kind, "lifo_queue");
  EXPECT_EQ(s.queues[1].capacity, 20U);
  EXPECT_EQ(s.queues[1].waiting, 1U);
  worker.kill();
  worker.join();
  by_rank.close();
  EXPECT_TRUE(eventually([&] { return in_flight_at(covey::inspect(), worker.pid()) == 0; }));
  s = covey::inspect();
  EXPECT_NE(s.queues[0].closed, s.queues[1].closed);
}

template <class Queue>
void expect_sleepers_of_queues_are_counted() {
  const Queue empty(1), full(1);
  full.put(1);
  covey::process getter{[](const Queue& q) { (void)q.get(); }, empty};
  covey::process putter{[](const Queue& q) { q.put(2); }, full};
  const auto seen = [&] {
    std::pair<std::uint32_t, std::uint32_t> all;
    for (const auto& q : covey::inspect().queues)
      (q.waiting == 0 ? all.first : all.second) += q.getters * 10 + q.putters;
    return all;
  };
  EXPECT_TRUE(eventually([&] { return seen() == std::pair(10U, 1U); }));
  EXPECT_NE(to_text(covey::inspect()).find("(getters asleep: 1)"), std::string::npos);
  EXPECT_NE(to_json(covey::inspect()).find("\"putters\":1"), std::string::npos);
  empty.put(1);
  (void)full.get();
  full.task_done();
  EXPECT_TRUE(getter.join().success());
  EXPECT_TRUE(putter.join().success());
  EXPECT_TRUE(eventually([&] { return seen() == std::pair(0U, 0U); }));
}

TEST(Inspect, CountsWhoSleepsForAQueue) {
  expect_sleepers_of_queues_are_counted<covey::queue<int>>();
  expect_sleepers_of_queues_are_counted<covey::lifo_queue<int>>();
}

TEST(Inspect, SaysHowFarSubscribersAreBehind) {
  const covey::broadcast<int> news({.items = 4});
  const auto here = news.subscribe();
  covey::event ready;
  covey::process worker{[](covey::broadcast<int> b, covey::event e) {
                          const auto there = b.subscribe();
                          e.set();
                          covey::event().wait();
                        },
                        news, ready};
  ready.wait();
  ::kill(worker.pid(), SIGSTOP);
  for (int i = 0; i < 6; ++i) {
    news.put(i);
    EXPECT_TRUE(here.get());
  }
  covey::snapshot s = covey::inspect();
  ASSERT_EQ(s.broadcasts.size(), 1U);
  const covey::broadcast_info& b = s.broadcasts[0];
  EXPECT_EQ(b.capacity, 4U);
  EXPECT_EQ(b.kept, 4U);
  EXPECT_EQ(b.put, 6U);
  EXPECT_FALSE(b.closed);
  ASSERT_EQ(b.subscribers.size(), 2U);
  for (const auto& each : b.subscribers) {
    ASSERT_EQ(each.holders.size(), 1U);
    EXPECT_EQ(each.behind, each.holders[0].pid == worker.pid() ? 6U : 0U);
  }
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return covey::inspect().broadcasts.at(0).subscribers.size() == 1; }));
  news.close();
  EXPECT_TRUE(covey::inspect().broadcasts.at(0).closed);
}

TEST(Inspect, ShowsAPipeAsTwoQueues) {
  const auto [left, right] = covey::make_pipe<int>({.items = 7});
  left.put(1);
  left.put(2);
  right.put(3);
  const covey::snapshot s = covey::inspect();
  ASSERT_EQ(s.queues.size(), 2U);
  EXPECT_EQ(s.queues[0].capacity, 7U);
  EXPECT_EQ(s.queues[0].waiting + s.queues[1].waiting, 3U);
  EXPECT_NE(s.queues[0].waiting, s.queues[1].waiting);
}

TEST(Inspect, SaysThatAHolderWasKilled) {
  const auto shared = covey::make_shared<int>(1);
  const auto is_left = [] {
    const auto s = covey::inspect();
    return std::ranges::any_of(s.regions, [](const auto& r) { return r.kind == "object" && r.left_by_the_dead; });
  };
  EXPECT_FALSE(is_left());
  covey::event there;
  covey::process worker{[](covey::shared_ptr<int> held, covey::event e) {
                          e.set();
                          covey::event().wait();
                          (void)held;
                        },
                        shared, there};
  there.wait();
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually(is_left));
}

void be_busy(covey::shared_ptr<shelf> s, covey::event working) { covey::testing::allocate_until_killed(*s, working); }

TEST(Inspect, SaysWhatAnObjectTakes) {
  const auto s = covey::make_shared<shelf>();
  const covey::object_info before = covey::inspect().objects.at(0);
  EXPECT_EQ(before.used, 0U);
  EXPECT_EQ(before.stranded_bytes, 0U);
  for (int i = 0; i < 2'000; ++i) s->emplace_back(100, 'x');
  s->erase(s->begin(), s->begin() + 1'000);
  s->shrink_to_fit();
  const covey::object_info after = covey::inspect().objects.at(0);
  EXPECT_GE(after.used, 100'000U);
  EXPECT_GE(after.committed, after.used);
  EXPECT_EQ(after.stranded_bytes, 0U);
  EXPECT_EQ(after.used, covey::detail::heap_of(s.get()).usage().used);
}

// It had a block in hand, sooner or later; and what is said without the lock is what is said with it.
TEST(Inspect, CountsWhatTheKilledHadInHand) {
  std::uint64_t stranded = 0;
  for (int tried = 0; tried < 500 && stranded == 0; ++tried) {
    const auto s = covey::make_shared<shelf>();
    covey::event working;
    covey::process worker{be_busy, s, working};
    working.wait();
    std::this_thread::sleep_for(std::chrono::microseconds(tried));
    worker.kill();
    worker.join();
    covey::testing::settled();
    const covey::object_info seen = covey::inspect().objects.at(0);
    ASSERT_EQ(seen.stranded_bytes, covey::stranded_bytes(s));
    stranded = *seen.stranded_bytes;
  }
  EXPECT_GT(stranded, 0U);
  const auto s = covey::make_shared<shelf>();
  EXPECT_NE(to_json(covey::inspect()).find("\"stranded_bytes\":0"), std::string::npos);
}

TEST(Inspect, CountsWhatTheKilledHadBeenGivenAndNotLinked) {
  const auto object = covey::make_shared<covey::vector<int>>();
  covey::event given;
  covey::process worker{[](covey::shared_ptr<covey::vector<int>> shared, covey::event e) {
                          shared->assign({1, 2, 3});  // what is linked is not stranded
                          covey::allocator<std::byte> bytes(shared->get_allocator());
                          (void)bytes.allocate(100);
                          (void)bytes.allocate(5000);
                          e.set();
                          for (;;) ::pause();
                        },
                        object, given};
  given.wait();
  const auto seen = [] { return covey::inspect().objects.at(0).stranded_bytes; };
  EXPECT_EQ(seen(), 0U);
  worker.kill();
  worker.join();
  EXPECT_EQ(covey::stranded_bytes(object), 112U + 5120U);
  covey::testing::settled();
  EXPECT_EQ(seen(), 112U + 5120U);
  EXPECT_EQ(covey::reclaim_stranded(object), 112U + 5120U);
  EXPECT_EQ(seen(), 0U);
  EXPECT_EQ(*object, covey::vector<int>({1, 2, 3}));
}

// Whoever ends it stops: its block is linked no more, and not given back yet.
struct stops_at_its_end {
  covey::event reached{};
  int number = 0;
  ~stops_at_its_end() {
    if (number == 0) return;
    reached.set();
    for (;;) ::pause();
  }
};

// What a process that lives had put there, many operations ago.
TEST(Inspect, CountsWhatTheKilledHadTakenOutAndNotGivenBack) {
  using table = covey::unordered_map<int, stops_at_its_end>;
  const auto object = covey::make_shared<table>();
  for (int i = 0; i < 3; ++i) (*object)[i];
  const std::uint64_t of_one = covey::detail::heap_of(object.get()).usage().used;
  (*object)[3];
  const std::uint64_t node = covey::detail::heap_of(object.get()).usage().used - of_one;
  const covey::event reached;
  object->at(2).reached = reached;
  object->at(2).number = 1;
  for (int i = 0; i < 100; ++i) (void)(*object)[100 + i], object->erase(100 + i);
  covey::process worker{[](covey::shared_ptr<table> shared) { shared->erase(2); }, object};
  reached.wait();
  const auto seen = [] { return covey::inspect().objects.at(0).stranded_bytes; };
  EXPECT_EQ(seen(), 0U);
  worker.kill();
  worker.join();
  EXPECT_EQ(covey::stranded_bytes(object), node);
  covey::testing::settled();
  EXPECT_EQ(seen(), node);
  EXPECT_EQ(covey::reclaim_stranded(object), node);
  EXPECT_EQ(seen(), 0U);
}

// Who is stopped in the middle, with the heap's lock, hinders nobody who looks: then it is not said what is stranded.
TEST(Inspect, LooksAtAHeapWhoseOwnerIsStopped) {
  const auto s = covey::make_shared<shelf>();
  covey::event working;
  covey::process worker{be_busy, s, working};
  working.wait();
  const auto stopped_inside = [&] {
    ::kill(worker.pid(), SIGSTOP);
    const covey::snapshot seen = covey::inspect();
    ::kill(worker.pid(), SIGCONT);
    return seen.objects.size() == 1 && !seen.objects[0].stranded_bytes;
  };
  EXPECT_TRUE(eventually(stopped_inside));
  worker.kill();
}

TEST(Inspect, SaysWhoHasALockAndThatItsOwnerDied) {
  covey::mutex m;
  EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
  covey::event locked;
  covey::process worker{[](covey::mutex shared, covey::event e) {
                          shared.lock();
                          e.set();
                          covey::event().wait();
                        },
                        m, locked};
  locked.wait();
  ::kill(worker.pid(), SIGSTOP);
  const covey::lock_info had = covey::inspect().locks.at(0);
  EXPECT_EQ(had.kind, "mutex");
  EXPECT_EQ(had.owner, worker.pid());
  EXPECT_FALSE(had.waited_for);
  EXPECT_FALSE(had.needs_recovery);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return covey::inspect().locks.at(0).needs_recovery; }));
  EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
  EXPECT_TRUE(m.recover([] {}));
  EXPECT_FALSE(covey::inspect().locks.at(0).needs_recovery);
}

const covey::count_info* find_count(const covey::snapshot& s, const std::string& kind) {
  const auto it = std::ranges::find_if(s.counts, [&](const auto& c) { return c.kind == kind; });
  return it == s.counts.end() ? nullptr : &*it;
}

// As find_count, in a new snapshot; nothing is something else than what is expected.
covey::count_info count_now(const std::string& kind) {
  const covey::snapshot s = covey::inspect();
  const auto* const c = find_count(s, kind);
  return c == nullptr ? covey::count_info{.value = -1} : *c;
}

TEST(Inspect, SaysWhoReadsAndWhoWritesASharedMutex) {
  covey::shared_mutex m;
  covey::event reads, writes, go;
  covey::process worker{[](covey::shared_mutex shared, covey::event r, covey::event w, covey::event g) {
                          shared.lock_shared();
                          r.set();
                          g.wait();
                          shared.unlock_shared();
                          shared.lock();
                          w.set();
                          covey::event().wait();
                        },
                        m, reads, writes, go};
  reads.wait();
  covey::lock_info seen = covey::inspect().locks.at(0);
  EXPECT_EQ(seen.kind, "shared_mutex");
  EXPECT_EQ(seen.owner, 0);
  ASSERT_EQ(seen.readers.size(), 1U);
  EXPECT_EQ(seen.readers[0].pid, worker.pid());
  EXPECT_FALSE(seen.waited_for);
  {
    std::jthread writer([&m] {
      m.lock();
      m.unlock();
    });
    EXPECT_TRUE(eventually([] { return covey::inspect().locks.at(0).waited_for; }));
    EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
    go.set();
  }
  writes.wait();
  seen = covey::inspect().locks.at(0);
  EXPECT_EQ(seen.owner, worker.pid());
  EXPECT_TRUE(seen.readers.empty());
  EXPECT_FALSE(seen.needs_recovery);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return covey::inspect().locks.at(0).needs_recovery; }));
  EXPECT_EQ(covey::inspect().locks.at(0).owner, 0);
}

TEST(Inspect, CountsWhatIsLeftAndWhoWaits) {
  covey::counting_semaphore<> tickets(3);
  covey::latch ready(2);
  covey::once_flag once;
  covey::guarded<int> value(1);
  EXPECT_EQ(count_now("semaphore").value, 3);
  EXPECT_EQ(count_now("semaphore").waiters, 0);
  EXPECT_EQ(count_now("latch").value, 2);
  EXPECT_EQ(count_now("once_flag").value, 0);
  const std::int64_t updates = count_now("guarded").value;
  for (int i = 0; i < 3; ++i) tickets.acquire();
  ready.count_down();
  value.store(2);
  covey::call_once(once, [] {
    const auto running = count_now("once_flag");
    ASSERT_EQ(running.held_by.size(), 1U);
    EXPECT_EQ(running.held_by[0].pid, ::getpid());
  });
  EXPECT_EQ(count_now("semaphore").value, 0);
  EXPECT_EQ(count_now("latch").value, 1);
  EXPECT_EQ(count_now("once_flag").value, 1);
  EXPECT_TRUE(count_now("once_flag").held_by.empty());
  EXPECT_EQ(count_now("guarded").value, updates + 1);
  std::jthread waiter([&] { tickets.acquire(); });
  std::jthread other([&] { ready.wait(); });
  EXPECT_TRUE(eventually([] { return count_now("semaphore").waiters == 1 && count_now("latch").waiters == 1; }));
  tickets.release();
  ready.count_down();
  waiter.join();
  other.join();
  EXPECT_EQ(count_now("semaphore").waiters, 0);
  EXPECT_EQ(count_now("latch").value, 0);
}

TEST(Inspect, SaysWhatIsSetAndWhoSleepsForIt) {
  covey::event e;
  covey::condition_variable changed;
  covey::mutex m;
  bool is_changed = false;
  EXPECT_EQ(count_now("event").value, 0);
  EXPECT_EQ(count_now("event").waiters, 0);
  std::jthread sleeper([&] { e.wait(); });
  std::jthread other([&] {
    std::unique_lock lock(m);
    changed.wait(lock, [&] { return is_changed; });
  });
  EXPECT_TRUE(eventually([] { return count_now("event").waiters == 1; }));
  EXPECT_TRUE(eventually([] { return count_now("condition_variable").waiters == 1; }));
  e.set();
  {
    const std::scoped_lock lock(m);
    is_changed = true;
  }
  changed.notify_all();
  sleeper.join();
  other.join();
  EXPECT_EQ(count_now("event").value, 1);
  EXPECT_EQ(count_now("event").waiters, 0);
  EXPECT_EQ(count_now("condition_variable").waiters, 0);
}

TEST(Inspect, SaysWhoOwnsPermitsAndWhoIsAPartyOfABarrier) {
  covey::permits seats(5);
  covey::barrier meet(3);
  seats.acquire();
  covey::event done;
  covey::process worker{[](covey::permits p, covey::barrier b, covey::event e) {
                          p.acquire();
                          p.acquire();
                          (void)b.arrive();
                          e.set();
                          covey::event().wait();
                        },
                        seats, meet, done};
  done.wait();
  ::kill(worker.pid(), SIGSTOP);
  const std::int64_t pid = worker.pid();
  const auto of_worker = [pid](const covey::count_info& c) {
    const auto it = std::ranges::find_if(c.held_by, [pid](const auto& h) { return h.pid == pid; });
    return it == c.held_by.end() ? 0 : it->count;
  };
  const covey::count_info owned = count_now("permits");
  EXPECT_EQ(owned.value, 2);
  EXPECT_EQ(owned.of, 5);
  EXPECT_EQ(owned.held_by.size(), 2U);
  EXPECT_EQ(of_worker(owned), 2);
  const covey::count_info met = count_now("barrier");
  EXPECT_EQ(met.value, 1);
  EXPECT_EQ(met.of, 3);
  EXPECT_EQ(met.waiters, std::nullopt);
  EXPECT_EQ(of_worker(met), 1);
  EXPECT_FALSE(met.broken);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return count_now("permits").value == 4 && count_now("barrier").broken; }));
  EXPECT_TRUE(count_now("barrier").held_by.empty());
}

// The kinds of the regions for which threads of that process sleep, each with how many do.
std::map<std::string, std::int64_t> slept_for_by(std::int64_t pid) {
  std::map<std::string, std::int64_t> all;
  for (const auto& r : covey::inspect().regions)
    for (const auto& w : r.waiters)
      if (w.pid == pid) all[r.kind] += w.count;
  return all;
}

bool says_in_words(std::int64_t pid) {
  const covey::snapshot s = covey::inspect();
  const std::string who = std::to_string(pid);
  return to_text(s).find("waited for by " + who + " (2)") != std::string::npos &&
         to_json(s).find("\"waiters\":[{\"pid\":" + who + ",\"region\":0,\"count\":2}]") != std::string::npos;
}

// Two threads of another process wait for what `handle` names, until it is killed.
template <auto Wait, class Handle>
void expect_waiters_are_seen(const std::string& kind, const Handle& handle) {
  SCOPED_TRACE(kind);
  covey::process worker{[](Handle shared) {
                          const std::jthread second([&] { Wait(shared); });
                          Wait(shared);
                        },
                        handle};
  const std::int64_t pid = worker.pid();
  EXPECT_TRUE(eventually([&] { return slept_for_by(pid) == std::map<std::string, std::int64_t>{{kind, 2}}; }));
  EXPECT_TRUE(eventually([&] { return says_in_words(pid); }));
  worker.kill();
  worker.join();
  EXPECT_TRUE(slept_for_by(pid).empty());
}

TEST(Inspect, SaysWhoWaitsForWhat) {
  covey::mutex m;
  const std::scoped_lock lock(m);
  expect_waiters_are_seen<[](covey::mutex& each) { each.lock(); }>("mutex", m);
  covey::recursive_mutex r;
  const std::scoped_lock recursive(r);
  expect_waiters_are_seen<[](covey::recursive_mutex& each) { each.lock(); }>("recursive_mutex", r);
  covey::shared_mutex s;
  const std::scoped_lock alone(s);
  expect_waiters_are_seen<[](covey::shared_mutex& each) { each.lock_shared(); }>("shared_mutex", s);
  expect_waiters_are_seen<[](covey::event& each) { each.wait(); }>("event", covey::event());
  expect_waiters_are_seen<[](covey::latch& each) { each.wait(); }>("latch", covey::latch(1));
  expect_waiters_are_seen<[](covey::counting_semaphore<>& each) { each.acquire(); }>("semaphore",
                                                                                     covey::counting_semaphore<>(0));
  covey::permits p(1);
  const covey::permit all(p);
  expect_waiters_are_seen<[](covey::permits& each) { each.acquire(); }>("permits", p);
  expect_waiters_are_seen<[](covey::condition_variable& each) {
    covey::mutex own;
    std::unique_lock owned(own);
    each.wait(owned);
  }>("condition_variable", covey::condition_variable());
  expect_waiters_are_seen<[](covey::queue<int>& each) { (void)each.get(); }>("queue", covey::queue<int>(1));
  const covey::lifo_queue<int> full(1);
  full.put(1);
  expect_waiters_are_seen<[](covey::lifo_queue<int>& each) { each.put(2); }>("ordered_queue", full);
}

// With a descriptor among them they sleep in poll().
TEST(Inspect, SaysWhoWaitsForOneOfSeveral) {
  using two_events = std::pair<covey::event, covey::event>;
  expect_waiters_are_seen<[](two_events& each) { covey::wait_any(each.first, each.first); }>("event", two_events());
  std::map<std::string, std::int64_t> expected{{"event", 4}, {"queue", 2}};
  const auto expect_seen = [&](const auto& wait) {
    const two_events events;
    const covey::queue<int> q;
    covey::process worker{wait, events.first, events.second, q};
    const std::int64_t pid = worker.pid();
    EXPECT_TRUE(eventually([&] { return slept_for_by(pid) == expected; }));
    worker.kill();
    worker.join();
    EXPECT_TRUE(slept_for_by(pid).empty());
  };
  expect_seen([](covey::event a, covey::event b, covey::queue<int> c) {
    const std::jthread second([=] { covey::wait_any(a, b, c); });
    covey::wait_any(a, b, c);
  });
  expect_seen([](covey::event a, covey::event b, covey::queue<int> c) {
    int ends[2];
    if (::pipe(ends) != 0) return;
    const auto wait = [=] { covey::wait_any(a, covey::readable{ends[0]}, b, c); };
    const std::jthread second(wait);
    wait();
  });
}

// More than there is room for, by several threads: none of it stays.
TEST(Inspect, ForgetsWhoWaitedForOneOfSeveral) {
  covey::event go;
  covey::latch over(1);
  covey::process worker{[](covey::event g, covey::latch l) {
                          const std::array<covey::event, 100> never{};
                          const auto wait = [&] {
                            std::apply([&](const auto&... each) { covey::wait_any(g, each...); }, never);
                          };
                          {
                            const std::jthread second(wait), third(wait);
                            wait();
                          }
                          l.wait();
                        },
                        go, over};
  const std::int64_t pid = worker.pid();
  EXPECT_TRUE(eventually([&] { return slept_for_by(pid)["event"] == covey::detail::more_sleeps_max; }));
  go.set();
  EXPECT_TRUE(eventually([&] { return slept_for_by(pid) == std::map<std::string, std::int64_t>{{"latch", 1}}; }));
  over.count_down();
  EXPECT_TRUE(worker.join().success());
}

TEST(Inspect, SaysNoMoreThatWhoIsAwakeWaits) {
  covey::event go, done, end;
  covey::process worker{[](covey::event g, covey::event d, covey::event e) {
                          g.wait();
                          d.set();
                          while (!e.is_set()) std::this_thread::yield();
                        },
                        go, done, end};
  const std::int64_t pid = worker.pid();
  EXPECT_TRUE(eventually([&] { return !slept_for_by(pid).empty(); }));
  go.set();
  done.wait();
  EXPECT_TRUE(slept_for_by(pid).empty());
  end.set();
  EXPECT_TRUE(worker.join().success());
}

// What a process writes over its own cells is said of that process alone, and harms nobody.
TEST(Inspect, BelievesNobodyThatOthersWait) {
  namespace d = covey::detail;
  covey::event written;
  covey::process worker{[](covey::event e) {
                          d::process_cells& own = d::cells_of(d::family.slot);
                          const std::uint64_t end = (1ULL << d::arena_bits) - 1;
                          d::encoder out;
                          d::encode(out, e);
                          const auto at =
                              d::family.book->regions[static_cast<std::uint32_t>(out.attachments[0])].offset;
                          std::uint64_t random = 4711;
                          for (auto& note : own.sleeps)
                            note = random = random * 6364136223846793005U + 1442695040888963407U;
                          own.sleeps[0] = d::sleep_note(d::family.generation, end);
                          own.sleeps[1] = d::sleep_note(d::family.generation, 0);
                          own.sleeps[2] = d::sleep_note(d::family.generation - 1, at);
                          own.sleeps[3] = d::sleep_note(d::family.generation, at);
                          own.sleeps_used = ~0U;
                          own.more_sleeps_used = ~0U;
                          for (auto& note : own.more_sleeps) note = ~0ULL;
                          own.more_sleeps[7] = d::more_sleep_note(d::family.generation, at, 4095);
                          own.more_sleeps[8] = d::more_sleep_note(d::family.generation, end, 7);
                          e.set();
                          for (;;) ::pause();
                        },
                        written};
  written.wait();
  for (const covey::region_info& r : covey::inspect().regions)
    for (const covey::holder_info& w : r.waiters) EXPECT_EQ(w.pid, worker.pid());
  EXPECT_EQ(slept_for_by(worker.pid())["event"], 2);  // one in each table
  worker.kill();
}

TEST(Inspect, ListsNamedSegments) {
  const std::string name = "inspected-" + std::to_string(::getpid());
  const auto ours = [&] {
    std::vector<std::int64_t> pids;
    for (const covey::named_info& n : covey::inspect().named) {
      EXPECT_EQ(n.name, name);
      EXPECT_EQ(n.bytes, 8192U);
      pids.push_back(n.pid);
    }
    return pids;
  };
  {
    const auto made = covey::create<std::int64_t>(name, 1);
    EXPECT_THAT(ours(), ElementsAre(::getpid()));
    covey::event attached;
    covey::process worker{[](const std::string& which, covey::event e) {
                            const auto found = covey::attach<std::int64_t>(which);
                            e.set();
                            covey::event().wait();
                          },
                          name, attached};
    EXPECT_TRUE(attached.wait_for(std::chrono::seconds(20)));
    EXPECT_THAT(ours(), UnorderedElementsAre(::getpid(), worker.pid()));
    EXPECT_NE(to_json(covey::inspect()).find("\"name\":\"" + name + "\",\"bytes\":8192"), std::string::npos);
    EXPECT_NE(to_text(covey::inspect()).find("NAMED SEGMENT"), std::string::npos);
    worker.kill();
    worker.join();
    EXPECT_THAT(ours(), ElementsAre(::getpid()));
  }
  EXPECT_TRUE(ours().empty());
}

TEST(Inspect, IsReadByPeopleAndPrograms) {
  const covey::queue<int> q(3);
  q.put(1);
  const covey::snapshot s = covey::inspect();
  const std::string text = covey::to_text(s);
  EXPECT_NE(text.find("PID"), std::string::npos);
  EXPECT_NE(text.find(std::to_string(::getpid())), std::string::npos);
  const std::string json = covey::to_json(s);
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.back(), '}');
  EXPECT_EQ(json.find('\n'), std::string::npos);
  EXPECT_NE(json.find("\"waiting\":1"), std::string::npos);
  EXPECT_EQ(std::ranges::count(json, '{'), std::ranges::count(json, '}'));
  EXPECT_EQ(std::ranges::count(json, '['), std::ranges::count(json, ']'));
}

}  // namespace
