// Each wait of a queue, of its ends, of a pipe and of a broadcast in each form: without end, with a stop_token, not at
// all, for a time of any kind, and until a time of any clock.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/pipe.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>

#include <array>
#include <functional>
#include <numeric>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using numbers = std::vector<int>;

std::stop_token stopped() {
  std::stop_source source;
  source.request_stop();
  return source.get_token();
}

constexpr auto for_ever = std::chrono::sys_seconds::max();

// Fills what holds two, in each form, and finds each form refused when it is full.
template <class Writer>
void put_in_each_form(const Writer& w, const std::function<void()>& empty) {
  w.put(1);
  EXPECT_TRUE(w.put(2, stopped()));  // there is room
  EXPECT_FALSE(w.put(3, stopped()));
  EXPECT_FALSE(w.try_put(3));
  EXPECT_FALSE(w.put_for(3, 1ms));
  EXPECT_FALSE(w.put_for(3, 0.5ms));
  EXPECT_FALSE(w.put_for(3, -1.5h));
  EXPECT_FALSE(w.put_for(3, std::chrono::hours::max(), stopped()));
  EXPECT_FALSE(w.put_until(3, steady_clock::now()));
  EXPECT_FALSE(w.put_until(3, system_clock::now() + 1ms));
  EXPECT_FALSE(w.put_until(3, for_ever, stopped()));
  empty();
  EXPECT_TRUE(w.put_until(1, for_ever));
  EXPECT_TRUE(w.put_for(2, 1h));
  empty();
}

template <class Writer>
void put_many_in_each_form(const Writer& w, const std::function<void()>& empty) {
  const std::array<int, 3> three{1, 2, 3};
  EXPECT_EQ(w.put_many(three, stopped()), 2U);
  empty();
  EXPECT_EQ(w.try_put_many(three), 2U);
  empty();
  EXPECT_EQ(w.put_many_for(three, 0.5ms), 2U);
  empty();
  EXPECT_EQ(w.put_many_until(three, system_clock::now() + 1ms), 2U);
  empty();
  EXPECT_EQ(w.put_many_until(three, for_ever, stopped()), 2U);
  empty();
}

template <class Reader>
void get_in_each_form(const Reader& r, const std::function<void(int)>& put) {
  EXPECT_EQ(r.get(stopped()), std::nullopt);
  EXPECT_EQ(r.try_get(), std::nullopt);
  EXPECT_EQ(r.get_for(1ms), std::nullopt);
  EXPECT_EQ(r.get_for(0.5ms), std::nullopt);
  EXPECT_EQ(r.get_for(std::chrono::hours::min()), std::nullopt);
  EXPECT_EQ(r.get_for(std::chrono::hours::max(), stopped()), std::nullopt);
  EXPECT_EQ(r.get_until(steady_clock::now()), std::nullopt);
  EXPECT_EQ(r.get_until(system_clock::now() + 1ms), std::nullopt);
  EXPECT_EQ(r.get_until(for_ever, stopped()), std::nullopt);
  put(7);
  EXPECT_EQ(r.get_until(for_ever), 7);
}

template <class Reader>
void get_many_in_each_form(const Reader& r, const std::function<void(int)>& put) {
  EXPECT_EQ(r.get_many(2, stopped()), numbers{});
  EXPECT_EQ(r.try_get_many(2), numbers{});
  EXPECT_EQ(r.get_many_for(2, 0.5ms), numbers{});
  EXPECT_EQ(r.get_many_until(2, system_clock::now() + 1ms), numbers{});
  EXPECT_EQ(r.get_many_until(2, for_ever, stopped()), numbers{});
  put(7);
  EXPECT_EQ(r.try_get_many(2), numbers{7});
  put(8);
  EXPECT_EQ(r.get_many_until(2, for_ever), numbers{8});
}

