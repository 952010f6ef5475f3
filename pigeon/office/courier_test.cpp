// Time is a number that the test moves: nothing sleeps, and every run is the same.
#include <pigeon/office/courier.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include <pigeon/office/office_test.hpp>
#include <pigeon/office/text.hpp>

namespace pigeon::office {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using testing::somebody;

class Courier : public ::testing::Test {
 protected:
  void submit(const std::string& name, std::uint32_t packet, const std::string& text = "hi") {
    courier_.submit({.id = packet, .packet = packet, .to = somebody(name), .text = text}, at(0ms));
  }
  courier::time_point at(milliseconds since) const { return start_ + now_ + since; }

  // The packets sent from now until `span` later, each as often as it was.
  std::vector<std::uint32_t> sent_within(milliseconds span) {
    std::vector<std::uint32_t> sent;
    const milliseconds end = now_ + span;
    for (auto due = courier_.next_due(); due && *due <= start_ + end; due = courier_.next_due()) {
      now_ = std::max(now_, std::chrono::duration_cast<milliseconds>(*due - start_));
      const auto round = courier_.due(at(0ms));
      for (const auto& parcel : round.parcels) sent.push_back(parcel.packet);
      silent_.insert(silent_.end(), round.silent.begin(), round.silent.end());
    }
    now_ = end;
    return sent;
  }

  courier courier_;
  courier::time_point start_ = courier::time_point() + 1h;
  milliseconds now_{0};
  std::vector<person_key> silent_;
};

TEST_F(Courier, SendsAtOnceAndThenLessAndLessOftenUntilItRests) {
  submit("ann", 1);
  std::vector<milliseconds> times;
  while (const auto due = courier_.next_due()) {
    now_ = std::chrono::duration_cast<milliseconds>(*due - start_);
    const auto round = courier_.due(*due);
    if (!round.parcels.empty()) {
      EXPECT_EQ(round.parcels[0].again, !times.empty());
      times.push_back(now_);
    }
    silent_ = round.silent;
  }
  EXPECT_THAT(times, ElementsAre(0ms, 750ms, 2250ms, 5250ms, 8250ms, 11250ms));
  EXPECT_EQ(now_, 14250ms);
  EXPECT_THAT(silent_, ElementsAre("ann@pc"));
  EXPECT_EQ(courier_.size(), 1U) << "it rests, it is not given up";
}

TEST_F(Courier, AReceiptEndsItAndBringsTheNextOneInOrder) {
  submit("ann", 1);
  submit("ann", 2);
  EXPECT_THAT(sent_within(0ms), ElementsAre(1));
  const auto outcome = courier_.acknowledged("ann@pc", 1, at(0ms));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->id, 1);
  EXPECT_EQ(outcome->state, message_state::delivered);
  EXPECT_FALSE(courier_.acknowledged("ann@pc", 1, at(0ms))) << "a repeated receipt means nothing";
  EXPECT_THAT(sent_within(0ms), ElementsAre(2));
  EXPECT_TRUE(courier_.acknowledged("ann@pc", 2, at(0ms)));
  EXPECT_FALSE(courier_.next_due());
  EXPECT_EQ(courier_.size(), 0U);
}

TEST_F(Courier, OnePersonsSilenceHoldsUpNobodyElse) {
  submit("ann", 1);
  submit("bob", 2);
  EXPECT_THAT(sent_within(0ms), ElementsAre(1, 2));
  EXPECT_FALSE(courier_.acknowledged("ann@pc", 2, at(0ms))) << "ann cannot confirm what bob got";
  EXPECT_TRUE(courier_.acknowledged("bob@pc", 2, at(0ms)));
}

TEST_F(Courier, TheSameMessageSubmittedTwiceIsSentAsOnce) {
  submit("ann", 1);
  EXPECT_THAT(sent_within(100ms), ElementsAre(1));
  submit("ann", 1);
  EXPECT_THAT(sent_within(600ms), ElementsAre());
  EXPECT_EQ(courier_.size(), 1U);
}

