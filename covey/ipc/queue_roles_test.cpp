// The table of roles alone, as somebody leaves it who is killed in the middle.
#include <covey/ipc/queue_roles.hpp>
#include <gtest/gtest.h>

#include <array>

namespace {

using namespace covey::detail;

class Roles : public testing::TestWithParam<queue_role> {
 protected:
  std::atomic<std::uint32_t> flags_{checked_flags(queue_key(4711), 0)};
  std::array<std::atomic<std::uint64_t>, role_holders_max> holders_{};
  const role_table table_{flags_, holders_, 4711};

  [[nodiscard]] bool lost() const {
    return (flags_.load() & (GetParam() == queue_role::reader ? flag_readers_lost : flag_writers_lost)) != 0;
  }
};

TEST_P(Roles, NobodyHadAreNotLost) {
  strike_dead_roles(table_);
  EXPECT_FALSE(lost());
}

TEST_P(Roles, AreLostWithTheLastAndComeBack) {
  enter_role(table_, GetParam());
  strike_dead_roles(table_);
  EXPECT_FALSE(lost());
  EXPECT_TRUE(leave_role_of(table_, GetParam()));
  EXPECT_TRUE(lost());
  enter_role(table_, GetParam());
  EXPECT_FALSE(lost());
  (void)leave_role_of(table_, GetParam());
}

// Its entry is gone, so nobody finds it dead; and it has not said that it was the last.
TEST_P(Roles, AreLostAlsoWhenTheLastIsKilledWhileItLeaves) {
  enter_role(table_, GetParam());
  for (auto& h : holders_) h = 0;
  strike_dead_roles(table_);
  EXPECT_TRUE(lost());
  EXPECT_EQ(flags_.load() & flag_writer_died, 0U);
  (void)leave_role_of(table_, GetParam());
}

// They were taken for somebody who died, and the other side was told that it is alone.
TEST_P(Roles, OfThoseWhoNeverLivedAreDamage) {
  const std::uint64_t me = this_process_id();
  const std::uint64_t role = static_cast<std::uint64_t>(GetParam()) << 30;
  const std::uint64_t words[] = {me, me | 3ULL << 30, (me + (1ULL << 40)) | role, role, role | 0x55555555, ~0ULL};
  for (const std::uint64_t word : words) {
    holders_[7] = word;
    EXPECT_THROW(strike_dead_roles(table_), covey::queue_damaged) << word;
    EXPECT_FALSE(lost());
  }
}

INSTANTIATE_TEST_SUITE_P(Each, Roles, testing::Values(queue_role::reader, queue_role::writer));

}  // namespace
