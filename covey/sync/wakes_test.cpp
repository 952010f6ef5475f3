// Each wait of sync, in each form that has no end soon: it sleeps, and is woken by one who lives, or told of the death
// of the one for whom it waits. Nobody looks again by himself, so a wake that is missing is seen.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <covey/process/wait_any.hpp>
#include <covey/sync.hpp>
#include <covey/testing/sleepers.hpp>

#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::expect_told_of_death;
using covey::testing::expect_woken;
using covey::testing::expect_woken_by_a_thread;
using covey::testing::never_stopped;
using covey::testing::Sleeper;
using covey::testing::throws;
using covey::testing::wait_in;
using while_inside = std::function<void()>;

constexpr auto for_ever = std::chrono::sys_seconds::max();

// ---- mutexes -------------------------------------------------------------------------------------------------------

template <class Mutex>
class SleeperOf : public Sleeper {
 protected:
  using ways = std::vector<typename wait_in<Mutex>::way>;

  static void own(Mutex& m, const while_inside& f) {
    const std::lock_guard owned(m);
    f();
  }

  // Each gives it up again, for the next one.
  static ways to_lock() {
    return {
        {"lock", [](Mutex& m) { return m.lock(), m.unlock(), true; }},
        {"lock with a stop", [](Mutex& m) { return m.lock(never_stopped()) && (m.unlock(), true); }},
        {"lock_for", [](Mutex& m) { return m.lock_for(1h) && (m.unlock(), true); }},
        {"lock_for with a stop", [](Mutex& m) { return m.lock_for(1h, never_stopped()) && (m.unlock(), true); }},
        {"lock_until", [](Mutex& m) { return m.lock_until(for_ever) && (m.unlock(), true); }},
    };
  }

  static ways to_recover(bool repaired) {
    using covey::recovery;
    const recovery expected = repaired ? recovery::repaired : recovery::was_whole;
    const auto nothing = [] {};
    return {
        {"recover", [=](Mutex& m) { return m.recover(nothing) == repaired; }},
        {"recover with a stop", [=](Mutex& m) { return m.recover(nothing, never_stopped()) == expected; }},
        {"recover_for", [=](Mutex& m) { return m.recover_for(1h, nothing) == expected; }},
        {"recover_until", [=](Mutex& m) { return m.recover_until(for_ever, nothing) == expected; }},
    };
  }

  static ways that_throw(ways all) {
    for (auto& way : all)
      way.wait = [wait = way.wait](Mutex& m) { return throws<covey::owner_died>([&] { (void)wait(m); }); };
    return all;
  }
};
using mutexes = testing::Types<covey::mutex, covey::recursive_mutex, covey::shared_mutex>;
TYPED_TEST_SUITE(SleeperOf, mutexes);

TYPED_TEST(SleeperOf, IsWokenByUnlock) {
  expect_woken<TypeParam>({.around = this->own, .ways = this->to_lock()});
  expect_woken<TypeParam>({.around = this->own, .ways = this->to_recover(false)});
}

TYPED_TEST(SleeperOf, IsToldThatTheOwnerDied) {
  expect_told_of_death<TypeParam>({.around = this->own, .ways = this->that_throw(this->to_lock())});
  expect_told_of_death<TypeParam>({.around = this->own, .ways = this->to_recover(true), .sleepers = 1});
}

// It counts as a death.
TYPED_TEST(SleeperOf, IsToldThatTheThreadThatOwnedItEnded) {
  const auto end_as_owner = [](TypeParam& m, const while_inside& f) {
    covey::event owned, over;
    std::thread owner([&] {
      m.lock();
      owned.set();
      over.wait();
    });
    owned.wait();
    f();
    over.set();
    owner.join();
  };
  expect_woken_by_a_thread<TypeParam>(
      {.around = end_as_owner, .ways = this->that_throw(this->to_lock()), .deaths_wake = true});
}

using SleeperOfSharedMutex = SleeperOf<covey::shared_mutex>;

void read(covey::shared_mutex& m, const while_inside& f) {
  const std::shared_lock shared(m);
  f();
}

std::vector<wait_in<covey::shared_mutex>::way> to_read() {
  using covey::shared_mutex;
  return {
      {"lock_shared", [](shared_mutex& m) { return m.lock_shared(), m.unlock_shared(), true; }},
      {"lock_shared with a stop",
       [](shared_mutex& m) { return m.lock_shared(never_stopped()) && (m.unlock_shared(), true); }},
      {"lock_shared_for", [](shared_mutex& m) { return m.lock_shared_for(1h) && (m.unlock_shared(), true); }},
      {"lock_shared_until", [](shared_mutex& m) { return m.lock_shared_until(for_ever) && (m.unlock_shared(), true); }},
  };
}