TEST_F(Courier, WhatRestsIsSentAtOnceWhenThePersonReturnsAndToTheNewAddress) {
  submit("ann", 1);
  sent_within(1h);
  person ann = somebody("ann");
  ann.address = "192.0.2.99";
  courier_.returned(ann, at(0ms));
  const auto round = courier_.due(at(0ms));
  ASSERT_EQ(round.parcels.size(), 1U);
  EXPECT_EQ(round.parcels[0].to.address, "192.0.2.99");
  EXPECT_TRUE(round.parcels[0].again);
}

TEST_F(Courier, HearingOfSomebodyDoesNotHurryWhatIsAlreadyOnItsWay) {
  submit("ann", 1);
  EXPECT_THAT(sent_within(100ms), ElementsAre(1));
  courier_.heard(somebody("ann"), at(0ms));
  courier_.returned(somebody("ann"), at(0ms));
  EXPECT_THAT(sent_within(600ms), ElementsAre());
  EXPECT_THAT(sent_within(100ms), ElementsAre(1));
}

TEST_F(Courier, SomebodyWhoTalksButNeverConfirmsIsNotSentTheSameForEver) {
  submit("ann", 1);
  std::size_t times = 0;
  for (int second = 0; second < 24 * 60 * 60; ++second) {
    times += sent_within(1s).size();
    courier_.heard(somebody("ann"), at(0ms));
  }
  EXPECT_EQ(times, 6U * 6U);
  courier_.returned(somebody("ann"), at(0ms));
  EXPECT_EQ(sent_within(15s).size(), 6U);
}

TEST_F(Courier, ALongTextGoesPieceByPiece) {
  const std::string text(2 * piece_bytes_max + 1, 'x');
  submit("ann", 10, text);
  submit("ann", 13);
  EXPECT_THAT(sent_within(0ms), ElementsAre(10));
  EXPECT_FALSE(courier_.acknowledged("ann@pc", 11, at(0ms))) << "not sent yet";
  EXPECT_FALSE(courier_.acknowledged("ann@pc", 10, at(0ms)));
  EXPECT_THAT(sent_within(0ms), ElementsAre(11));
  EXPECT_FALSE(courier_.acknowledged("ann@pc", 11, at(0ms)));
  EXPECT_THAT(sent_within(0ms), ElementsAre(12));
  EXPECT_EQ(courier_.acknowledged("ann@pc", 12, at(0ms))->id, 10);
  EXPECT_THAT(sent_within(0ms), ElementsAre(13));
}

TEST_F(Courier, ALateReceiptForARestingMessageCounts) {
  submit("ann", 1);
  submit("ann", 2);
  sent_within(1h);
  EXPECT_TRUE(courier_.acknowledged("ann@pc", 1, at(0ms)));
  EXPECT_THAT(sent_within(0ms), ElementsAre(2));
}

TEST_F(Courier, AReceiptFromBeforeARestartCountsThoughItsTurnHasNotCome) {
  submit("ann", 1);
  submit("ann", 2);
  EXPECT_THAT(sent_within(0ms), ElementsAre(1));
  EXPECT_EQ(courier_.acknowledged("ann@pc", 2, at(0ms))->id, 2);
  EXPECT_EQ(courier_.size(), 1U);
}

TEST_F(Courier, ARefusedMessageMakesRoomForTheNext) {
  submit("ann", 1);
  submit("ann", 2);
  sent_within(0ms);
  const auto outcome = courier_.refused("ann@pc", 1, "too long", at(0ms));
  EXPECT_EQ(outcome->state, message_state::failed);
  EXPECT_EQ(outcome->reason, "too long");
  EXPECT_THAT(sent_within(0ms), ElementsAre(2));
  EXPECT_FALSE(courier_.refused("bob@pc", 2, "x", at(0ms)));
}

