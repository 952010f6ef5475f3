// What a stopped participant, a greedy one, or one that writes over all it may write does to the others: nothing.
#include <gtest/gtest.h>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/sync/event.hpp>

#include <thread>

namespace {

using namespace std::chrono_literals;

TEST(QueueStress, APutEndsAlsoWhenEverySlotHasAMessageInSomebodysHand) {
  const covey::queue<std::string> q{covey::queue_options{.items = 1}};
  std::vector<covey::message_view<std::string>> hand;
  while (q.put_for("x", 50ms)) {
    hand.push_back(q.get_view().value());
    ASSERT_LT(hand.size(), 1000U);
  }
  EXPECT_GE(hand.size(), 60U);
  EXPECT_FALSE(q.try_put("y"));
  hand.clear();
  EXPECT_TRUE(q.put_for("y", 5s));
  EXPECT_EQ(q.get(), "y");
}

// It lives, has its turn, and does nothing, as one that was stopped. How it goes on: StepperQueue.PutOfAStoppedOne.
TEST(QueueStress, WhoIsStoppedWhileItMovesQuotaHindersNobody) {
  namespace d = covey::detail;
  const d::queue_core q{covey::queue_options{.items = 8}};
  const std::vector<std::byte> small(1);
  const d::queue_core::outgoing message{.bytes = small};
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(q.put(message, std::nullopt, nullptr));
  auto& holder = reinterpret_cast<d::queue_header*>(q.memory().data())->quota_holder;
  covey::event there, end;
  std::thread stopped([&] {
    holder = d::this_name();
    there.set();
    end.wait();
  });
  there.wait();
  EXPECT_FALSE(q.put(message, d::deadline_in(10ms), nullptr));  // full, and the wait ends in time
  d::queue_core::taken m;
  for (int i = 0; i < 8; ++i) (void)q.get(m, std::nullopt, nullptr);
  // From a lane that has no quota yet: all of it is this thread's.
  std::thread other([&] {
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(q.put(message, std::nullopt, nullptr));
  });
  other.join();
  EXPECT_EQ(q.size(), 8U);
  end.set();
  stopped.join();
}

}  // namespace
