// The caller is killed in the middle; the next one runs it.
#include <covey/sync/once.hpp>
#include <gtest/gtest.h>
#include <covey/sync/semaphore.hpp>
#include <covey/testing/victims.hpp>

#include <stdexcept>

namespace {

using namespace covey::testing;

TEST(CallOnce, RunsInOneOfManyProcesses) {
  covey::once_flag flag;
  covey::counting_semaphore<> ran{0};
  std::vector<covey::process> callers;
  for (int i = 0; i < 6; ++i)
    callers.emplace_back(
        [](covey::once_flag f, covey::counting_semaphore<> r) { covey::call_once(f, [&] { r.release(); }); }, flag,
        ran);
  for (auto& c : callers) EXPECT_EQ(c.join().code(), 0);
  EXPECT_EQ(ran.count_approx(), 1);
  EXPECT_TRUE(flag.done());
}

TEST(CallOnce, ShowsWhatItDidToEveryThread) {
  covey::once_flag flag;
  int made = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      covey::call_once(flag, [&](int by) { made += by; }, 7);
      EXPECT_EQ(made, 7);
    });
}

TEST(CallOnce, RunsAgainWhenTheCallerWasKilledInTheMiddle) {
  covey::once_flag flag;
  covey::process victim = started(
      [](covey::once_flag f, covey::event there) {
        covey::call_once(f, [&] {
          there.set();
          until_killed();
        });
      },
      flag);
  covey::process next{[](covey::once_flag f) {
                        int mine = 0;
                        covey::call_once(f, [&] { mine = 1; });
                        return mine;
                      },
                      flag};
  EXPECT_TRUE(until_asleep(next));
  EXPECT_FALSE(flag.done());
  victim.kill();
  EXPECT_EQ(next.join().code(), 1);
  covey::call_once(flag, [] { FAIL() << "it has run"; });
}

TEST(CallOnce, RunsAgainAfterAnException) {
  covey::once_flag flag;
  EXPECT_THROW(covey::call_once(flag, [] { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_FALSE(flag.done());
  int runs = 0;
  covey::call_once(flag, [&] { ++runs; });
  covey::call_once(flag, [&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST(CallOnce, RefusesToWaitForItself) {
  covey::once_flag flag;
  EXPECT_THROW(covey::call_once(flag, [&] { covey::call_once(flag, [] {}); }), std::system_error);
  EXPECT_FALSE(flag.done());
}

}  // namespace
