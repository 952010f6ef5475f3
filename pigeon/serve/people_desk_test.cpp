// The desk without sockets or clocks: datagrams go in as bytes, letters come out, and time is what the test says.
#include <gmock/gmock.h>

#include <pigeon/serve/people_desk.hpp>

namespace pigeon::serve {
namespace {

using namespace std::chrono_literals;
using office::message_state;
using wire::mode;

const endpoint there{"192.0.2.7", 2425};
const wire::identity bob{.user = "bob", .host = "pc", .name = "Bob"};

class Desk : public ::testing::Test {
 protected:
  Desk() {
    tell(office::own_profile{"Ann", ""});
    tell(office::everybody_known{500});
    letters_.clear();
  }

  // What came of each step is collected in letters_ and news_.
  void tell(const office::to_people& what) {
    desk_outbox out;
    desk_.take(what, now_, out);
    collect(out);
  }
  bool hear(const std::string& bytes, const endpoint& from = there, bool own = false) {
    desk_outbox out;
    const bool understood = desk_.hear(bytes, from, own, now_, out);
    collect(out);
    return understood;
  }
  void pass(std::chrono::milliseconds time) {
    now_.steady += time;
    now_.unix_time += time.count();
    desk_outbox out;
    desk_.due(now_, out);
    collect(out);
  }
  void collect(desk_outbox& out) {
    letters_.insert(letters_.end(), out.letters.begin(), out.letters.end());
    news_.insert(news_.end(), out.news.begin(), out.news.end());
  }

  void greet(std::uint32_t number) {
    hear(wire::format_greeting(bob, number, wire::presence::arrival, wire::text_encoding::utf8));
  }
  void say(std::uint32_t number, const std::string& text) {
    hear(wire::format_text(bob, number, text, wire::text_encoding::utf8));
  }
  office::message_out message(std::int64_t id, std::uint32_t packet, const std::string& text) {
    office::message_out made{.id = id, .packet = packet, .to = {}, .text = text};
    made.to.key = "bob@pc";
    made.to.address = there.address;
    return made;
  }

  // The modes of the letters so far, which are then forgotten.
  std::vector<mode> modes() {
    std::vector<mode> all;
    for (const letter& each : std::exchange(letters_, {})) all.push_back(wire::parse_packet(each.bytes)->mode());
    return all;
  }
  template <class T>
  std::vector<T> news() {
    std::vector<T> found;
    for (const auto& each : std::exchange(news_, {}))
      if (const auto* one = std::get_if<T>(&each)) found.push_back(*one);
    return found;
  }

