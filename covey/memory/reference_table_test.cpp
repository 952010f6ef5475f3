// The keeper's tables, in a ledger of the test's own: what a keeper left when it was killed between two stores is made
// by hand, and the next one is given it.
#include <covey/memory/reference_table.hpp>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <covey/base/unique_fd.hpp>

namespace {

using covey::detail::edge_from_process;
using covey::detail::ledger;
using covey::detail::reference_table;

constexpr std::uint64_t process = edge_from_process | 1ULL << 32 | 1;

class ReferenceTable : public ::testing::Test {
 protected:
  ReferenceTable() { EXPECT_EQ(::ftruncate(arena_.get(), arena_bytes), 0); }
  ~ReferenceTable() override { ::munmap(book_, sizeof(ledger)); }

  reference_table next_keeper() { return {*book_, arena_.get(), arena_bytes}; }

  std::uint64_t make(reference_table& t, std::uint64_t bytes = 4096, std::uint64_t align = 0) {
    const auto made = t.make_region(
        {.made_for = 1, .made_by = ++requests_, .bytes = bytes, .kind = 1, .type = 0, .destroy = 0, .align = align},
        false);
    return made ? made->id : 0;
  }

  [[nodiscard]] std::size_t edges_in_use() const {
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < book_->edges_used; ++i) n += book_->edges[i].to != 0;
    return n;
  }

