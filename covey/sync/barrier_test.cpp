// Parties in several processes go through phases; one is killed at each step, and the others learn who.
#include <covey/sync/barrier.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/testing/victims.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;
using testing::HasSubstr;

struct lines {
  std::atomic<int> written = 0;
};

TEST(Barrier, LetsNobodyRunAhead) {
  constexpr int parties = 4;
  constexpr int phases = 50;
  covey::barrier b{parties};
  auto page = covey::make_shared<lines>();
  std::vector<covey::process> writers;
  for (int i = 0; i < parties; ++i)
    writers.emplace_back(
        [](covey::barrier all, covey::shared_ptr<lines> p) {
          for (int phase = 1; phase <= phases; ++phase) {
            ++p->written;
            all.arrive_and_wait();
            if (p->written < phase * parties) return 1;
            all.arrive_and_wait();
            if (p->written > phase * parties + parties) return 2;
          }
          all.arrive_and_drop();
          return 0;
        },
        b, page);
  for (auto& w : writers) EXPECT_EQ(w.join().code(), 0);
  EXPECT_EQ(page->written, parties * phases);
}

TEST(Barrier, RunsTheFunctionOfTheLastOneBeforeTheOthersGoOn) {
  covey::barrier b{3};
  int phases = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (int i = 1; i <= 200; ++i) {
        b.arrive_and_wait([&] { ++phases; });
        EXPECT_EQ(phases, i);
        b.arrive_and_wait();
      }
      b.arrive_and_drop();
    });
}

struct count_phases {
  covey::shared_ptr<lines> page;
  int by = 1;
  void operator()() const { page->written += by; }
};

// Whoever comes last, in whichever process, and however it arrives.
TEST(Barrier, CallsItsOwnFunctionAtTheEndOfEachPhase) {
  auto page = covey::make_shared<lines>();
  covey::basic_barrier b(2, count_phases{page, 10});
  covey::process other{[](covey::basic_barrier<count_phases> all, covey::shared_ptr<lines> p) {
                         for (int phase = 1; phase <= 100; ++phase) {
                           all.arrive_and_wait();
                           if (p->written != phase * 20 - 10) return 1;
                           all.wait(all.arrive());
                         }
                         all.arrive_and_drop();
                         return 0;
                       },
                       b, page};
  for (int phase = 1; phase <= 100; ++phase) {
    EXPECT_TRUE(b.arrive_and_wait_for(1h));
    EXPECT_EQ(page->written, phase * 20 - 10);
    b.wait(b.arrive());
  }
  EXPECT_EQ(other.join().code(), 0);
  (void)b.arrive();  // alone now
  EXPECT_EQ(page->written, 201 * 10);
}

TEST(Barrier, IsArrivedAtForSeveral) {
  covey::barrier b{4};
  EXPECT_THROW((void)b.arrive(0), std::system_error);
  EXPECT_THROW((void)b.arrive(5), std::system_error);
  const auto token = b.arrive(3);
  EXPECT_FALSE(b.wait_for(token, 0ns));
  std::jthread([&] {
    EXPECT_THROW((void)b.arrive(2), std::system_error);
    EXPECT_TRUE(b.wait_for(b.arrive(), 0ns));
    EXPECT_TRUE(b.wait_for(token, 0ns));
    b.arrive_and_drop();
  }).join();
  EXPECT_TRUE(b.wait_for(b.arrive(3), 0ns));  // three are left, and one thread for all
}

TEST(Barrier, IsBrokenByTheDeathOfAPartyAndNamesIt) {
  for (const bool arrived : {false, true}) {
    covey::barrier b{arrived ? 4 : 3};  // one is missing
    covey::process victim = started(
        [](covey::barrier all, bool arrive, covey::event there) {
          all.enlist();
          if (arrive) (void)all.arrive();
          there.set();
          until_killed();
        },
        b, arrived);
    std::jthread waits([b]() mutable { EXPECT_THROW(b.arrive_and_wait(), covey::broken_barrier); });
    std::this_thread::yield();
    const pid_t pid = victim.pid();
    victim.kill();
    try {
      b.arrive_and_wait();
      ADD_FAILURE() << "went through without the dead";
    } catch (const covey::broken_barrier& e) {
      EXPECT_EQ(e.process_name(), "victim");
      EXPECT_EQ(e.pid(), pid);
      EXPECT_THAT(e.what(), HasSubstr("victim (pid " + std::to_string(pid) + ") died"));
    }
    waits.join();
    EXPECT_THROW(b.arrive_and_drop(), covey::broken_barrier);
    EXPECT_THROW(b.enlist(), covey::broken_barrier);
  }
}

TEST(Barrier, IsBrokenByTheDeathOfTheOneWhoEndsThePhase) {
  covey::barrier b{2};
  covey::process waits{[](covey::barrier all) {
                         try {
                           all.arrive_and_wait();
                         } catch (const covey::broken_barrier& e) {
                           return e.process_name() == "victim" ? 42 : 1;
                         }
                         return 0;
                       },
                       b};
  EXPECT_TRUE(until_asleep(waits));
  covey::process victim = started(
      [](covey::barrier all, covey::event there) {
        all.arrive_and_wait([&] {
          there.set();
          until_killed();
        });
      },
      b);
  victim.kill();
  EXPECT_EQ(waits.join().code(), 42);
}

TEST(Barrier, IsBrokenByAFunctionThatThrows) {
  covey::barrier b{2};
  covey::event arrived;
  std::jthread waits([&] {
    const auto token = b.arrive();
    arrived.set();
    EXPECT_THROW(b.wait(token), covey::broken_barrier);
  });
  arrived.wait();
  EXPECT_THROW(b.arrive_and_wait([] { throw std::logic_error("no"); }), std::logic_error);
}

TEST(Barrier, AThreadThatEndsWithoutLeavingIsDead) {
  covey::barrier b{2};
  std::jthread([&] { (void)b.arrive(); }).join();
  EXPECT_THROW(b.arrive_and_wait(), covey::broken_barrier);
}

TEST(Barrier, WaitsAgainAfterATimeout) {
  covey::barrier b{2};
  const auto token = b.arrive();
  EXPECT_FALSE(b.wait_for(token, 2ms));
  EXPECT_FALSE(b.wait_until(token, std::chrono::steady_clock::now()));
  EXPECT_THROW((void)b.arrive(), std::system_error);  // once in a phase
  std::jthread stopped([&](std::stop_token) {
    std::stop_source source;
    source.request_stop();
    EXPECT_FALSE(b.wait_for(token, 1h, source.get_token()));
  });
  stopped.join();
  std::jthread other([&] { b.arrive_and_drop(); });
  b.wait(token);
  other.join();
  b.arrive_and_wait();  // alone now
}

TEST(Barrier, RefusesMorePartiesThanItWasMadeFor) {
  covey::barrier b{1};
  b.enlist();
  std::jthread([&] { EXPECT_THROW(b.enlist(), std::system_error); }).join();
  EXPECT_THROW(covey::barrier{0}, std::system_error);
  EXPECT_THROW(covey::barrier{covey::barrier::max() + 1}, std::system_error);
}

}  // namespace
