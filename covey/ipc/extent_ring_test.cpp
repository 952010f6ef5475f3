#include <covey/ipc/extent_ring.hpp>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace {

using covey::detail::extent_ring;

constexpr std::uint64_t region_bytes = 1 << 20;

// A ring, and what must be true of it: no two that live share a byte.
struct checked_ring {
  extent_ring ring{region_bytes};
  std::map<std::uint64_t, std::uint64_t> live;           // end by offset
  std::map<std::uint64_t, std::uint64_t> waiting;        // offset by position
  std::set<std::uint64_t> gone;                          // positions
  std::uint64_t next_position = 0, highest = 0;

  std::optional<std::uint64_t> reserve(std::uint64_t bytes) {
    const auto offset = ring.reserve(bytes, [&](std::uint64_t position) { return gone.contains(position); });
    if (!offset) return std::nullopt;
    const std::uint64_t end = *offset + bytes;
    EXPECT_GT(*offset, 0U);
    EXPECT_LE(end, region_bytes);
    const auto behind = live.lower_bound(*offset);
    EXPECT_TRUE(behind == live.end() || behind->first >= end) << "two messages in one place";
    EXPECT_TRUE(behind == live.begin() || std::prev(behind)->second <= *offset) << "two messages in one place";
    live[*offset] = end;
    highest = std::max(highest, end);
    return offset;
  }
  void publish(std::uint64_t offset) {
    ring.publish(offset, next_position);
    waiting[next_position++] = offset;
  }
  bool put(std::uint64_t bytes) {
    const auto offset = reserve(bytes);
    if (offset) publish(*offset);
    return offset.has_value();
  }
  void take(std::uint64_t position) {
    live.erase(waiting.at(position));
    waiting.erase(position);
    gone.insert(position);
  }
  void take_oldest() { take(waiting.begin()->first); }
};

TEST(ExtentRing, GivesThePlaceThatCameBackLatestAgain) {
  checked_ring r;
  r.put(1000);
  const auto nothing_is_gone = [](std::uint64_t) { return false; };
  const auto offset = r.ring.reserve(5000, nothing_is_gone);
  r.ring.give_back(*offset);
  EXPECT_EQ(r.ring.reserve(200, nothing_is_gone), offset);
}

TEST(ExtentRing, NeverGivesAPlaceTwice) {
  for (const std::uint64_t largest : {80, 1024, 5000, 100'000}) {
    SCOPED_TRACE(largest);
    checked_ring r;
    std::mt19937 random(static_cast<unsigned>(largest));
    std::vector<std::uint64_t> lent;
    for (int i = 0; i < 20'000; ++i) {
      const std::uint64_t bytes = random() % largest + 1;
      switch (random() % 8) {
        case 0:
          if (const auto offset = r.reserve(bytes)) lent.push_back(*offset);
          break;
        case 1:
          if (!lent.empty()) {
            r.ring.give_back(lent.back());
            r.live.erase(lent.back());
            lent.pop_back();
          }
          break;
        case 2:
          if (!lent.empty()) {
            r.publish(lent.front());
            lent.erase(lent.begin());
          }
          break;
        case 3:  // one that is not the oldest
          if (!r.waiting.empty())
            r.take(std::next(r.waiting.begin(), random() % std::min<std::size_t>(r.waiting.size(), 40))->first);
          break;
        case 4:
        case 5:
          if (!r.waiting.empty()) r.take_oldest();
          break;
        default:
          if (!r.put(bytes) && !r.waiting.empty()) r.take_oldest();
      }
    }
  }
}

TEST(ExtentRing, HasRoomAgainForWhatIsGone) {
  for (const std::uint64_t bytes : {64, 1000, 30'000, 300'000}) {
    SCOPED_TRACE(bytes);
    checked_ring r;
    std::uint64_t full = 0;
    while (r.put(bytes)) ++full;
    EXPECT_GT(full * extent_ring::rounded(bytes), region_bytes * 2 / 3);
    for (int round = 0; round < 1000; ++round) {  // one comes for one that goes
      r.take_oldest();
      ASSERT_TRUE(r.put(bytes));
    }
    while (!r.waiting.empty()) r.take_oldest();
    EXPECT_TRUE(r.put(region_bytes - extent_ring::unit)) << "nothing is left, so all of it is free";
  }
}

TEST(ExtentRing, KeepsToAFewPlacesWhileFewMessagesWait) {
  checked_ring r;
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(r.put(1000));
    if (r.waiting.size() > 3) r.take_oldest();
  }
  EXPECT_LE(r.highest, 64U * 1024);
}

TEST(ExtentRing, LooksSeldomAtTheMessageThatIsJustBeingTaken) {
  checked_ring r;
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(r.put(1000));
  std::uint64_t hot = 0;
  for (int i = 0; i < 10'000; ++i) {
    r.take_oldest();
    const std::uint64_t in_hand = r.waiting.begin()->first;
    const auto offset = r.ring.reserve(1000, [&](std::uint64_t position) {
      hot += position + 2 >= in_hand ? 1 : 0;
      return r.gone.contains(position);
    });
    ASSERT_TRUE(offset);
    r.live[*offset] = *offset + 1000;
    r.publish(*offset);
  }
  EXPECT_LT(hot, 1000U);
}

}  // namespace
