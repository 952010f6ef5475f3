#include <covey/memory/park.hpp>
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace {

using covey::detail::turns;
using namespace std::chrono_literals;

void stay_on(int processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(processor), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
}

// A stranger keeps the processor for as long as it is let.
TEST(Turns, AreNotGivenToStrangersAgainAndAgain) {
  const int here = sched_getcpu();
  std::atomic<bool> enough{false};
  std::jthread stranger([&] {
    stay_on(here);
    while (!enough) covey::detail::pause_cpu();
  });
  std::jthread([&] {
    stay_on(here);
    turns mine;
    const auto start = std::chrono::steady_clock::now();
    while (mine.give() && std::chrono::steady_clock::now() - start < 20s) {
    }
    int left_out = 1;
    while (!mine.give()) ++left_out;
    EXPECT_GE(left_out, 64) << "a long turn is followed by waits without one";
    EXPECT_LE(left_out, 65536) << "but not for ever";
  }).join();
  enough = true;
}

TEST(Turns, AreGivenToWhomThisThreadHasWoken) {
  turns mine;
  EXPECT_FALSE(mine.give_to_woken());
  mine.woke();
  EXPECT_TRUE(mine.give_to_woken());
  EXPECT_FALSE(mine.give_to_woken()) << "one turn for one wake";
}

}  // namespace