  moment now_{std::chrono::steady_clock::time_point{1h}, 1'700'000'000'000};
  people_desk desk_{{.user = "ann", .host = "desk"}};
  std::vector<letter> letters_;
  std::vector<office::to_store> news_;
};

TEST(PeopleDesk, IsSilentUntilStoreHasToldWhoIsKnownAndThenArrives) {
  people_desk desk{{.user = "ann", .host = "desk"}};
  const moment now{};
  desk_outbox out;
  desk.take(office::own_profile{"安", "研发"}, now, out);
  desk.due(now, out);
  desk.leave(now, out);
  EXPECT_TRUE(out.letters.empty());
  desk.take(office::everybody_known{7}, now, out);
  ASSERT_EQ(out.letters.size(), 1U);
  EXPECT_EQ(out.letters[0].to, (endpoint{"", 2425}));
  const auto packet = *wire::parse_packet(out.letters[0].bytes);
  EXPECT_EQ(packet.mode(), mode::entry);
  EXPECT_EQ(packet.number, 8U) << "above every number ever used";
  EXPECT_EQ(packet.body, "ann") << "ASCII only, for everybody";
}

TEST_F(Desk, AnswersAnArrivalBeforeItSendsWhatWaited) {
  tell(message(1, 100, "hello"));
  for (int n = 0; n < 8; ++n) pass(4s);
  modes();
  greet(1);
  pass(0ms);
  EXPECT_EQ(modes(), (std::vector{mode::answer_entry, mode::send_message}));
  greet(1);  // iptux greets twice
  pass(10ms);
  EXPECT_EQ(modes(), (std::vector{mode::answer_entry})) << "or iptux would show the message twice";
}

TEST_F(Desk, AMessageIsConfirmedOnceStoreHasItAndThenAtOnce) {
  greet(1);
  modes();
  say(7, "hi");
  EXPECT_TRUE(letters_.empty());
  const auto in = news<office::message_in>();
  ASSERT_EQ(in.size(), 1U);
  EXPECT_EQ(in[0].text, "hi");
  EXPECT_EQ(in[0].from.name, "Bob") << "as it greeted";
  say(7, "hi");
  EXPECT_EQ(news<office::message_in>().size(), 1U) << "store was not heard yet: it must see the copy";
  tell(office::receipt_due{in[0].from, 7});
  EXPECT_EQ(modes(), (std::vector{mode::receive_message}));
  say(7, "hi");
  EXPECT_EQ(modes(), (std::vector{mode::receive_message}));
  EXPECT_TRUE(news<office::message_in>().empty());
}

TEST_F(Desk, AClientThatCountsFromOneAgainBeginsALife) {
  greet(1);
  say(7, "hi");
  const auto first = news<office::message_in>();
  tell(office::receipt_due{first.at(0).from, 7});
  greet(1);
  greet(1);
  say(7, "hi");
  const auto second = news<office::message_in>();
  ASSERT_EQ(second.size(), 1U) << "not a copy";
  EXPECT_EQ(first[0].from.life, 0);
  EXPECT_EQ(second[0].from.life, now_.unix_time);
}

TEST_F(Desk, ALifeIsRecognisedAlsoByTheNextIncarnation) {
  office::person who;
  who.key = "bob@pc";
  who.life = now_.unix_time + 5;
  tell(office::person_known{who, 7});
  greet(3);
  EXPECT_EQ(news<office::person_seen>().at(0).who.life, who.life + 1) << "also when the clock was set back";
}

TEST_F(Desk, WhatIsDoneIsNotSentAgainWhenStoreDidNotKnowYet) {
  greet(1);
  tell(message(1, 100, "hello"));
  pass(0ms);
  hear(wire::format_receipt(bob, 2, 100, wire::text_encoding::utf8));
  EXPECT_EQ(news<office::message_outcome>().at(0).state, message_state::delivered);
  modes();
  tell(message(1, 100, "hello"));
  pass(0ms);
  EXPECT_TRUE(letters_.empty());
  EXPECT_EQ(news<office::message_outcome>().size(), 1U);
}

TEST_F(Desk, WhoSpeaksFromAnOddPortIsAnsweredThereAndAtTheUsualOne) {
  hear(wire::format_greeting(bob, 1, wire::presence::arrival, wire::text_encoding::utf8), {"192.0.2.7", 40000});
  ASSERT_EQ(letters_.size(), 2U);
  EXPECT_EQ(letters_[0].to, (endpoint{"192.0.2.7", 2425}));
  EXPECT_EQ(letters_[1].to, (endpoint{"192.0.2.7", 40000}));
}

TEST_F(Desk, AStrangerWhoWritesIsListedAndGreeted) {
  say(7, "hi");
  EXPECT_EQ(modes(), (std::vector{mode::entry}));
  EXPECT_EQ(std::get<office::person_seen>(news_.at(0)).who.name, "bob");
}

TEST_F(Desk, ARenameReachesEveryoneWhoseOldFieldsCannotSayIt) {
  greet(1);
  modes();
  tell(office::own_profile{"Anna", ""});
  EXPECT_EQ(modes(), (std::vector{mode::absence}));
  tell(office::own_profile{"安", ""});
  EXPECT_EQ(modes(), (std::vector{mode::absence, mode::absence})) << "to all, and to Bob";
}

TEST_F(Desk, IgnoresItselfAndCountsNonsense) {
  const wire::identity self{.user = "Ann", .host = "DESK", .name = "Ann"};
  EXPECT_TRUE(hear(wire::format_broadcast(self, 1, wire::presence::arrival), {"192.0.2.1", 2425}, true));
  EXPECT_TRUE(letters_.empty());
  EXPECT_TRUE(hear(wire::format_broadcast(self, 1, wire::presence::arrival), {"192.0.2.2", 2425}, false));
  EXPECT_EQ(modes(), (std::vector{mode::answer_entry})) << "another machine of that name is another one";
  EXPECT_FALSE(hear("garbage"));
  EXPECT_FALSE(hear(std::string(65507, '\0')));
  EXPECT_FALSE(hear("1:1:::32:nobody"));
}

TEST_F(Desk, InALargeOfficeBothGreetingsOfAnArrivalGetOneLateAnswer) {
  for (int n = 0; n < 30; ++n) {
    const wire::identity other{.user = "u" + std::to_string(n), .host = "pc", .name = "U"};
    hear(wire::format_greeting(other, 1, wire::presence::answer, wire::text_encoding::utf8));
  }
  modes();
  greet(1);
  greet(1);
  pass(1s);
  EXPECT_EQ(modes(), (std::vector{mode::answer_entry}));
}

}  // namespace
}  // namespace pigeon::serve
