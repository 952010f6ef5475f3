// A value whose parts belong together is read and updated by many, some of them killed inside.
#include <covey/sync/guarded.hpp>
#include <gtest/gtest.h>
#include <covey/sync/mutex.hpp>
#include <covey/testing/victims.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;

struct sale {
  explicit sale(int tickets) : left(tickets) {}
  int left;
  int sold = 0;
};

struct twelve {
  std::array<long, 12> same{};
  [[nodiscard]] bool whole() const {
    return std::ranges::all_of(same, [&](long v) { return v == same[0]; });
  }
};

using board = std::map<std::string, std::vector<int>>;

TEST(Guarded, IsReadAndUpdatedInAllProcesses) {
  covey::guarded<sale> box{sale{100}};
  box.update([](sale& s) { --s.left, ++s.sold; });
  std::vector<covey::process> sellers;
  for (int i = 0; i < 4; ++i)
    sellers.emplace_back(
        [](covey::guarded<sale> b) {
          for (int n = 0; n < 20; ++n) b.update([](sale& s) { --s.left, ++s.sold; });
        },
        box);
  for (auto& s : sellers) EXPECT_EQ(s.join().code(), 0);
  EXPECT_EQ(box.load().left, 19);
  EXPECT_EQ(box.read([](const sale& s) { return s.sold; }), 81);
  static_assert(!std::is_reference_v<decltype(box.read(&sale::sold))>, "the value that it would refer to is gone");
  EXPECT_EQ(box.read(&sale::sold), 81);
  EXPECT_EQ(box.update([](sale& s) { return s.left = 7; }), 7);
  box.store(sale{3});
  EXPECT_EQ(box.load().left, 3);
}

TEST(Guarded, ShowsReadersWholeValuesOnly) {
  covey::guarded<twelve> box;
  std::atomic<bool> over = false;
  std::vector<std::jthread> threads;
  for (int r = 0; r < 2; ++r)
    threads.emplace_back([&] {
      while (!over) ASSERT_TRUE(box.load().whole());
    });
  std::vector<std::jthread> writers;
  for (int w = 0; w < 2; ++w)
    writers.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i)
        box.update([](twelve& t) {
          for (long& v : t.same) ++v;
        });
    });
  writers.clear();
  over = true;
  threads.clear();
  EXPECT_EQ(box.load().same[0], 10'000);
}

TEST(Guarded, HasTheOldValueWhenAnUpdaterIsKilled) {
  covey::guarded<twelve> box;
  covey::process victim = started(
      [](covey::guarded<twelve> b, covey::event there) {
        b.update([&](twelve& t) {
          t.same[3] = 99;
          there.set();
          until_killed();
        });
      },
      box);
  EXPECT_TRUE(box.load().whole());  // readers do not wait
  EXPECT_FALSE(box.update_for(2ms, [](twelve&) {}));
  std::jthread waits([&] {
    box.update([](twelve& t) {
      for (long& v : t.same) ++v;
    });
  });
  victim.kill();
  waits.join();
  EXPECT_TRUE(box.load().whole());
  EXPECT_EQ(box.load().same[0], 1);
}

TEST(Guarded, StaysWholeUnderRandomKills) {
  covey::guarded<twelve> box;
  for (int round = 0; round < 40; ++round) {
    covey::process victim = started(
        [](covey::guarded<twelve> b, covey::event there) {
          there.set();
          for (;;)
            b.update([](twelve& t) {
              for (long& v : t.same) ++v;
            });
        },
        box);
    const long before = box.load().same[0];
    while (box.load().same[0] == before) std::this_thread::yield();
    kill_and_join(victim);
    EXPECT_TRUE(box.load().whole());
  }
  EXPECT_TRUE(box.update_for(10s, [](twelve&) {}));
}

TEST(Guarded, KeepsWhateverTravels) {
  covey::guarded<board> b{board{{"a", {1}}}};
  std::vector<covey::process> writers;
  for (int i = 0; i < 3; ++i)
    writers.emplace_back(
        [](covey::guarded<board> all, int who) {
          for (int n = 0; n < 100; ++n) all.update([&](board& v) { v[std::to_string(who)].push_back(n); });
        },
        b, i);
  for (int i = 0; i < 1'000; ++i)
    for (const auto& [name, numbers] : b.load()) EXPECT_LE(numbers.size(), 100U);
  for (auto& w : writers) EXPECT_EQ(w.join().code(), 0);
  EXPECT_EQ(b.load().size(), 4U);
  EXPECT_EQ(b.load()["2"].size(), 100U);
  covey::guarded<std::string> text;
  EXPECT_EQ(text.load(), "");
  text.store(std::string(3'000'000, 'x'));
  EXPECT_EQ(text.load().size(), 3'000'000U);
}

TEST(Guarded, RefusesWhatItCannotKeepAndStaysAsItWas) {
  covey::guarded<std::string> text{"old"};
  const std::string too_long(40'000'000, 'x');  // NOLINT(bugprone-string-constructor): it is meant to be large
  EXPECT_THROW(text.store(too_long), std::system_error);
  EXPECT_EQ(text.load(), "old");
}

TEST(Guarded, IsUnchangedWhenTheFunctionThrows) {
  covey::guarded<int> n{4};
  EXPECT_THROW(n.update([](int& v) {
    v = 5;
    throw std::logic_error("no");
  }),
               std::logic_error);
  EXPECT_EQ(n.load(), 4);
  EXPECT_THROW(n.update([&](int&) { n.store(6); }), std::system_error);  // in itself
  EXPECT_TRUE(n.update_until(std::chrono::system_clock::now() + 1s, [](int& v) { return ++v; }));
  EXPECT_EQ(n.load(), 5);
}

TEST(Guarded, StopsWaitingWhenAskedTo) {
  covey::guarded<int> n;
  n.update([&](int&) {
    std::jthread waiter([&](std::stop_token stop) { EXPECT_FALSE(n.update_for(1h, [](int&) {}, stop)); });
    waiter.request_stop();
  });
}

TEST(Guarded, IsAnotherTypeToNobody) {
  covey::guarded<int> n;
  covey::detail::encoder out;
  n.encode_handle(out);
  covey::detail::decoder in{.rest = out.bytes};
  EXPECT_THROW((void)covey::guarded<long>::decode_handle(in), covey::bad_message);
}

}  // namespace