TEST_F(SleeperOfSharedMutex, ThatReadsIsWokenByUnlock) {
  expect_woken<covey::shared_mutex>({.around = own, .ways = to_read()});
}

TEST_F(SleeperOfSharedMutex, ThatReadsIsToldThatTheWriterDied) {
  expect_told_of_death<covey::shared_mutex>({.around = own, .ways = that_throw(to_read())});
}

TEST_F(SleeperOfSharedMutex, ThatWritesIsWokenByUnlockShared) {
  expect_woken<covey::shared_mutex>({.around = read, .ways = to_lock()});
  expect_woken<covey::shared_mutex>({.around = read, .ways = to_recover(false)});
}

TEST_F(SleeperOfSharedMutex, ThatWritesGoesOnWhenTheReaderDied) {
  expect_told_of_death<covey::shared_mutex>({.around = read, .ways = to_lock()});
  expect_told_of_death<covey::shared_mutex>({.around = read, .ways = to_recover(false)});
}

// Who owns it in all places that there are lets one go.
void fill(covey::shared_mutex& m, const while_inside& f) {
  for (std::uint32_t n = 0; n < covey::shared_mutex::readers_max; ++n) m.lock_shared();
  f();
  m.unlock_shared();
}

TEST_F(SleeperOfSharedMutex, ThatIsOneReaderTooManyIsWokenByUnlockShared) {
  expect_woken<covey::shared_mutex>({.around = fill, .ways = to_read()});
}

TEST_F(SleeperOfSharedMutex, ThatIsOneReaderTooManyGoesOnWhenReadersDied) {
  expect_told_of_death<covey::shared_mutex>({.around = fill, .ways = to_read()});
}

// ---- counts --------------------------------------------------------------------------------------------------------

struct one_permit : covey::permits {
  one_permit() : permits(1) {}
};

using SleeperOfPermits = Sleeper;

// Each gives it back, for the next one.
wait_in<one_permit> for_a_permit() {
  return {.around =
              [](one_permit& p, const while_inside& f) {
                const covey::permit owned(p);
                f();
              },
          .ways = {
              {"acquire", [](one_permit& p) { return p.acquire(), p.release(), true; }},
              {"acquire with a stop", [](one_permit& p) { return p.acquire(never_stopped()) && (p.release(), true); }},
              {"try_acquire_for", [](one_permit& p) { return p.try_acquire_for(1h) && (p.release(), true); }},
              {"try_acquire_until", [](one_permit& p) { return p.try_acquire_until(for_ever) && (p.release(), true); }},
              {"permit", [](one_permit& p) { return bool(covey::permit(p, 1h, never_stopped())); }},
              {"wait_any", [](one_permit& p) { return covey::wait_any(p) == 0; }},
              {"wait_any_for", [](one_permit& p) { return covey::wait_any_for(1h, never_stopped(), p) == 0; }},
          }};
}

TEST_F(SleeperOfPermits, IsWokenByRelease) { expect_woken(for_a_permit()); }
TEST_F(SleeperOfPermits, GoesOnWhenTheOwnerDied) { expect_told_of_death(for_a_permit()); }

struct no_more : covey::counting_semaphore<> {
  no_more() : counting_semaphore(0) {}
};

using SleeperOfSemaphore = Sleeper;

wait_in<no_more> for_a_release() {
  return {.ways = {
              {"acquire", [](no_more& s) { return s.acquire(), true; }},
              {"acquire with a stop", [](no_more& s) { return s.acquire(never_stopped()); }},
              {"try_acquire_for", [](no_more& s) { return s.try_acquire_for(1h); }},
              {"try_acquire_until", [](no_more& s) { return s.try_acquire_until(for_ever, never_stopped()); }},
              {"wait_any", [](no_more& s) { return covey::wait_any(s) == 0; }},
          }};
}

TEST_F(SleeperOfSemaphore, IsWokenByReleaseOfSeveral) {
  auto all = for_a_release();
  all.around = [](no_more& s, const while_inside& f) { f(), s.release(2); };
  expect_woken(all);
}

TEST_F(SleeperOfSemaphore, IsWokenByEachRelease) {
  auto all = for_a_release();
  all.around = [](no_more& s, const while_inside& f) { f(), s.release(), s.release(); };
  expect_woken(all);
}

