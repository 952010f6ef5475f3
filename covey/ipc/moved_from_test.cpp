// A handle that was moved from says so when it is used, and may be assigned to.
#include <gtest/gtest.h>

#include <covey/ipc.hpp>
#include <covey/sync.hpp>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

// In a vector, where clang-tidy does not find that a test uses what was moved from.
template <class Handle>
void expect_says_so(const Handle& of, const std::function<void(Handle&)>& use) {
  std::vector<Handle> handles{of, of};
  Handle& h = handles.front();
  const Handle moved = std::move(h);
  EXPECT_THROW(use(h), std::logic_error) << typeid(Handle).name();
  h = moved;
  use(h);
  h = std::move(handles.back());
  EXPECT_THROW(use(handles.back()), std::logic_error) << typeid(Handle).name();
  use(h);
}

TEST(MovedFrom, SaysSo) {
  expect_says_so<covey::mutex>({}, [](auto& m) {
    m.lock();
    m.unlock();
  });
  expect_says_so<covey::recursive_mutex>({}, [](auto& m) {
    if (m.try_lock()) m.unlock();
  });
  expect_says_so<covey::shared_mutex>({}, [](auto& m) {
    m.lock_shared();
    m.unlock_shared();
  });
  expect_says_so<covey::event>({}, [](auto& e) { (void)e.wait_for(1ms); });
  expect_says_so<covey::latch>(covey::latch{1}, [](auto& l) { (void)l.wait_for(1ms); });
  expect_says_so<covey::barrier>(covey::barrier{2}, [](auto& b) { b.enlist(); });
  expect_says_so<covey::counting_semaphore<>>(covey::counting_semaphore<>{2}, [](auto& s) { s.release(); });
  expect_says_so<covey::permits>(covey::permits{2}, [](auto& p) {
    p.acquire();
    p.release();
  });
  expect_says_so<covey::once_flag>({}, [](auto& f) { covey::call_once(f, [] {}); });
  expect_says_so<covey::guarded<int>>(covey::guarded<int>{1}, [](auto& g) { (void)g.load(); });
  expect_says_so<covey::guarded<std::string>>(covey::guarded<std::string>{"1"}, [](auto& g) { g.store("2"); });
}

template <class Queue>
class MovedFromQueue : public testing::Test {};
using queues = testing::Types<covey::queue<int>, covey::priority_queue<int>, covey::lifo_queue<int>>;
TYPED_TEST_SUITE(MovedFromQueue, queues);

TYPED_TEST(MovedFromQueue, SaysSo) {
  expect_says_so<TypeParam>(TypeParam{4}, [](auto& q) { (void)q.try_put(1); });
  expect_says_so<TypeParam>(TypeParam{4}, [](auto& q) { (void)q.try_get(); });
  expect_says_so<TypeParam>(TypeParam{4}, [](auto& q) { (void)q.size(); });
  expect_says_so<TypeParam>(TypeParam{4}, [](auto& q) { q.close(); });
  TypeParam q{4};
  const TypeParam moved = std::move(q);
  EXPECT_EQ(q.size_approx(), 0U);  // NOLINT(bugprone-use-after-move): what this is for
  EXPECT_EQ(q.capacity(), 0U);
}

TEST(MovedFrom, BroadcastsAndPipesSaySo) {
  expect_says_so<covey::broadcast<int>>(covey::broadcast<int>{4}, [](auto& b) { (void)b.try_put(1); });
  expect_says_so<covey::subscriber<int>>(covey::broadcast<int>{4}.subscribe(), [](auto& s) { (void)s.try_get(); });
  expect_says_so<covey::pipe<int>>(covey::make_pipe<int>().first, [](auto& p) { p.put(1); });
}

}  // namespace