template <class Reader>
void get_deliveries_in_each_form(const Reader& r, const std::function<void(int)>& put) {
  EXPECT_FALSE(r.get_delivery(stopped()));
  EXPECT_FALSE(r.try_get_delivery());
  EXPECT_FALSE(r.get_delivery_for(0.5ms));
  EXPECT_FALSE(r.get_delivery_until(system_clock::now() + 1ms));
  EXPECT_FALSE(r.get_delivery_until(for_ever, stopped()));
  EXPECT_FALSE(r.get_failed());
  put(7);
  EXPECT_EQ(r.get_delivery_until(for_ever).value().deliveries, 1U);
  r.task_done();
}

template <class Queue>
class Forms : public testing::Test {};
using queues = testing::Types<covey::queue<int>, covey::priority_queue<int>, covey::lifo_queue<int>>;
TYPED_TEST_SUITE(Forms, queues);

TYPED_TEST(Forms, OfPuttingAndGettingAreThereForAQueueAndForItsEnds) {
  const TypeParam q(2);
  const auto empty = [&] { EXPECT_EQ(q.get_many(2).size(), 2U), q.task_done(), q.task_done(); };
  const auto put = [&](int n) { q.put(n); };
  const auto each = [&](const auto& reader, const auto& writer) {
    put_in_each_form(writer, empty);
    put_many_in_each_form(writer, empty);
    get_in_each_form(reader, put);
    get_many_in_each_form(reader, put);
    get_deliveries_in_each_form(reader, put);
  };
  each(q, q);
  each(q.reader(), q.writer());
}

TYPED_TEST(Forms, OfJoiningAreThere) {
  const TypeParam q(2);
  q.put(1);
  EXPECT_FALSE(q.join(stopped()));
  EXPECT_FALSE(q.join_for(0.5ms));
  EXPECT_FALSE(q.join_until(system_clock::now() + 1ms));
  EXPECT_FALSE(q.join_until(for_ever, stopped()));
  EXPECT_EQ(q.get(), 1);
  q.task_done();
  EXPECT_TRUE(q.join_until(for_ever));
  EXPECT_TRUE(q.join(stopped()));  // there is nothing to wait for
}

TYPED_TEST(Forms, EndsAreEqualWhenTheyAreOfOneQueue) {
  const TypeParam q, other;
  EXPECT_EQ(q.reader(), q.reader());
  EXPECT_NE(q.reader(), other.reader());
  EXPECT_EQ(q.writer(), q.writer());
  EXPECT_NE(q.writer(), other.writer());
}

TEST(PriorityForms, TakeAPriority) {
  const covey::priority_queue<std::string> q(1);
  const auto w = q.writer();
  EXPECT_TRUE(w.put("a", 1, stopped()));
  EXPECT_FALSE(w.put("b", 2, stopped()));
  EXPECT_FALSE(w.try_put("b", 2));
  EXPECT_FALSE(w.put_for("b", 2, 0.5ms));
  EXPECT_FALSE(w.put_until("b", 2, system_clock::now() + 1ms));
  EXPECT_FALSE(w.put_until("b", 2, for_ever, stopped()));
}

// Memory that is lent, messages that are read where they lie: by the queue itself, and by its ends.
template <class Reader, class Writer>
void lend_in_each_form(const Reader& r, const Writer& w) {
  EXPECT_FALSE(r.get_view(stopped()));
  EXPECT_FALSE(r.try_get_view());
  EXPECT_FALSE(r.get_view_for(0.5ms));
  EXPECT_FALSE(r.get_view_until(system_clock::now() + 1ms));
  EXPECT_FALSE(r.get_view_until(for_ever, stopped()));
  auto written = w.loan(100);
  std::iota(written.begin(), written.end(), 0);
  w.publish(written);
  auto more = w.try_loan(100).value();
  EXPECT_FALSE(w.try_publish(more));  // one message fills it
  EXPECT_FALSE(w.publish(more, stopped()));
  EXPECT_FALSE(w.publish_for(more, 0.5ms));
  EXPECT_FALSE(w.publish_until(more, system_clock::now() + 1ms));
  EXPECT_FALSE(w.publish_until(more, for_ever, stopped()));
  EXPECT_EQ(more.size(), 100U);
  const auto view = r.get_view_until(for_ever);
  EXPECT_EQ(view.value()[99], 99);
}

