// Messages that are written, or read, where they lie, while everybody lives.
#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/process/process.hpp>

#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

TEST(QueueInPlace, LendsItsOwnMemoryAndShowsMessagesWhereTheyLie) {
  const covey::queue<std::vector<double>> q{covey::queue_options{.items = 4, .bytes = 1U << 20}};
  covey::process reader{[](covey::queue<std::vector<double>> in) {
                          const auto first = in.get_view().value();
                          const auto second = in.get_view().value();  // the first is still there
                          return first[99'999] == 7 && first.size() == 100'000 && second.size() == 1 ? 3 : 1;
                        },
                        q};
  auto slot = q.loan(100'000);
  ASSERT_EQ(slot.size(), 100'000U);
  slot[99'999] = 7;
  q.publish(slot);
  EXPECT_EQ(slot.size(), 0U);
  q.put({1.5});
  EXPECT_EQ(reader.join().code(), 3);
  q.join();
  EXPECT_THROW(q.publish(slot), std::logic_error);
  auto other = q.loan(3);
  other[0] = other[1] = other[2] = 2;
  std::thread([&] { EXPECT_THROW(q.publish(other), std::logic_error); }).join();
  q.publish(std::move(other));
  EXPECT_EQ(q.get(), (std::vector<double>{2, 2, 2}));
}

TEST(QueueInPlace, GivesUnusedLoansBack) {
  const covey::queue<std::string> q{covey::queue_options{.items = 4, .bytes = 1U << 20}};
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(q.try_loan(1'000'000));
  std::vector<covey::loaned<std::string>> kept;
  while (auto slot = q.try_loan(1'000'000)) {
    kept.push_back(std::move(*slot));
    ASSERT_LT(kept.size(), 4U) << "more than its memory";
  }
  EXPECT_THROW((void)q.loan(2'000'000), std::length_error);
}

TEST(QueueInPlace, AViewKeepsItsMessageInFlight) {
  const covey::queue<std::string> q{2};
  q.put("one");
  q.put("two");
  {
    auto one = q.try_get_view().value();
    EXPECT_EQ(q.get(), "two");
    q.task_done();
    EXPECT_FALSE(q.join_for(1ms));
    EXPECT_EQ(std::string(one.begin(), one.end()), "one");
    one.release();
    EXPECT_TRUE(q.join_for(1s));
  }
  EXPECT_TRUE(q.empty());
}

TEST(QueueInPlace, ViewsAndLoansMayBeAssigned) {
  const covey::queue<std::vector<int>> q{2};
  std::optional<covey::message_view<std::vector<int>>> view;
  for (int n = 0; n < 10; ++n) {
    auto slot = q.loan(1000);
    slot = q.loan(1000);  // the first goes back
    slot[0] = n;
    q.publish(slot);
    view = q.get_view();  // the one before is done
    ASSERT_TRUE(view);
    EXPECT_EQ((*view)[0], n);
  }
  auto moved = std::move(*view);
  EXPECT_TRUE(view->elements().empty());
  EXPECT_EQ(moved.size(), 1000U);
  moved.release();
  EXPECT_TRUE(moved.elements().empty());
  q.join();
}

TEST(QueueInPlace, AViewMayOutliveTheThreadThatGotIt) {
  const covey::queue<std::string> q;
  covey::process{[](covey::queue<std::string> to) { to.put(std::string(100'000, 'a')); }, q}.join();
  std::optional<covey::message_view<std::string>> view;
  std::thread([&] { view.emplace(std::move(q.get_view().value())); }).join();
  EXPECT_EQ((*view)[99'999], 'a');
}

TEST(QueueInPlace, AViewLeftOpenByAThreadThatEndedIsDeliveredAgain) {
  const covey::queue<std::string> q;
  q.put("one");
  std::optional<covey::message_view<std::string>> left;
  std::thread([&] { left.emplace(std::move(q.get_view().value())); }).join();
  EXPECT_EQ(q.get_for(10s), "one");
  q.task_done();
  EXPECT_TRUE(q.join_for(10s));
  EXPECT_EQ(std::string(left->begin(), left->end()), "one");
}

}  // namespace
