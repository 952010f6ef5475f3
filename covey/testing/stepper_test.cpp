// A check that never fails checks nothing: structures that are wrong in one instruction must be found, and where.
#include <covey/testing/stepper.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync/event.hpp>

#include <atomic>

namespace {

using covey::testing::last_process;
using covey::testing::step_report;
using covey::testing::stepped;
using covey::testing::try_step;

struct pair_of_counts {
  std::atomic<int> left = 0, right = 0;
};

struct one_pair {
  covey::shared_ptr<pair_of_counts> counts = covey::make_shared<pair_of_counts>();
};

// Changes both, one after the other: for one instruction they differ.
void raise_both(one_pair& w) {
  ++w.counts->left;
  ++w.counts->right;
}

void expect_equal(one_pair& w, const last_process&) { EXPECT_EQ(w.counts->left, w.counts->right); }

TEST(Stepper, FindsTheOneInstructionAfterWhichADeathHurts) {
  const step_report r = try_step("pair.raise_both", stepped<one_pair>{.run = raise_both, .check = expect_equal});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_EQ(r.matter, 2U);
  ASSERT_TRUE(r.violation);
  EXPECT_THAT(*r.violation, ::testing::HasSubstr("raise_both"));
}

// The repair does in two steps what should be one.
TEST(Stepper, FindsARecovererWhoMayNotDie) {
  const step_report r =
      try_step("pair.repair",
               stepped<one_pair>{
                   .run = [](one_pair& w) { ++w.counts->left; },
                   .check = [](one_pair& w, const last_process&) { EXPECT_LE(w.counts->left + w.counts->right, 1); },
                   .recover =
                       [](one_pair& w) {
                         if (w.counts->left == 1) {
                           ++w.counts->right;
                           --w.counts->left;
                         }
                       }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_EQ(r.killed[0], r.points[0]);
  ASSERT_TRUE(r.violation);
  EXPECT_THAT(*r.violation, ::testing::HasSubstr("then its recoverer after"));
}

TEST(Stepper, FindsWhatIsNotTrueOnceTheOperationReturned) {
  const step_report r = try_step(
      "nothing",
      stepped<one_pair>{
          .run = [](one_pair&) {},
          .check = [](one_pair& w, const last_process& last) { EXPECT_EQ(w.counts->left, last.finished ? 1 : 0); }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_EQ(r.matter, 0U);
  EXPECT_TRUE(r.violation);
}

// The operation had returned, and a recoverer undoes what it did.
TEST(Stepper, FindsARecovererWhoTakesBackWhatHadReturned) {
  const step_report r = try_step(
      "pair, and who takes back",
      stepped<one_pair>{
          .run = [](one_pair& w) { ++w.counts->left; },
          .check = [](one_pair& w, const last_process& last) { EXPECT_TRUE(!last.returned || w.counts->left == 1); },
          .recover = [](one_pair& w) { w.counts->left = 0; }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_EQ(r.killed[0], r.points[0]);
  ASSERT_TRUE(r.violation);
  EXPECT_THAT(*r.violation, ::testing::HasSubstr("then its recoverer after"));
}

// Recoverers find what others did while the operation stood still.
TEST(Stepper, StopsTheOperationBeforeItsRecoverersCome) {
  const step_report r =
      try_step("pair.raise_both, stopped",
               stepped<one_pair>{.run = raise_both,
                                 .check = [](one_pair& w, const last_process&) { EXPECT_GE(w.counts->left, 10); },
                                 .recover = [](one_pair& w) { ++w.counts->right; },
                                 .while_stopped = [](one_pair& w) { w.counts->left += 10; }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_GT(r.killed[1], 0U);
  EXPECT_GT(r.killed[2], 0U);
  EXPECT_FALSE(r.violation) << *r.violation;
}

struct leak {
  covey::shared_ptr<pair_of_counts>* lost = new covey::shared_ptr<pair_of_counts>();
};

TEST(Stepper, FindsMemoryThatIsLeft) {
  const step_report r = try_step(
      "leak",
      stepped<leak>{.run = [](leak&) {},
                    .check = [](leak& w, const last_process&) { *w.lost = covey::make_shared<pair_of_counts>(); }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  ASSERT_TRUE(r.violation);
  EXPECT_THAT(*r.violation, ::testing::HasSubstr("memory was left"));
}

struct one_event {
  covey::event e;
};

TEST(Stepper, KillsInTheirSleepThoseWhoSleep) {
  const step_report r = try_step("event.wait", stepped<one_event>{.run = [](one_event& w) { w.e.wait(); },
                                                                  .check = [](one_event&, const last_process&) {},
                                                                  .warm = [](one_event& w) { (void)w.e.is_set(); }});
  if (r.skipped) GTEST_SKIP() << *r.skipped;
  EXPECT_TRUE(r.slept);
  EXPECT_FALSE(r.violation) << *r.violation;
}

}  // namespace