  static constexpr std::int64_t arena_bytes = 1LL << 40;
  covey::unique_fd arena_{::memfd_create("arena", MFD_CLOEXEC)};
  ledger* book_ = static_cast<ledger*>(
      ::mmap(nullptr, sizeof(ledger), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  std::uint64_t requests_ = 0;
};

TEST_F(ReferenceTable, DropsWhatARegionHeldThatAKilledKeeperHadJustFreed) {
  std::uint64_t outer = 0;
  std::uint64_t inner = 0;
  {
    reference_table t = next_keeper();
    outer = make(t);
    inner = make(t);
    EXPECT_TRUE(t.hold(process, outer));
    t.add(outer, inner, 1);
  }
  // The process is swept; killed after the region's entry was freed, before its edges were.
  for (std::uint32_t i = 0; i < book_->edges_used; ++i)
    if (book_->edges[i].from == process) book_->edges[i].to = 0;
  book_->regions[static_cast<std::uint32_t>(outer)].generation.fetch_add(1);
  const reference_table t = next_keeper();
  EXPECT_EQ(t.find(inner), nullptr);
  EXPECT_EQ(edges_in_use(), 0U);
}

TEST_F(ReferenceTable, FreesWhatAKilledKeeperHadNotYetFreed) {
  std::uint64_t id = 0;
  {
    reference_table t = next_keeper();
    id = make(t);
    EXPECT_TRUE(t.hold(process, id));
  }
  book_->edges[0].to = 0;
  reference_table t = next_keeper();
  EXPECT_EQ(t.find(id), nullptr);
  EXPECT_NE(make(t), 0U);
}

TEST_F(ReferenceTable, FreesAListOfObjectsOfAnyLength) {
  constexpr int length = 300'000;
  reference_table t = next_keeper();
  std::uint64_t before = 0;
  for (int i = 0; i < length; ++i) {
    const std::uint64_t id = make(t);
    ASSERT_NE(id, 0U);
    if (before == 0)
      EXPECT_TRUE(t.hold(process, id));
    else
      t.add(before, id, 1);
    before = id;
  }
  EXPECT_EQ(edges_in_use(), static_cast<std::size_t>(length));
  t.drop_all_from(process);
  EXPECT_EQ(edges_in_use(), 0U);
  EXPECT_EQ(t.find(before), nullptr);
}

TEST_F(ReferenceTable, RefusesSizesThatNoArenaHas) {
  reference_table t = next_keeper();
  for (const std::uint64_t bytes : {std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{4095}, std::uint64_t{1} << 41})
    EXPECT_EQ(make(t, bytes), 0U) << bytes;
  EXPECT_NE(make(t), 0U);
}

TEST_F(ReferenceTable, PlacesWhatIsAlignedAndLosesNoSpaceByIt) {
  reference_table t = next_keeper();
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t small = make(t);
    const std::uint64_t big = make(t, 3 << 20, 2 << 20);
    EXPECT_TRUE(t.hold(process, small));
    EXPECT_TRUE(t.hold(process, big));
    EXPECT_EQ(t.find(big)->offset % (2 << 20), 0U);
  }
  t.drop_all_from(process);
  EXPECT_NE(make(t, arena_bytes - (4 << 20)), 0U);
}

TEST_F(ReferenceTable, SaysOfOneHolderOnlyThatItIsTheLast) {
  reference_table t = next_keeper();
  const std::uint64_t id = make(t);
  EXPECT_TRUE(t.hold(process, id));
  EXPECT_TRUE(t.hold(process + 1, id));
  EXPECT_FALSE(t.release(process, id));
  EXPECT_EQ(book_->regions[static_cast<std::uint32_t>(id)].ending, 0U);
  EXPECT_TRUE(t.release(process + 1, id));
  EXPECT_EQ(book_->regions[static_cast<std::uint32_t>(id)].ending, 1U);
  EXPECT_TRUE(t.release(process + 1, id));  // asked again, of the next keeper
  t.drop(process + 1, id);
  EXPECT_EQ(t.find(id), nullptr);
}

// A message's references are known by its number: said twice is said once, and no other message loses any.
TEST_F(ReferenceTable, MessagesHoldEachForItself) {
  reference_table t = next_keeper();
  const std::uint64_t queue = make(t);
  const std::uint64_t object = make(t);
  EXPECT_TRUE(t.hold(process, queue));
  EXPECT_TRUE(t.hold(process, object));
  EXPECT_TRUE(t.attach(queue, 1, object));
  EXPECT_TRUE(t.attach(queue, 1, object));
  EXPECT_TRUE(t.attach(queue, 2, object));
  t.drop(process, object);
  t.detach(queue, 1);
  t.detach(queue, 1);
  t.detach(queue, 3);
  EXPECT_NE(t.find(object), nullptr);
  reference_table next = next_keeper();  // finds message 2 in the ledger
  next.detach(queue, 2);
  EXPECT_EQ(next.find(object), nullptr);
  EXPECT_EQ(edges_in_use(), 1U);
}

TEST_F(ReferenceTable, MessagesEndWithTheirCarrier) {
  reference_table t = next_keeper();
  const std::uint64_t queue = make(t);
  const std::uint64_t object = make(t);
  EXPECT_TRUE(t.hold(process, queue));
  for (std::uint64_t number = 1; number < 100; ++number) EXPECT_TRUE(t.attach(queue, number, object));
  EXPECT_TRUE(t.attach(queue, 0, object));          // no message
  EXPECT_TRUE(t.attach(object + 1, 1, object));     // nothing that exists
  EXPECT_EQ(edges_in_use(), 100U);
  t.drop(process, queue);
  EXPECT_EQ(t.find(object), nullptr);
  EXPECT_EQ(edges_in_use(), 0U);
}

// The table has room for two million references: what cannot be held is refused, and what nobody can be told of is
// kept.
TEST_F(ReferenceTable, RefusesWhatItHasNoRoomFor) {
  reference_table t = next_keeper();
  const std::uint64_t outer = make(t);
  const std::uint64_t object = make(t);
  EXPECT_TRUE(t.hold(process, outer));
  EXPECT_TRUE(t.hold(process, object));
  book_->edges_used = covey::detail::edges_max;
  EXPECT_FALSE(t.hold(process + 1, object));
  EXPECT_FALSE(t.attach(outer, 1, object));
  EXPECT_FALSE(t.copy_all(process, process + 1));
  t.add(outer, object, 1);  // a handle in an object
  EXPECT_FALSE(t.release(process, object));  // it is not the last: somebody may look through that handle
  t.drop(process, object);
  EXPECT_NE(t.find(object), nullptr);
  t.drop(process, outer);
  EXPECT_EQ(t.find(outer), nullptr);
}

}  // namespace