// ---- what opens once, and what all go through
// ------------------------------------------------------------------------

// Sleeps in poll(), for the object and a descriptor of which nothing comes.
template <class Object>
bool wait_with_a_descriptor(Object& o) {
  const covey::unique_fd never(::eventfd(0, EFD_CLOEXEC));
  return covey::wait_any(o, covey::readable{never.get()}) == 0;
}

using SleeperOfEvent = Sleeper;

wait_in<covey::event> for_an_event() {
  using covey::event;
  return {.ways = {
              {"wait", [](event& e) { return e.wait(), true; }},
              {"wait with a stop", [](event& e) { return e.wait(never_stopped()); }},
              {"wait_for", [](event& e) { return e.wait_for(1h); }},
              {"wait_until", [](event& e) { return e.wait_until(for_ever, never_stopped()); }},
              {"wait_any", [](event& e) { return covey::wait_any(e) == 0; }},
              {"wait_any with a descriptor", wait_with_a_descriptor<event>},
              {"wait_any_until", [](event& e) { return covey::wait_any_until(for_ever, e) == 0; }},
          }};
}

TEST_F(SleeperOfEvent, IsWokenBySet) {
  auto all = for_an_event();
  all.around = [](covey::event& e, const while_inside& f) { f(), e.set(); };
  expect_woken(all);
}

TEST_F(SleeperOfEvent, IsWokenBySetThoughItIsClearedAtOnce) {
  auto all = for_an_event();
  all.around = [](covey::event& e, const while_inside& f) { f(), e.set(), e.clear(); };
  expect_woken(all);
}

// The two sleepers and the one who wakes.
struct latch_of_three : covey::latch {
  latch_of_three() : latch(3) {}
};

using SleeperOfLatch = Sleeper;

TEST_F(SleeperOfLatch, IsWokenByTheLastCountDown) {
  using latch = latch_of_three;
  expect_woken<latch>({.around = [](latch& l, const while_inside& f) { f(), l.count_down(); },
                       .ways = {
                           {"arrive_and_wait", [](latch& l) { return l.arrive_and_wait(), true; }},
                           {"with a stop", [](latch& l) { return l.arrive_and_wait(never_stopped()); }},
                           {"arrive_and_wait_for", [](latch& l) { return l.arrive_and_wait_for(1h); }},
                           {"arrive_and_wait_until", [](latch& l) { return l.arrive_and_wait_until(for_ever); }},
                       }});
  expect_woken<latch>({.around = [](latch& l, const while_inside& f) { f(), l.count_down(3); },
                       .ways = {
                           {"wait", [](latch& l) { return l.wait(), true; }},
                           {"wait with a stop", [](latch& l) { return l.wait(never_stopped()); }},
                           {"wait_for", [](latch& l) { return l.wait_for(1h); }},
                           {"wait_until", [](latch& l) { return l.wait_until(for_ever, never_stopped()); }},
                           {"wait_any with a descriptor", wait_with_a_descriptor<latch>},
                           {"wait_any", [](latch& l) { return covey::wait_any(l) == 0; }},
                       }});
}

struct barrier_of_three : covey::barrier {
  barrier_of_three() : basic_barrier(3) {}
};

using SleeperOfBarrier = Sleeper;

std::vector<wait_in<barrier_of_three>::way> to_meet() {
  using barrier = barrier_of_three;
  return {
      {"arrive_and_wait", [](barrier& b) { return b.arrive_and_wait(), true; }},
      {"arrive_and_wait with a stop", [](barrier& b) { return b.arrive_and_wait(never_stopped()); }},
      {"arrive_and_wait_for", [](barrier& b) { return b.arrive_and_wait_for(1h); }},
      {"arrive_and_wait_until", [](barrier& b) { return b.arrive_and_wait_until(for_ever); }},
      {"wait", [](barrier& b) { return b.wait(b.arrive()), true; }},
      {"wait_for", [](barrier& b) { return b.wait_for(b.arrive(), 1h, never_stopped()); }},
      {"wait_until", [](barrier& b) { return b.wait_until(b.arrive(), for_ever); }},
  };
}

TEST_F(SleeperOfBarrier, IsWokenByTheLastArrival) {
  expect_woken<barrier_of_three>(
      {.around = [](barrier_of_three& b, const while_inside& f) { f(), (void)b.arrive(); }, .ways = to_meet()});
}

