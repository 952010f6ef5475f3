// Where blocks begin, what was done in a heap last and what lies in its memory are told as a heap tells it; which
// blocks are found then.
#include <covey/memory/heap_unlinked.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <covey/memory/family.hpp>

#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace {

using namespace covey::detail;
using namespace covey::detail::heap_layout;
using testing::ElementsAre;
using testing::IsEmpty;
using block = told_blocks::block;

constexpr std::uint64_t base = 0x1000'0000'0000, first = 1024, bytes_in_all = 8192;
constexpr block a{2048, 112, false, true}, b{3072, 256, false, true}, c{4096, 1024, true, true};

const std::uint64_t dead = teller(processes_max - 1, 1);  // never lived

constexpr block in_hand(block x) {
  x.used = false;
  return x;
}

class HeapUnlinked : public ::testing::Test {
 protected:
  HeapUnlinked() { begin_at(0); }

  void begin_at(std::uint64_t operation) {
    done_ = operation;
    h_.used = used_word(0, done_);
  }
  void tell(std::uint64_t who, bool freed, const block& x) {
    h_.recent[done_ % recent_max] = recent_word(turn_of(done_), who, freed, x.large, x.offset, x.bytes);
  }
  void takes(std::uint64_t who, const block& x) {
    tell(who, false, x);
    begin_at(done_ + 1);
  }
  void gives_back(std::uint64_t who, const block& x) {
    tell(who, true, x);
    begin_at(done_ + 1);
  }
  void points_to(std::uint64_t at, const block& x) { words_[at / 8] = base + x.offset; }

  // As in a heap with these three blocks, and others around them.
  [[nodiscard]] heap_survey survey(std::optional<block> free = {}) const {
    std::vector<std::uint32_t> starts(h_.frontier);
    for (const std::uint64_t at :
         {first, a.offset, a.offset + a.bytes, b.offset, b.offset + b.bytes, c.offset, c.offset + c.bytes})
      starts[at / granule] |= 1U << at / unit % 32;
    heap_survey s(h_, base, std::move(starts));
    if (free) s.is_free(free->offset, free->bytes);
    return s;
  }

  [[nodiscard]] read_words words() const {
    return [this](std::uint64_t) { return words_; };
  }
  [[nodiscard]] std::vector<block> found(std::optional<block> free = {}) const {
    return unlinked_blocks(survey(free), told_blocks(h_), words());
  }
  [[nodiscard]] std::optional<std::uint64_t> stranded(std::optional<block> free = {}, std::uint64_t in_hand = 0) const {
    return stranded_bytes(survey(free), told_blocks(h_), in_hand, words());
  }

  image h_{.lock = 0,
           .sound = heap_is_sound,
           .first = first,
           .limit = bytes_in_all,
           .committed = bytes_in_all,
           .starts_committed = 0,
           .frontier = bytes_in_all / granule,
           .runs = 0,
           .chunk = 0,
           .used = 0,
           .free = {},
           .recent = {}};
  const std::uint64_t living_ = teller(family.slot, family.generation);  // this process
  std::uint64_t done_ = 0;
  std::vector<std::uint64_t> words_ = std::vector<std::uint64_t>(bytes_in_all / 8);
};

TEST_F(HeapUnlinked, AreThoseOfTheDead) {
  EXPECT_THAT(found(), IsEmpty());
  takes(living_, a);
  EXPECT_THAT(found(), IsEmpty());
  takes(dead, b);
  EXPECT_THAT(found(), ElementsAre(b));
}

TEST_F(HeapUnlinked, AreNotPointedToByWhatIsNot) {
  takes(dead, a);
  takes(dead, b);
  takes(dead, c);
  points_to(a.offset, b);
  words_[b.offset / 8] = base + c.offset + c.bytes - 1;  // into it
  points_to(c.offset + 8, a);  // in a circle
  EXPECT_THAT(found(), ElementsAre(a, b, c));
  points_to(first - 8, b);  // from the object
  EXPECT_THAT(found(), IsEmpty());
  words_[(first - 8) / 8] = base + b.offset + b.bytes;  // behind it
  EXPECT_THAT(found(), ElementsAre(a, b, c));
}

TEST_F(HeapUnlinked, AreNotPointedToFromFreeMemoryNorFree) {
  takes(dead, a);
  points_to(b.offset, a);
  EXPECT_THAT(found(), IsEmpty());
  EXPECT_THAT(found(b), ElementsAre(a));
  EXPECT_THAT(found(a), IsEmpty());
  words_[b.offset / 8] = 0;
  EXPECT_THAT(found(a), IsEmpty());
}

TEST_F(HeapUnlinked, AreWhatTheNewestSays) {
  takes(dead, a);
  gives_back(living_, a);
  EXPECT_THAT(found(), IsEmpty());
  gives_back(dead, b);
  EXPECT_THAT(found(), ElementsAre(in_hand(b)));
  takes(living_, {b.offset + 64, 16, false, true});  // a part of it
  EXPECT_THAT(found(), IsEmpty());
}

