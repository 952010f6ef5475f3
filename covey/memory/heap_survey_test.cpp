// Where blocks begin, what is free and what lies in a heap's memory are told as a heap tells it; which blocks nothing
// points to then.
#include <covey/memory/heap_survey.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace {

using namespace covey::detail;
using namespace covey::detail::heap_layout;

constexpr std::uint64_t base = 0x1000'0000'0000, first = 1024, end = 8192;

struct block {
  std::uint64_t offset, bytes;
};
constexpr block a{2048, 112}, b{3072, 256}, c{4096, 1024};
// Those between the three, and the last: they are linked.
constexpr std::array others{first, a.offset + a.bytes, b.offset + b.bytes, c.offset + c.bytes};

class HeapSurvey : public ::testing::Test {
 protected:
  HeapSurvey() {
    std::size_t at = 0;
    for (const std::uint64_t offset : others) words_[at++] = base + offset;
  }

  void points_to(std::uint64_t at, const block& x) { words_[at / 8] = base + x.offset; }

  [[nodiscard]] static heap_survey survey(std::optional<block> free = {}) {
    std::vector<std::uint32_t> starts((end - first) / granule);
    const auto begins = [&](std::uint64_t at) { starts[(at - first) / granule] |= 1U << at / unit % 32; };
    std::ranges::for_each(others, begins);
    for (const block& each : {a, b, c}) begins(each.offset);
    heap_survey s({base, first, end}, std::move(starts));
    if (free) s.is_free(free->offset, free->bytes);
    return s;
  }

  [[nodiscard]] heap_survey::read_words words() const {
    return [this](std::uint64_t at, std::span<std::uint64_t> to) {
      const auto there = std::span(words_).subspan(at / 8);
      std::ranges::copy(there.first(std::min(there.size(), to.size())), to.begin());
      return there.size() >= to.size();
    };
  }
  [[nodiscard]] std::uint64_t unlinked(std::optional<block> free = {}) const {
    heap_survey s = survey(free);
    (void)s.follow(words());
    EXPECT_EQ(s.follow(words()), true);
    EXPECT_EQ(s.linked_bytes() + s.unlinked_bytes() + (free ? free->bytes : 0), end - first);
    std::uint64_t sum = 0;
    s.each_unlinked([&](std::uint64_t, std::uint64_t bytes) { sum += bytes; });
    EXPECT_EQ(s.unlinked_bytes(), sum);
    return sum;
  }

  std::vector<std::uint64_t> words_ = std::vector<std::uint64_t>(end / 8);
  std::uint64_t* object_ = &words_[others.size()];  // further words of it
};

TEST_F(HeapSurvey, FindsWhatNothingPointsInto) {
  EXPECT_EQ(unlinked(), a.bytes + b.bytes + c.bytes);
  object_[0] = base + a.offset + a.bytes - 1;
  EXPECT_EQ(unlinked(), b.bytes + c.bytes);
  object_[1] = base + b.offset;
  EXPECT_EQ(unlinked(), c.bytes);
  EXPECT_EQ(unlinked(c), 0U);
  object_[2] = base + c.offset + 8;
  EXPECT_EQ(unlinked(), 0U);
  object_[2] = base + c.offset + c.bytes;  // behind it
  EXPECT_EQ(unlinked(), c.bytes);
}

TEST_F(HeapSurvey, FindsWhatOnlySuchBlocksPointTo) {
  points_to(a.offset, b);
  points_to(b.offset + b.bytes - 8, c);
  points_to(c.offset, b);  // in a circle
  EXPECT_EQ(unlinked(), a.bytes + b.bytes + c.bytes);
  object_[0] = base + c.offset;
  EXPECT_EQ(unlinked(), a.bytes);
  points_to(others[1], a);
  EXPECT_EQ(unlinked(), 0U);
}

TEST_F(HeapSurvey, DoesNotFollowWhatLiesInFreeMemory) {
  object_[0] = base + a.offset;
  points_to(a.offset, b);
  points_to(b.offset, c);
  EXPECT_EQ(unlinked(), 0U);
  EXPECT_EQ(unlinked(a), b.bytes + c.bytes);
  EXPECT_EQ(unlinked(b), c.bytes);
}

// What was there before memory became free, in one piece, is no more: not where it begins, and not what it points to.
TEST_F(HeapSurvey, TakesAFreePieceAsOne) {
  object_[0] = base + a.offset;
  EXPECT_EQ(unlinked(block{others[1], end - others[1]}), 0U);
  EXPECT_EQ(unlinked(block{a.offset, end - a.offset}), 0U);
  EXPECT_EQ(unlinked(block{b.offset + 16, 32}), b.bytes - 32 + c.bytes);
}

// A heap whose words were written over is looked at as it is.
TEST_F(HeapSurvey, StaysWithinWhatWasHandedOut) {
  heap_survey s({base, first, end}, std::vector<std::uint32_t>(end / granule + 5, ~0U));
  s.is_free(0, first);
  s.is_free(end - 16, 32);
  s.is_free(~0ULL - 15, 16);
  EXPECT_EQ(s.follow(words()), false);
  EXPECT_EQ(s.follow(words()), true);
  EXPECT_EQ(s.unlinked_bytes(), end - first - others.size() * 16);
  for (const std::uint64_t nowhere : {base, base + first - 1, base + end, std::uint64_t{0}}) {
    std::ranges::fill(words_, nowhere);
    heap_survey unknown({base, first, end}, {});
    EXPECT_EQ(unknown.follow(words()), false);
    EXPECT_EQ(unknown.unlinked_bytes(), end - first);
  }
  words_.resize(end / 8 - 1);
  EXPECT_EQ(survey().follow(words()), std::nullopt);
  words_.resize(first / 8);
  heap_survey none({base, first, first}, {1, 1, 1});
  EXPECT_EQ(none.follow(words()), true);
  EXPECT_EQ(none.unlinked_bytes(), 0U);
}

}  // namespace
