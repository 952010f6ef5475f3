// Time is a number that the test moves: nothing sleeps, and every run is the same.
#include <pigeon/office/roster.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include <pigeon/office/office_test.hpp>

namespace pigeon::office {
namespace {

using namespace std::chrono_literals;
using testing::somebody;

constexpr roster::time_point start = roster::time_point() + 1h;

TEST(Roster, ReportsANewPersonOnceAndThenOnlyChanges) {
  roster here;
  person ann = somebody("ann");
  EXPECT_TRUE(here.heard(ann, start)->who.here);
  EXPECT_FALSE(here.heard(ann, start));
  ann.address = "192.0.2.99";
  EXPECT_EQ(here.heard(ann, start)->who.address, "192.0.2.99");
  ann.away = true;
  EXPECT_TRUE(here.heard(ann, start)->who.away);
  ann.seen += 59'999;
  EXPECT_FALSE(here.heard(ann, start));
  ann.seen += 1;
  EXPECT_TRUE(here.heard(ann, start)) << "a minute later the store may know";
  EXPECT_EQ(here.find("ann@pc")->address, "192.0.2.99");
  EXPECT_EQ(here.find("bob@pc"), nullptr);
}

TEST(Roster, ReportsAnExitOnce) {
  roster here;
  here.heard(somebody("ann"), start);
  EXPECT_EQ(here.here_count(), 1U);
  EXPECT_FALSE(here.left("ann@pc")->who.here);
  EXPECT_FALSE(here.left("ann@pc"));
  EXPECT_FALSE(here.left("bob@pc"));
  EXPECT_EQ(here.here_count(), 0U);
  EXPECT_FALSE(here.next_due());
  EXPECT_TRUE(here.heard(somebody("ann"), start)) << "back again";
}

TEST(Roster, SomebodyKnownFromEarlierIsNotHereUntilHeard) {
  roster here;
  here.known(somebody("ann"));
  EXPECT_EQ(here.here_count(), 0U);
  EXPECT_EQ(here.people().size(), 1U);
  EXPECT_FALSE(here.find("ann@pc")->here);
  EXPECT_TRUE(here.heard(somebody("ann"), start));
  here.known(somebody("ann"));
  EXPECT_TRUE(here.find("ann@pc")->here) << "what was heard is newer than what was known";
}

TEST(Roster, AQuietPersonIsAskedThreeTimesAndThenGone) {
  roster here;
  here.heard(somebody("ann"), start);
  auto now = start;
  for (int probe = 0; probe < 3; ++probe) {
    now = here.next_due().value();
    EXPECT_EQ(now, start + 10min + probe * 3s);
    const auto round = here.due(now);
    EXPECT_EQ(round.probes.size(), 1U);
    EXPECT_TRUE(round.gone.empty());
    EXPECT_TRUE(here.due(now).probes.empty());
  }
  const auto verdict = here.due(here.next_due().value());
  ASSERT_EQ(verdict.gone.size(), 1U);
  EXPECT_FALSE(verdict.gone[0].who.here);
  EXPECT_FALSE(here.next_due());
}

TEST(Roster, AnAnswerToAProbeStartsThePatienceAnew) {
  roster here;
  here.heard(somebody("ann"), start);
  (void)here.due(start + 10min);
  (void)here.due(start + 10min + 3s);
  here.heard(somebody("ann"), start + 10min + 4s);
  EXPECT_EQ(here.next_due(), start + 20min + 4s);
}

TEST(Roster, DoubtAsksAtOnceButNotTwice) {
  roster here;
  here.heard(somebody("ann"), start);
  here.doubt("ann@pc", start + 1s);
  EXPECT_EQ(here.due(start + 1s).probes.size(), 1U);
  here.doubt("ann@pc", start + 2s);
  EXPECT_TRUE(here.due(start + 2s).probes.empty());
  here.doubt("bob@pc", start);
}

TEST(Roster, ManyQuietPeopleAreNotAskedAllAtOnce) {
  roster here;
  for (int i = 0; i < 200; ++i) here.heard(somebody("p" + std::to_string(i)), start);
  EXPECT_EQ(here.due(start + 10min).probes.size(), 64U);
  EXPECT_EQ(here.due(start + 10min + 250ms).probes.size(), 64U);
}

TEST(Roster, AnswersAtOnceInASmallOfficeAndSpreadsAnswersInALargeOne) {
  std::mt19937 random(1);
  roster here;
  const auto slowest_of_100 = [&] {
    auto slowest = 0ms;
    for (int i = 0; i < 100; ++i) slowest = std::max(slowest, here.answer_delay(random));
    return slowest;
  };
  const auto grow_to = [&](int count) {
    for (int i = 0; i < count; ++i) here.heard(somebody("p" + std::to_string(i)), start);
  };
  grow_to(20);
  EXPECT_EQ(slowest_of_100(), 0ms);
  grow_to(21);
  EXPECT_GT(slowest_of_100(), 500ms);
  EXPECT_LE(slowest_of_100(), 1000ms);
  grow_to(50);
  EXPECT_GT(slowest_of_100(), 1000ms);
  EXPECT_LE(slowest_of_100(), 2000ms);
  grow_to(300);
  EXPECT_GT(slowest_of_100(), 2000ms);
  EXPECT_LE(slowest_of_100(), 4000ms);
}

TEST(Roster, ForgetsTheLeastPresentWhenFull) {
  roster here;
  here.heard(somebody("here"), start);
  here.known(somebody("stranger"));
  for (int i = 0; i < 4999; ++i) here.heard(somebody("p" + std::to_string(i)), start);
  EXPECT_EQ(here.people().size(), 5000U);
  EXPECT_EQ(here.find("stranger@pc"), nullptr);
  EXPECT_NE(here.find("here@pc"), nullptr);
  here.heard(somebody("one more"), start);
  EXPECT_EQ(here.find("here@pc"), nullptr) << "heard of longest ago";
  EXPECT_EQ(here.here_count(), 5000U);
}

}  // namespace
}  // namespace pigeon::office