// In the order in which they are given back: that of an operation that was not done first, then the oldest.
TEST_F(HeapUnlinked, AreAlsoWhatWasCutShort) {
  takes(dead, a);
  takes(dead, b);
  tell(dead, false, c);
  EXPECT_THAT(found(), ElementsAre(in_hand(c), a, b));
  tell(dead, true, b);  // it was going to give this back
  EXPECT_THAT(found(), ElementsAre(b, a));
}

TEST_F(HeapUnlinked, AreForgotten) {
  for (const std::uint64_t begin : {0ULL, 37ULL, 64ULL, (1ULL << 24) - 30}) {
    h_.recent = {};
    begin_at(begin);
    takes(dead, a);
    for (std::uint64_t n = 1; n < recent_max - 1; ++n) takes(living_, b);
    EXPECT_THAT(found(), ElementsAre(a)) << begin;
    takes(living_, b);
    EXPECT_THAT(found(), IsEmpty()) << begin;
  }
}

// It may lie over all that is told, and its words are not searched for what points into its middle.
TEST_F(HeapUnlinked, AreNotToldBeforeABlockTooLargeToTell) {
  h_.frontier = h_.committed = (4ULL << 30) / granule;
  gives_back(dead, c);
  EXPECT_THAT(found(), ElementsAre(in_hand(c)));
  takes(living_, {first, 1ULL << 30, true, true});
  EXPECT_THAT(found(), IsEmpty());
  takes(dead, a);
  takes(dead, {3ULL << 30, 512, true, true});  // too far to be told
  EXPECT_THAT(found(), ElementsAre(a));
}

TEST_F(HeapUnlinked, AreWithinWhatWasHandedOut) {
  for (const block& nonsense : {block{first - 16, 16, false, true}, block{bytes_in_all, 16, false, true},
                                block{bytes_in_all - 512, 1024, true, true}, block{first, 5120, false, true}}) {
    takes(dead, nonsense);
    EXPECT_THAT(found(), IsEmpty());
  }
  for (auto& word : h_.recent) word = ~0ULL;
  EXPECT_THAT(found(), IsEmpty());
}

// ---- of all blocks, whoever had them -------------------------------------------------------------------------------

// Those between the three, and the last: they are linked.
constexpr std::array others{first, a.offset + a.bytes, b.offset + b.bytes, c.offset + c.bytes};

class AllUnlinked : public HeapUnlinked {
 protected:
  AllUnlinked() {
    std::size_t at = 0;
    for (const std::uint64_t offset : others) words_[at++] = base + offset;
  }
  std::uint64_t* object_ = &words_[others.size()];  // further words of it
};

TEST_F(AllUnlinked, CountWhoeverHadThem) {
  EXPECT_EQ(stranded(), a.bytes + b.bytes + c.bytes);
  takes(living_, a);
  takes(dead, b);
  EXPECT_EQ(stranded(), a.bytes + b.bytes + c.bytes);
  object_[0] = base + a.offset + a.bytes - 1;
  EXPECT_EQ(stranded(), b.bytes + c.bytes);
  object_[1] = base + b.offset;
  EXPECT_EQ(stranded(), c.bytes);
  EXPECT_EQ(stranded(c), 0U);
  object_[2] = base + c.offset + 8;
  EXPECT_EQ(stranded(), 0U);
}

TEST_F(AllUnlinked, AreAlsoWhatOnlyTheyPointTo) {
  points_to(a.offset, b);
  points_to(b.offset + b.bytes - 8, c);
  points_to(c.offset, b);
  EXPECT_EQ(stranded(), a.bytes + b.bytes + c.bytes);
  object_[0] = base + c.offset;
  EXPECT_EQ(stranded(), a.bytes);
  points_to(others[1], a);  // what is linked
  EXPECT_EQ(stranded(), 0U);
}

// What is neither used nor free is stranded, also when something still points to it, or nobody tells of it any more.
TEST_F(AllUnlinked, AreAtLeastWhatIsInHand) {
  for (std::size_t i = 0; const block& each : {a, b, c}) object_[i++] = base + each.offset;
  EXPECT_EQ(stranded({}, 4096), 4096U);
  gives_back(dead, a);
  EXPECT_EQ(stranded({}, a.bytes), a.bytes);
  object_[1] = 0;
  EXPECT_EQ(stranded({}, a.bytes), a.bytes + b.bytes);
}

// A heap whose words were written over is looked at as it is.
TEST_F(AllUnlinked, AreWithinWhatWasHandedOut) {
  std::vector<std::uint32_t> starts(h_.frontier + 5, ~0U);
  heap_survey s(h_, base, starts);
  s.is_free(0, first);
  s.is_free(bytes_in_all - 16, 32);
  s.is_free(~0ULL - 15, 16);
  s.look_for_all();
  words_.resize(2 * words_.size(), base + first);
  EXPECT_FALSE(s.follow(words_));
  EXPECT_TRUE(s.follow(words_));
  EXPECT_EQ(s.unlinked_bytes(), bytes_in_all - first - others.size() * 16);
  heap_survey unknown(h_, base, {});
  unknown.look_for_all();
  EXPECT_FALSE(unknown.follow({}));
  EXPECT_EQ(unknown.unlinked_bytes(), bytes_in_all - first);
  EXPECT_EQ(unknown.bytes_of(first), bytes_in_all - first);
  EXPECT_EQ(unknown.bytes_of(first + 16), 0U);
}

}  // namespace