TEST(LendingForms, AreThereForAQueueAndForItsEnds) {
  const covey::queue<numbers> q({.items = 1, .bytes = 4096});
  lend_in_each_form(q, q);
  lend_in_each_form(q.reader(), q.writer());
}

TEST(LendingForms, AreThereForALifoQueueAndForItsEnds) {
  const covey::lifo_queue<numbers> q({.items = 1, .bytes = 4096});
  lend_in_each_form(q, q);
  lend_in_each_form(q.reader(), q.writer());
}

template <class Writer>
void publish_with_priority_in_each_form(const Writer& w) {
  auto loan = [&] { return w.loan(3); };
  w.publish(loan(), 6);
  auto a = loan(), b = loan(), c = loan(), d = loan(), e = loan();
  w.publish(a, 5);
  EXPECT_TRUE(w.publish(b, 4, stopped()));
  EXPECT_TRUE(w.try_publish(c, 3));
  EXPECT_TRUE(w.publish_for(d, 2, 1h));
  EXPECT_TRUE(w.publish_until(e, 1, for_ever));
  auto more = loan();
  EXPECT_FALSE(w.publish(more, 1, stopped()));
  EXPECT_FALSE(w.try_publish(more, 1));
  EXPECT_FALSE(w.publish_for(more, 1, 0.5ms));
  EXPECT_FALSE(w.publish_until(more, 1, for_ever, stopped()));
}

TEST(LendingForms, OfAPriorityQueueTakeAPriority) {
  const covey::priority_queue<numbers> q({.items = 6, .bytes = 4096});
  publish_with_priority_in_each_form(q);
  for (int n = 0; n < 6; ++n) EXPECT_TRUE(q.try_get_view());
  publish_with_priority_in_each_form(q.writer());
  for (int n = 0; n < 6; ++n) EXPECT_TRUE(q.reader().try_get_view());
}

TEST(LendingForms, OfALoanThatHasToWaitAreThere) {
  const covey::queue<numbers> q({.items = 4, .bytes = 4096});
  std::vector<covey::loaned<numbers>> all;
  while (auto one = q.try_loan(900)) all.push_back(std::move(*one));
  EXPECT_FALSE(q.loan(900, stopped()));
  EXPECT_FALSE(q.writer().loan(900, stopped()));
  EXPECT_FALSE(q.writer().loan_for(900, 0.5ms));
  EXPECT_FALSE(q.loan_until(900, system_clock::now() + 1ms));
  EXPECT_FALSE(q.writer().loan_until(900, for_ever, stopped()));
  all.clear();
  EXPECT_TRUE(q.loan_for(900, 1h));
}

TEST(PipeForms, AreThoseOfAQueue) {
  const auto [a, b] = covey::make_pipe<int>({.items = 2});
  const auto empty = [&] {
    EXPECT_EQ(b.reader().get_many(2).size(), 2U);
    b.reader().task_done();
    b.reader().task_done();
  };
  put_in_each_form(a, empty);
  put_many_in_each_form(a.writer(), empty);
  get_in_each_form(b, [&](int n) { a.put(n); });
  get_many_in_each_form(b.reader(), [&](int n) { a.put(n); });
  EXPECT_EQ(a, covey::pipe<int>(a));
  EXPECT_FALSE(a == b);
}

TEST(BroadcastForms, AreThoseOfAQueue) {
  const covey::broadcast<int> all({.items = 2, .when_slow = covey::slow_subscriber::block});
  const auto in = all.subscribe();
  put_in_each_form(all, [&] { EXPECT_EQ(in.get_many(2).size(), 2U); });
  get_in_each_form(in, [&](int n) { all.put(n); });
  get_many_in_each_form(in, [&](int n) { all.put(n); });
}

}  // namespace
