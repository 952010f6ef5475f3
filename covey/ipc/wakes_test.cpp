// Each wait of a queue, a pipe and a broadcast, in each form that has no end soon: it sleeps, and is woken by one who
// lives, or told of the death of the one for whom it waits. Nobody looks again by himself, so a wake that is missing is
// seen.
#include <gtest/gtest.h>
#include <covey/ipc.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/testing/sleepers.hpp>
#include <covey/testing/victims.hpp>

#include <array>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::testing::expect_told_of_death;
using covey::testing::expect_woken;
using covey::testing::expect_woken_by_a_thread;
using covey::testing::never_stopped;
using covey::testing::Sleeper;
using covey::testing::throws;
using covey::testing::wait_in;
using while_inside = std::function<void()>;
using numbers = std::vector<int>;

constexpr auto for_ever = std::chrono::sys_seconds::max();

template <class World>
using ways = std::vector<typename wait_in<World>::way>;

// ---- what a get may come to
// ------------------------------------------------------------------------------------------

using message = std::optional<int>;

template <class World>
struct getting {
  const char* name;
  std::function<message(World&)> get;
};

message first_of(const numbers& all) { return all.empty() ? message() : all.front(); }
message value_of(const std::optional<covey::delivery<int>>& d) { return d ? message(d->value) : message(); }

// `end` is what in World has the verbs.
template <class World, class End>
std::vector<getting<World>> gets(End end) {
  return {
      {"get", [=](World& w) { return end(w).get(); }},
      {"get with a stop", [=](World& w) { return end(w).get(never_stopped()); }},
      {"get_for", [=](World& w) { return end(w).get_for(1h); }},
      {"get_until", [=](World& w) { return end(w).get_until(for_ever, never_stopped()); }},
  };
}

template <class World, class End>
std::vector<getting<World>> gets_of_many(End end) {
  return {
      {"get_many", [=](World& w) { return first_of(end(w).get_many(1)); }},
      {"get_many with a stop", [=](World& w) { return first_of(end(w).get_many(1, never_stopped())); }},
      {"get_many_for", [=](World& w) { return first_of(end(w).get_many_for(1, 1h)); }},
      {"get_many_until", [=](World& w) { return first_of(end(w).get_many_until(1, for_ever)); }},
  };
}

template <class World, class End>
std::vector<getting<World>> gets_of_deliveries(End end) {
  return {
      {"get_delivery", [=](World& w) { return value_of(end(w).get_delivery()); }},
      {"get_delivery_for", [=](World& w) { return value_of(end(w).get_delivery_for(1h)); }},
      {"get_delivery_until", [=](World& w) { return value_of(end(w).get_delivery_until(for_ever)); }},
  };
}

template <class World>
ways<World> that_get_one(const std::vector<getting<World>>& all) {
  ways<World> result;
  for (const auto& g : all) result.push_back({g.name, [get = g.get](World& w) { return get(w).has_value(); }});
  return result;
}

template <class World>
ways<World> that_end(const std::vector<getting<World>>& all) {
  ways<World> result;
  for (const auto& g : all) result.push_back({g.name, [get = g.get](World& w) { return !get(w).has_value(); }});
  return result;
}

template <class Exception, class World>
ways<World> that_throw(const std::vector<getting<World>>& all) {
  ways<World> result;
  for (const auto& g : all)
    result.push_back({g.name, [get = g.get](World& w) { return throws<Exception>([&] { (void)get(w); }); }});
  return result;
}

// ---- puts
// ------------------------------------------------------------------------------------------------------------

template <class World, class End>
ways<World> puts(End end) {
  return {
      {"put", [=](World& w) { return end(w).put(9), true; }},
      {"put with a stop", [=](World& w) { return end(w).put(9, never_stopped()); }},
      {"put_for", [=](World& w) { return end(w).put_for(9, 1h); }},
      {"put_until", [=](World& w) { return end(w).put_until(9, for_ever, never_stopped()); }},
  };
}

template <class World, class End>
ways<World> puts_of_many(End end) {
  static constexpr std::array one{9};
  return {
      {"put_many", [=](World& w) { return end(w).put_many(one), true; }},
      {"put_many with a stop", [=](World& w) { return end(w).put_many(one, never_stopped()) == 1; }},
      {"put_many_for", [=](World& w) { return end(w).put_many_for(one, 1h) == 1; }},
      {"put_many_until", [=](World& w) { return end(w).put_many_until(one, for_ever) == 1; }},
  };
}

template <class Exception, class World>
ways<World> that_throw(ways<World> all) {
  for (auto& way : all) way.wait = [wait = way.wait](World& w) { return throws<Exception>([&] { (void)wait(w); }); };
  return all;
}