TEST_F(SleeperOfBarrier, IsWokenByOneWhoLeaves) {
  expect_woken<barrier_of_three>(
      {.around = [](barrier_of_three& b, const while_inside& f) { f(), b.arrive_and_drop(); }, .ways = to_meet()});
}

TEST_F(SleeperOfBarrier, IsToldThatAPartyDied) {
  auto ways = to_meet();
  for (auto& way : ways)
    way.wait = [wait = way.wait](barrier_of_three& b) { return throws<covey::broken_barrier>([&] { wait(b); }); };
  expect_told_of_death<barrier_of_three>(
      {.around = [](barrier_of_three& b, const while_inside& f) { b.enlist(), f(); }, .ways = std::move(ways)});
}

// ---- conditions ----------------------------------------------------------------------------------------------------

// `more` is what is waited for: an event for which nobody sleeps. `owner` is for the death of who would say it.
struct news {
  covey::mutex m, owner;
  covey::condition_variable told;
  covey::event more;

  // Whether there is more, or nobody any more to say so.
  bool over() {
    if (more.is_set()) return true;
    return throws<covey::owner_died>([&] {
      if (owner.try_lock()) owner.unlock();
    });
  }
};

using SleeperOfCondition = Sleeper;

template <class Wait>
wait_in<news>::way locked(const char* name, const Wait& wait) {
  return {name, [wait](news& n) {
            std::unique_lock lock(n.m);
            return wait(n, lock, [&n] { return n.over(); }) && lock.owns_lock();
          }};
}

std::vector<wait_in<news>::way> to_hear() {
  return {
      locked("wait for it", [](auto& n, auto& lock, auto over) { return n.told.wait(lock, over), true; }),
      locked("and a stop", [](auto& n, auto& lock, auto over) { return n.told.wait(lock, never_stopped(), over); }),
      locked("wait_for it", [](auto& n, auto& lock, auto over) { return n.told.wait_for(lock, 1h, over); }),
      locked("and a stop, for",
             [](auto& n, auto& lock, auto over) { return n.told.wait_for(lock, never_stopped(), 1h, over); }),
      locked("wait_until", [](auto& n, auto& lock, auto over) { return n.told.wait_until(lock, for_ever, over); }),
      locked("and a stop, until",
             [](auto& n, auto& lock, auto over) { return n.told.wait_until(lock, never_stopped(), for_ever, over); }),
  };
}

std::vector<wait_in<news>::way> to_be_woken() {
  return {
      locked("wait", [](auto& n, auto& lock, auto) { return n.told.wait(lock), true; }),
      locked("wait_for",
             [](auto& n, auto& lock, auto) { return n.told.wait_for(lock, 1h) == std::cv_status::no_timeout; }),
      locked("wait_until",
             [](auto& n, auto& lock, auto) { return n.told.wait_until(lock, for_ever) == std::cv_status::no_timeout; }),
  };
}

TEST_F(SleeperOfCondition, IsWokenByNotify) {
  const auto one_by_one = [](news& n, const while_inside& f) {
    f();
    n.more.set();
    n.told.notify_one();
    n.told.notify_one();
  };
  const auto all_under_the_lock = [](news& n, const while_inside& f) {
    f();
    const std::scoped_lock lock(n.m);
    n.more.set();
    n.told.notify_all();
  };
  expect_woken<news>({.around = one_by_one, .ways = to_hear()});
  expect_woken<news>({.around = all_under_the_lock, .ways = to_hear()});
  expect_woken<news>({.around = one_by_one, .ways = to_be_woken()});
}

TEST_F(SleeperOfCondition, LooksWhenSomebodyDied) {
  expect_told_of_death<news>({.around =
                                  [](news& n, const while_inside& f) {
                                    const std::scoped_lock owned(n.owner);
                                    f();
                                  },
                              .ways = to_hear()});
}

// ---- functions that run alone --------------------------------------------------------------------------------------

using SleeperOfOnce = Sleeper;

// What they are given runs only where it must.
wait_in<covey::once_flag> for_a_function(bool runs) {
  using covey::once_flag;
  const auto ran_as_expected = [=](const auto& call) {
    bool ran = false;
    return call([&] { ran = true; }) && ran == runs;
  };
  return {.around = [](once_flag& o, const while_inside& f) { covey::call_once(o, f); },
          .ways =
              {
                  {"call_once",
                   [=](once_flag& o) {
                     return ran_as_expected([&](const auto& f) { return covey::call_once(o, f), true; });
                   }},
                  {"call_once with a stop",
                   [=](once_flag& o) {
                     return ran_as_expected([&](const auto& f) { return covey::call_once(o, never_stopped(), f); });
                   }},
                  {"call_once_for",
                   [=](once_flag& o) {
                     return ran_as_expected([&](const auto& f) { return covey::call_once_for(o, 1h, f); });
                   }},
                  {"call_once_until",
                   [=](once_flag& o) {
                     return ran_as_expected([&](const auto& f) { return covey::call_once_until(o, for_ever, f); });
                   }},
              },
          .sleepers = runs ? 1U : 2U};
}

