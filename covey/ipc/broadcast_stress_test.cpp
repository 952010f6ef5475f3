// Between threads, for TSan: everybody at once.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>

#include <map>
#include <thread>

namespace {

using covey::broadcast;
using covey::slow_subscriber;
using message = std::vector<std::uint64_t>;  // who, number, and number again

constexpr std::uint64_t each = 3'000;

message make(std::uint64_t who, std::uint64_t n) {
  message m(2 + n % 90, n);
  m[0] = who;
  return m;
}

class BroadcastStress : public ::testing::TestWithParam<slow_subscriber> {};

TEST_P(BroadcastStress, ThreadsGetWholeMessagesInOrderOrCountThem) {
  const broadcast<message> b{{.items = 16, .when_slow = GetParam()}};
  std::vector<std::jthread> getters;
  for (int i = 0; i < 3; ++i)
    getters.emplace_back([&b, s = b.subscribe()] {
      std::map<std::uint64_t, std::uint64_t> next;
      std::uint64_t got = 0;
      for (const message& m : s) {
        ++got;
        ASSERT_EQ(m, make(m.at(0), m.at(1)));
        ASSERT_GE(m[1], next[m[0]]);
        next[m[0]] = m[1] + 1;
        if (got % 500 == 0) (void)b.subscribe();
      }
      EXPECT_EQ(got + s.missed(), 2 * each + 1);
      if (GetParam() == slow_subscriber::block) {
        EXPECT_EQ(s.missed(), 0U);
      }
    });
  {
    std::vector<std::jthread> putters;
    for (std::uint64_t who = 0; who < 2; ++who)
      putters.emplace_back([&b, who] {
        for (std::uint64_t n = 0; n < each; ++n) b.put(make(who, n));
      });
  }
  b.put(make(2, 0));  // the last is always got: what was missed before it is counted then
  b.close();
}

INSTANTIATE_TEST_SUITE_P(All, BroadcastStress, ::testing::Values(slow_subscriber::lag, slow_subscriber::block));

}  // namespace