// One of each kind, for what all of them do in the same place.
template <class T>
std::vector<T> some(const std::vector<T>& all) {
  std::vector<T> result;
  for (std::size_t n = 0; n < all.size(); n += 3) result.push_back(all[n]);
  return result;
}

template <class T>
std::vector<T> both(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// ---- queues
// ----------------------------------------------------------------------------------------------------------

template <class Queue>
class SleeperOf : public Sleeper {
 protected:
  static Queue for_two() { return Queue(2); }

  static auto to_get() {
    const auto self = [](Queue& q) -> Queue& { return q; };
    const auto reader = [](Queue& q) { return q.reader(); };
    return both(both(gets<Queue>(self), gets_of_many<Queue>(self)),
                both(gets_of_deliveries<Queue>(self), gets<Queue>(reader)));
  }

  static auto to_put() {
    const auto self = [](Queue& q) -> Queue& { return q; };
    const auto writer = [](Queue& q) { return q.writer(); };
    return both(both(puts<Queue>(self), puts_of_many<Queue>(self)), puts<Queue>(writer));
  }

  static ways<Queue> to_join() {
    return {
        {"join", [](Queue& q) { return q.join(), true; }},
        {"join with a stop", [](Queue& q) { return q.join(never_stopped()); }},
        {"join_for", [](Queue& q) { return q.join_for(1h); }},
        {"join_until", [](Queue& q) { return q.join_until(for_ever, never_stopped()); }},
    };
  }

  static ways<Queue> to_wait_for_any() {
    return {
        {"wait_any", [](Queue& q) { return covey::wait_any(q) == 0; }},
        {"wait_any_for", [](Queue& q) { return covey::wait_any_for(1h, never_stopped(), q) == 0; }},
    };
  }

  static void read(Queue& q, const while_inside& f) {
    const auto end = q.reader();
    end.take_role();
    f();
  }
  static void write(Queue& q, const while_inside& f) {
    const auto end = q.writer();
    end.take_role();
    f();
  }
  static void fill(Queue& q) {
    q.put(1);
    q.put(2);
  }
  static void have_in_hand(Queue& q, const while_inside& f) {
    q.put(1);
    (void)q.get();
    f();
  }
};
using queues = testing::Types<covey::queue<int>, covey::priority_queue<int>, covey::lifo_queue<int>>;
TYPED_TEST_SUITE(SleeperOf, queues);

TYPED_TEST(SleeperOf, ThatGetsIsWokenByPut) {
  const auto put = [](TypeParam& q, const while_inside& f) { f(), q.put(1), q.put(2); };
  const auto put_both = [](TypeParam& q, const while_inside& f) { f(), q.put_many(std::array{1, 2}); };
  expect_woken<TypeParam>({.make = this->for_two, .around = put, .ways = that_get_one(this->to_get())});
  expect_woken<TypeParam>({.make = this->for_two, .around = put_both, .ways = that_get_one(some(this->to_get()))});
  expect_woken<TypeParam>({.make = this->for_two, .around = put, .ways = this->to_wait_for_any()});
}

TYPED_TEST(SleeperOf, ThatGetsIsWokenByTheEnd) {
  const auto close = [](TypeParam& q, const while_inside& f) { f(), q.close(); };
  const auto discard = [](TypeParam& q, const while_inside& f) { f(), q.close(covey::close_mode::discard); };
  expect_woken<TypeParam>({.around = close, .ways = that_end(some(this->to_get()))});
  expect_woken<TypeParam>({.around = discard, .ways = that_end(some(this->to_get()))});
  expect_woken<TypeParam>({.around = this->write, .ways = that_end(some(this->to_get()))});
  expect_woken<TypeParam>({.around = close, .ways = this->to_wait_for_any()});
  expect_woken<TypeParam>({.around = this->write, .ways = this->to_wait_for_any()});
}

// Until it is done it may come again.
TYPED_TEST(SleeperOf, ThatGetsIsWokenWhenTheLastMessageIsDone) {
  const auto finish = [](TypeParam& q, const while_inside& f) {
    q.writer().put(1);
    (void)q.get();
    f();
    q.task_done();
  };
  expect_woken<TypeParam>({.around = finish, .ways = that_end(some(this->to_get()))});
}

TYPED_TEST(SleeperOf, ThatGetsIsToldThatTheLastWriterDied) {
  expect_told_of_death<TypeParam>({.around = this->write, .ways = that_throw<covey::no_producers>(this->to_get())});
  expect_told_of_death<TypeParam>({.around = this->write, .ways = this->to_wait_for_any()});
}

TYPED_TEST(SleeperOf, ThatGetsIsGivenWhatTheDeadHadInHand) {
  expect_told_of_death<TypeParam>(
      {.around = this->have_in_hand, .ways = that_get_one(some(this->to_get())), .sleepers = 1});
  expect_told_of_death<TypeParam>({.around = this->have_in_hand, .ways = this->to_wait_for_any()});
}

TYPED_TEST(SleeperOf, ThatPutsIsWokenByGet) {
  const auto get = [](TypeParam& q, const while_inside& f) { SleeperOf<TypeParam>::fill(q), f(), q.get(), q.get(); };
  const auto get_both = [](TypeParam& q, const while_inside& f) {
    SleeperOf<TypeParam>::fill(q), f(), (void)q.get_many(2);
  };
  expect_woken<TypeParam>({.make = this->for_two, .around = get, .ways = this->to_put()});
  expect_woken<TypeParam>({.make = this->for_two, .around = get_both, .ways = some(this->to_put())});
}

TYPED_TEST(SleeperOf, ThatPutsIsWokenByTheEnd) {
  const auto close = [](TypeParam& q, const while_inside& f) { SleeperOf<TypeParam>::fill(q), f(), q.close(); };
  const auto discard = [](TypeParam& q, const while_inside& f) {
    SleeperOf<TypeParam>::fill(q), f(), q.close(covey::close_mode::discard);
  };
  const auto leave = [](TypeParam& q, const while_inside& f) {
    SleeperOf<TypeParam>::fill(q), SleeperOf<TypeParam>::read(q, f);
  };
  const auto closed = that_throw<covey::queue_closed, TypeParam>(some(this->to_put()));
  expect_woken<TypeParam>({.make = this->for_two, .around = close, .ways = closed});
  expect_woken<TypeParam>({.make = this->for_two, .around = discard, .ways = closed});
  expect_woken<TypeParam>({.make = this->for_two,
                           .around = leave,
                           .ways = that_throw<covey::no_consumers, TypeParam>(some(this->to_put()))});
}

TYPED_TEST(SleeperOf, ThatPutsIsToldThatTheLastReaderDied) {
  expect_told_of_death<TypeParam>({.make =
                                       [] {
                                         TypeParam q(2);
                                         SleeperOf<TypeParam>::fill(q);
                                         return q;
                                       },
                                   .around = this->read,
                                   .ways = that_throw<covey::no_consumers, TypeParam>(this->to_put())});
}

TYPED_TEST(SleeperOf, ThatJoinsIsWokenByWhatIsDoneLast) {
  const auto done = [](TypeParam& q, const while_inside& f) {
    SleeperOf<TypeParam>::have_in_hand(q, f), q.task_done();
  };
  const auto get_again = [](TypeParam& q, const while_inside& f) {
    SleeperOf<TypeParam>::have_in_hand(q, f), (void)q.try_get();
  };
  const auto discard = [](TypeParam& q, const while_inside& f) { q.put(1), f(), q.close(covey::close_mode::discard); };
  const auto leave = [](TypeParam& q, const while_inside& f) { q.put(1), SleeperOf<TypeParam>::read(q, f); };
  expect_woken<TypeParam>({.around = done, .ways = this->to_join()});
  expect_woken<TypeParam>({.around = get_again, .ways = this->to_join()});
  expect_woken<TypeParam>({.around = discard, .ways = this->to_join()});
  expect_woken<TypeParam>({.around = leave, .ways = that_throw<covey::no_consumers, TypeParam>(this->to_join())});
}

TYPED_TEST(SleeperOf, ThatJoinsIsToldOfADeath) {
  using enum covey::in_flight_policy;
  for (const auto policy : {drop, fail})
    expect_told_of_death<TypeParam>({.make = [=] { return TypeParam(covey::queue_options{.on_death = policy}); },
                                     .around = this->have_in_hand,
                                     .ways = this->to_join()});
  expect_told_of_death<TypeParam>(
      {.around = [](TypeParam& q, const while_inside& f) { q.put(1), SleeperOf<TypeParam>::read(q, f); },
       .ways = that_throw<covey::no_consumers, TypeParam>(this->to_join())});
}

// ---- in place
// --------------------------------------------------------------------------------------------------------

template <class Queue>
class SleeperInPlace : public Sleeper {
 protected:
  static Queue for_one() { return Queue({.items = 1, .bytes = 4096}); }

  static ways<Queue> to_view() {
    return {
        {"get_view", [](Queue& q) { return q.get_view().has_value(); }},
        {"get_view_for", [](Queue& q) { return q.get_view_for(1h).has_value(); }},
        {"get_view_until", [](Queue& q) { return q.get_view_until(for_ever, never_stopped()).has_value(); }},
    };
  }
  static ways<Queue> to_publish() {
    return {
        {"publish", [](Queue& q) { return q.publish(q.loan(3)), true; }},
        {"publish_for",
         [](Queue& q) {
           auto l = q.loan(3);
           return q.publish_for(l, 1h);
         }},
        {"publish_until",
         [](Queue& q) {
           auto l = q.loan(3);
           return q.publish_until(l, for_ever, never_stopped());
         }},
    };
  }
  // A loan is of its borrower's own lane, so he waits until one of his own messages is done.
  static ways<Queue> to_borrow(bool when_it_was_got) {
    const auto filled = [=](Queue& q) {
      q.put(numbers(900));
      while (when_it_was_got && !q.empty()) std::this_thread::yield();
      std::vector<covey::loaned<numbers>> all;
      while (auto one = q.try_loan(900)) all.push_back(std::move(*one));
      return all;
    };
    return {
        {"loan",
         [=](Queue& q) {
           const auto others = filled(q);
           return q.loan(900).size() == 900;
         }},
        {"loan with a stop",
         [=](Queue& q) {
           const auto others = filled(q);
           return q.loan(900, never_stopped()).has_value();
         }},
        {"loan_for",
         [=](Queue& q) {
           const auto others = filled(q);
           return q.loan_for(900, 1h).has_value();
         }},
        {"loan_until",
         [=](Queue& q) {
           const auto others = filled(q);
           return q.loan_until(900, for_ever, never_stopped()).has_value();
         }},
    };
  }
};
using in_place_queues = testing::Types<covey::queue<numbers>, covey::lifo_queue<numbers>>;
TYPED_TEST_SUITE(SleeperInPlace, in_place_queues);

TYPED_TEST(SleeperInPlace, ThatGetsIsWokenByPublish) {
  const auto publish = [](TypeParam& q, const while_inside& f) { f(), q.publish(q.loan(900)); };
  const auto put = [](TypeParam& q, const while_inside& f) { f(), q.put(numbers(3)); };
  expect_woken<TypeParam>({.make = this->for_one, .around = publish, .ways = this->to_view(), .sleepers = 1});
  expect_woken<TypeParam>({.make = this->for_one, .around = put, .ways = this->to_view(), .sleepers = 1});
}

TYPED_TEST(SleeperInPlace, ThatPublishesIsWokenByGetView) {
  const auto get = [](TypeParam& q, const while_inside& f) { q.put({}), f(), (void)q.get_view(); };
  expect_woken<TypeParam>({.make = this->for_one, .around = get, .ways = this->to_publish(), .sleepers = 1});
}

TYPED_TEST(SleeperInPlace, ThatBorrowsIsWokenByWhatIsDone) {
  const auto release = [](TypeParam& q, const while_inside& f) { f(), q.get_view()->release(); };
  const auto done = [](TypeParam& q, const while_inside& f) { f(), q.get(), q.task_done(); };
  const auto ways = this->to_borrow(false);
  expect_woken<TypeParam>({.make = this->for_one, .around = release, .ways = ways, .sleepers = 1});
  expect_woken<TypeParam>({.make = this->for_one, .around = done, .ways = ways, .sleepers = 1});
}

TYPED_TEST(SleeperInPlace, ThatBorrowsIsToldThatTheMessageDiedWithItsConsumer) {
  const auto get_one = [](TypeParam& q, const while_inside& f) {
    std::thread([&q] {
      (void)q.get();
      covey::testing::until_killed();
    }).detach();
    f();
  };
  const auto that_drops = [] {
    return TypeParam({.items = 1, .bytes = 4096, .on_death = covey::in_flight_policy::drop});
  };
  expect_told_of_death<TypeParam>(
      {.make = that_drops, .around = get_one, .ways = this->to_borrow(true), .sleepers = 1});
}

// ---- pipes
// -----------------------------------------------------------------------------------------------------------

using ends = std::pair<covey::pipe<int>, covey::pipe<int>>;

class SleeperOfPipe : public Sleeper {
 protected:
  static covey::pipe<int>& second(ends& p) { return p.second; }
  static ends for_two() { return covey::make_pipe<int>({.items = 2}); }
  static ends full_for_the_first() {
    ends p = for_two();
    p.second.writer().queue().put(1);  // without the role
    p.second.writer().queue().put(2);
    return p;
  }
  static void have_first(ends& p, const while_inside& f) {
    const auto first = p.first;
    (void)first.writer();
    f();
  }
};

TEST_F(SleeperOfPipe, IsWokenByTheOtherEnd) {
  const auto put = [](ends& p, const while_inside& f) { f(), p.first.put(1), p.first.put(2); };
  const auto close = [](ends& p, const while_inside& f) { f(), p.first.close(); };
  const auto get = [](ends& p, const while_inside& f) { f(), p.first.get(), p.first.get(); };
  expect_woken<ends>({.make = for_two, .around = put, .ways = that_get_one(gets<ends>(second))});
  expect_woken<ends>({.make = for_two, .around = close, .ways = that_end(gets<ends>(second))});
  expect_woken<ends>({.make = for_two, .around = have_first, .ways = that_end(gets<ends>(second))});
  expect_woken<ends>({.make = full_for_the_first, .around = get, .ways = puts<ends>(second)});
}

TEST_F(SleeperOfPipe, IsToldThatTheOtherEndDied) {
  expect_told_of_death<ends>(
      {.make = for_two, .around = have_first, .ways = that_throw<covey::no_producers>(gets<ends>(second))});
  expect_told_of_death<ends>({.make = full_for_the_first,
                              .around = have_first,
                              .ways = that_throw<covey::no_consumers, ends>(puts<ends>(second))});
}

// ---- broadcasts
// ------------------------------------------------------------------------------------------------------

// Both sleepers have the same subscription.
struct heard {
  covey::broadcast<int> all{{.items = 2, .when_slow = covey::slow_subscriber::block}};
  covey::subscriber<int> in = all.subscribe();
};
using broadcast = covey::broadcast<int>;

class SleeperOfBroadcast : public Sleeper {
 protected:
  static covey::subscriber<int>& in(heard& h) { return h.in; }
  static broadcast& all(heard& h) { return h.all; }
  static broadcast& self(broadcast& b) { return b; }
  static broadcast that_blocks() { return broadcast({.items = 2, .when_slow = covey::slow_subscriber::block}); }
  static auto to_get() { return both(gets<heard>(in), gets_of_many<heard>(in)); }
  static ways<heard> to_wait_for_any() {
    return {{"wait_any", [](heard& h) { return covey::wait_any(h.in) == 0; }}};
  }
  static void subscribe(broadcast& b, const while_inside& f) {
    const auto slow = b.subscribe();
    b.put(1);
    b.put(2);
    f();
  }
};

TEST_F(SleeperOfBroadcast, ThatGetsIsWoken) {
  const auto put = [](heard& h, const while_inside& f) { f(), h.all.put(1), h.all.put(2); };
  const auto close = [](heard& h, const while_inside& f) { f(), h.all.close(); };
  const auto discard = [](heard& h, const while_inside& f) { f(), h.all.close(covey::close_mode::discard); };
  expect_woken<heard>({.around = put, .ways = that_get_one(to_get())});
  expect_woken<heard>({.around = close, .ways = that_end(to_get())});
  expect_woken<heard>({.around = discard, .ways = that_end(to_get())});
  expect_woken<heard>({.around = put, .ways = to_wait_for_any()});
  expect_woken<heard>({.around = close, .ways = to_wait_for_any()});
}

TEST_F(SleeperOfBroadcast, ThatPutsIsWoken) {
  const auto get = [](heard& h, const while_inside& f) { h.all.put(1), h.all.put(2), f(), h.in.get(), h.in.get(); };
  const auto close = [](heard& h, const while_inside& f) { h.all.put(1), h.all.put(2), f(), h.all.close(); };
  expect_woken<heard>({.around = get, .ways = puts<heard>(all)});
  expect_woken<heard>({.around = close, .ways = that_throw<covey::queue_closed, heard>(puts<heard>(all))});
  // Processes forked meanwhile would have the subscription too. The keeper counts its end as a death.
  expect_woken_by_a_thread<broadcast>(
      {.make = that_blocks, .around = subscribe, .ways = puts<broadcast>(self), .deaths_wake = true});
}

TEST_F(SleeperOfBroadcast, ThatPutsGoesOnWhenTheSlowestDied) {
  expect_told_of_death<broadcast>({.make = that_blocks, .around = subscribe, .ways = puts<broadcast>(self)});
}

TEST_F(SleeperOfBroadcast, IsWokenByARequestToStop) {
  using covey::testing::expect_stopped;
  expect_stopped("get", heard(), covey::testing::around_nothing,
                 [](auto& h, auto stop) { return h.in.get(stop).has_value(); });
  expect_stopped("put", that_blocks(), subscribe, [](auto& b, auto stop) { return b.put(3, stop); });
}

}  // namespace