TEST_F(SleeperOfOnce, IsWokenByTheEndOfTheFunction) { expect_woken(for_a_function(false)); }
TEST_F(SleeperOfOnce, RunsItsOwnWhenTheOneWhoRanItDied) { expect_told_of_death(for_a_function(true)); }

using guarded = covey::guarded<int>;
using SleeperOfGuarded = Sleeper;

wait_in<guarded> for_an_update() {
  const auto add = [](int& n) { ++n; };
  return {.around = [](guarded& g, const while_inside& f) { g.update([&](int&) { f(); }); },
          .ways = {
              {"update", [=](guarded& g) { return g.update(add), g.load() != 0; }},
              {"update with a stop", [=](guarded& g) { return g.update(add, never_stopped()) && g.load() != 0; }},
              {"update_for", [=](guarded& g) { return g.update_for(1h, add) && g.load() != 0; }},
              {"update_until", [=](guarded& g) { return g.update_until(for_ever, add) && g.load() != 0; }},
              {"store", [](guarded& g) { return g.store(7), g.load() == 7; }},
              {"store_for", [](guarded& g) { return g.store_for(1h, 7, never_stopped()) && g.load() == 7; }},
              {"store_until", [](guarded& g) { return g.store_until(for_ever, 7) && g.load() == 7; }},
          }};
}

TEST_F(SleeperOfGuarded, IsWokenByTheEndOfAnUpdate) { expect_woken(for_an_update()); }
TEST_F(SleeperOfGuarded, GoesOnWhenTheOneWhoUpdatedDied) { expect_told_of_death(for_an_update()); }

// ---- stops ---------------------------------------------------------------------------------------------------------

using covey::testing::around_nothing;
using covey::testing::expect_stopped;

TYPED_TEST(SleeperOf, IsWokenByARequestToStop) {
  expect_stopped("lock", TypeParam(), this->own, [](auto& m, auto stop) { return m.lock(stop); });
  expect_stopped("recover", TypeParam(), this->own,
                 [](auto& m, auto stop) { return m.recover([] {}, stop) != covey::recovery::not_in_time; });
}

TEST_F(SleeperOfSharedMutex, IsWokenByARequestToStopInEitherMode) {
  expect_stopped("lock", covey::shared_mutex(), read, [](auto& m, auto stop) { return m.lock(stop); });
  expect_stopped("lock_shared", covey::shared_mutex(), own, [](auto& m, auto stop) { return m.lock_shared(stop); });
}

using SleeperOfAny = Sleeper;

TEST_F(SleeperOfAny, IsWokenByARequestToStop) {
  const auto acquire = [](auto& s, auto stop) { return s.acquire(stop); };
  const auto wait = [](auto& o, auto stop) { return o.wait(stop); };
  const auto wait_for_any = [](auto& o, auto stop) { return covey::wait_any(stop, o).has_value(); };
  const auto meet = [](auto& o, auto stop) { return o.arrive_and_wait(stop); };
  expect_stopped("permits", one_permit(), for_a_permit().around, acquire);
  expect_stopped("semaphore", no_more(), around_nothing, acquire);
  expect_stopped("event", covey::event(), around_nothing, wait);
  expect_stopped("latch", latch_of_three(), around_nothing, wait);
  expect_stopped("latch that is arrived at", latch_of_three(), around_nothing, meet);
  expect_stopped("barrier", barrier_of_three(), around_nothing, meet);
  expect_stopped("wait_any", covey::event(), around_nothing, wait_for_any);
  expect_stopped("condition", news(), around_nothing, [](auto& n, auto stop) {
    std::unique_lock lock(n.m);
    return n.told.wait(lock, stop, [&] { return n.more.is_set(); });
  });
  expect_stopped("call_once", covey::once_flag(), for_a_function(false).around,
                 [](auto& o, auto stop) { return covey::call_once(o, stop, [] {}); });
  expect_stopped("guarded", guarded(), for_an_update().around,
                 [](auto& g, auto stop) { return g.update([](int&) {}, stop); });
}

}  // namespace
