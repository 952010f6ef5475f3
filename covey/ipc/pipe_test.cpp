// Two ends, some of whose holders are killed.
#include <covey/ipc/pipe.hpp>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/process/process.hpp>

namespace {

using namespace std::chrono_literals;

TEST(Pipe, CarriesDifferentTypesBothWays) {
  auto [here, there] = covey::make_pipe<int, std::string>();
  covey::process echo{[](covey::pipe<std::string, int> p) {
                        while (const auto n = p.get()) p.put(std::string(static_cast<std::size_t>(*n), 'x'));
                        p.put("end");
                      },
                      there};
  for (int i = 0; i < 100; ++i) here.put(i);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(here.get().value().size(), i);
  here.close();
  EXPECT_EQ(here.get(), "end");
  EXPECT_EQ(echo.join().code(), 0);
  EXPECT_EQ(here.get(), std::nullopt);  // the other ended in order
}

TEST(Pipe, IsFullAndEmptyLikeAQueue) {
  const auto [a, b] = covey::make_pipe<int>({.items = 2});
  EXPECT_TRUE(a.try_put(1));
  EXPECT_TRUE(a.put_for(2, 1ms));
  EXPECT_FALSE(a.try_put(3));
  EXPECT_EQ(b.get(), 1);
  EXPECT_EQ(b.get_for(1s), 2);
  EXPECT_EQ(b.try_get(), std::nullopt);
  EXPECT_EQ(a.get_for(1ms), std::nullopt);
}

TEST(Pipe, TellsWhenWhoHasTheOtherEndDied) {
  for (int round = 0; round < 50; ++round) {
    auto [here, there] = covey::make_pipe<int>({.items = 4});
    covey::process other{[](covey::pipe<int> p) {
                           p.put(7);
                           (void)p.get();
                           ::kill(::getpid(), SIGKILL);
                         },
                         there};
    here.put(1);
    other.join();
    EXPECT_EQ(here.get(), 7);
    EXPECT_THROW((void)here.get(), covey::no_producers);
    EXPECT_THROW(
        {
          for (;;) here.put(2);
        },
        covey::no_consumers);
  }
}

TEST(Pipe, MayTravelThroughAPipe) {
  auto [here, there] = covey::make_pipe<covey::pipe<int>>();
  covey::process other{[](covey::pipe<covey::pipe<int>> p) { p.get().value().put(42); }, there};
  auto [mine, theirs] = covey::make_pipe<int>();
  here.put(theirs);
  EXPECT_EQ(mine.get(), 42);
  EXPECT_EQ(other.join().code(), 0);
}

}  // namespace