// A line that loses three of four datagrams and receipts, and a receiver that drops falling numbers as some clients do.
TEST_F(Courier, EverythingArrivesInOrderOverABadLine) {
  std::mt19937 random(1);
  for (std::uint32_t packet = 1; packet <= 100; ++packet) submit("ann", packet);
  std::uint32_t last = 0;
  std::vector<std::uint32_t> shown;
  for (int step = 0; courier_.size() > 0 && step < 100'000; ++step) {
    for (const std::uint32_t packet : sent_within(250ms)) {
      if (random() % 4 != 0) continue;
      if (packet > last) shown.push_back(last = packet);
      if (random() % 4 == 0) courier_.acknowledged("ann@pc", packet, at(0ms));
    }
    if (step % 100 == 0) courier_.returned(somebody("ann"), at(0ms));
  }
  EXPECT_EQ(courier_.size(), 0U);
  EXPECT_EQ(shown.size(), 100U);
}

TEST(Confirmations, KnowOnlyWhatTheStoreConfirmed) {
  confirmations known;
  const courier::time_point now{};
  EXPECT_FALSE(known.is_confirmed("ann@pc", 1, now));
  EXPECT_FALSE(known.is_confirmed("ann@pc", 1, now)) << "arrived twice, but not stored yet";
  known.confirm("ann@pc", 1, now);
  EXPECT_TRUE(known.is_confirmed("ann@pc", 1, now));
  EXPECT_FALSE(known.is_confirmed("ann@pc", 2, now));
  EXPECT_FALSE(known.is_confirmed("bob@pc", 1, now));
}

TEST(Confirmations, LiveTenMinutesAndRepeatingDoesNotProlongThat) {
  confirmations known;
  const courier::time_point now{};
  known.confirm("ann@pc", 1, now);
  known.confirm("ann@pc", 1, now + 9min);
  EXPECT_TRUE(known.is_confirmed("ann@pc", 1, now + 10min - 1ms));
  EXPECT_FALSE(known.is_confirmed("ann@pc", 1, now + 10min));
}

TEST(Confirmations, AreForgottenWhenTheClientCountsAnew) {
  confirmations known;
  known.confirm("ann@pc", 7, {});
  known.confirm("bob@pc", 7, {});
  known.forget("ann@pc");
  EXPECT_FALSE(known.is_confirmed("ann@pc", 7, {}));
  EXPECT_TRUE(known.is_confirmed("bob@pc", 7, {}));
}

TEST(Lives, ALowEntryBeginsOneOnlyAfterAMessage) {
  lives all;
  EXPECT_FALSE(all.begins("ann@pc", 1));
  EXPECT_FALSE(all.begins("ann@pc", 1));  // the second of two equal greetings
  all.message("ann@pc", 9);
  all.message("ann@pc", 4);  // late
  EXPECT_FALSE(all.begins("ann@pc", 10));
  EXPECT_TRUE(all.begins("ann@pc", 1));
  EXPECT_FALSE(all.begins("ann@pc", 1));
  all.message("ann@pc", 2);
  EXPECT_TRUE(all.begins("ann@pc", 2));  // the number of a message is not that of an entry
  EXPECT_FALSE(all.begins("bob@pc", 1));
}

TEST(Confirmations, AreBounded) {
  confirmations known;
  const courier::time_point now{};
  for (std::uint32_t packet = 0; packet < 5000; ++packet) known.confirm("ann@pc", packet, now);
  EXPECT_FALSE(known.is_confirmed("ann@pc", 0, now));
  EXPECT_TRUE(known.is_confirmed("ann@pc", 5000 - 1000, now));
  for (int i = 0; i < 300; ++i) known.confirm(std::to_string(i), 1, now + 1s);
  EXPECT_FALSE(known.is_confirmed("ann@pc", 4999, now)) << "heard of longest ago";
  EXPECT_TRUE(known.is_confirmed("299", 1, now + 1s));
}

}  // namespace
}  // namespace pigeon::office
