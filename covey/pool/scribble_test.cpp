// A task writes over all shared memory that its worker may write: the queue of its tasks, and that of all workers'
// answers. Who wrote nobody knows, so what the workers have just then may fail with it; everything else is as ever.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/queue_core.hpp>
#include <covey/pool/process_pool.hpp>
#include <covey/testing/scribbler.hpp>

#include <ranges>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::filling;
using covey::testing::fillings;
using covey::testing::scribble;

enum class afterwards : std::uint8_t { returns, dies, goes_on };

constexpr std::size_t workers = 2;
constexpr int given_at_once = workers * 2;  // tasks that workers have: one runs, one waits

int square(int n) { return n * n; }

int wild(filling how, unsigned seed, afterwards then) {
  for (unsigned i = 0; i < 3 || then == afterwards::goes_on; ++i) scribble(how, seed + i);
  if (then == afterwards::dies) ::raise(SIGKILL);
  return 0;
}

// In another thread, when its task has been answered: perhaps while the pool ends.
void wild_later(filling how, unsigned microseconds) {
  std::thread([how, microseconds] {
    ::usleep(microseconds);
    scribble(how, microseconds);
  }).detach();
}

class PoolScribbled : public ::testing::TestWithParam<filling> {};
INSTANTIATE_TEST_SUITE_P(All, PoolScribbled, ::testing::ValuesIn(fillings));

TEST_P(PoolScribbled, FailsThatTaskAndGoesOn) {
  covey::process_pool pool{{.workers = workers}};
  for (const afterwards then : {afterwards::returns, afterwards::dies, afterwards::goes_on}) {
    for (unsigned seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE("afterwards " + std::to_string(static_cast<int>(then)) + ", seed " + std::to_string(seed));
      const std::uint64_t replaced = pool.workers_replaced();
      std::vector<covey::future<int>> others;
      for (int n = 0; n < 10; ++n) others.push_back(pool.submit(square, n));
      auto bad = pool.submit(wild, GetParam(), seed, then);
      for (int n = 10; n < 40; ++n) others.push_back(pool.submit(square, n));
      EXPECT_ANY_THROW(bad.get());
      int failed = 0;
      for (int n = 0; n < 40; ++n) {
        try {
          EXPECT_EQ(others[static_cast<std::size_t>(n)].get(), n * n);
        } catch (const covey::queue_damaged&) {
          ++failed;
        }
      }
      EXPECT_LT(failed, given_at_once);
      EXPECT_GT(pool.workers_replaced(), replaced);
      const auto all = pool.map(square, std::views::iota(0, 100));
      EXPECT_EQ(all.back(), 99 * 99);
    }
  }
}

TEST_P(PoolScribbled, CostsAMapWhatTheWorkersHad) {
  covey::process_pool pool{{.workers = workers}};
  const auto some_are_wild = [](int n, filling how) {
    if (n % 100 == 50) (void)wild(how, static_cast<unsigned>(n), afterwards::returns);
    return n;
  };
  const auto outcomes = pool.map_outcomes(some_are_wild, std::views::iota(0, 400), GetParam());
  for (int n = 0; n < 400; ++n) {
    const auto& o = outcomes[static_cast<std::size_t>(n)];
    if (o.has_value()) {
      EXPECT_EQ(o.value(), n);
      EXPECT_NE(n % 100, 50);
    }
  }
  EXPECT_EQ(pool.submit(square, 3).get(), 9);
}

TEST_P(PoolScribbled, EndsAlsoWhenThatHappensJustThen) {
  for (unsigned round = 0; round < 20; ++round) {
    covey::process_pool pool{{.workers = workers}};
    pool.submit(wild_later, GetParam(), round * 50).wait();
  }
}

}  // namespace
