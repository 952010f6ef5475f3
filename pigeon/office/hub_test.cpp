// A hub over a real store in a folder of the test's own, with a clock that the test sets. The last test plays the two
// other services and compares what they were told with a model, while everything crashes and everything comes twice.
#include <pigeon/office/hub.hpp>

#include <gmock/gmock.h>

#include <map>
#include <optional>
#include <random>
#include <set>

#include <pigeon/office/office_test.hpp>
#include <pigeon/office/sqlite.hpp>
#include <pigeon/office/text.hpp>

namespace pigeon::office {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::somebody;
using ::testing::StartsWith;
using testing::temporary_folder;

// The messages of type T among `all`.
template <class T, class Any>
std::vector<T> of(const std::vector<Any>& all) {
  std::vector<T> found;
  for (const auto& any : all) {
    if (const auto* one = std::get_if<T>(&any)) found.push_back(*one);
  }
  return found;
}

class Hub : public ::testing::Test {
 protected:
  outbox handle(const to_store& what) { return handle(std::vector{what}); }
  outbox handle(const std::vector<to_store>& batch) {
    outbox out;
    hub_.handle_all(batch, out).value();
    return out;
  }
  std::string refusal(const to_store& what) {
    const auto failed = of<request_failed>(handle(what).web);
    return failed.empty() ? "" : failed[0].text;
  }
  message send(const std::string& to, const std::string& text, const std::string& ref = "") {
    const auto told = of<message_changed>(handle(send_text{ref, to, text}).web);
    return told.empty() ? message{} : told[0].what;
  }
  message_in from(const std::string& name, std::uint32_t packet, const std::string& text) {
    return {.from = somebody(name), .packet = packet, .text = text, .wants_receipt = true};
  }

  temporary_folder folder_;
  unix_ms now_ = 1'700'000'000'000;
  store store_ = store::open(folder_.path()).value();
  hub hub_{store_, [this] { return now_; }};
};

TEST_F(Hub, GivesAStartingPageEverybodyAndOurOwnName) {
  hub_.introduce({"Front desk", "Ground floor"}).value();
  handle(person_seen{somebody("ann")});
  handle(from("ann", 1, "hi"));
  const auto told = of<office_snapshot>(handle(web_started{}).web);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].self.name, "Front desk");
  EXPECT_EQ(told[0].self.group, "Ground floor");
  ASSERT_EQ(told[0].people.size(), 1U);
  EXPECT_EQ(told[0].people[0].who.name, "ann");
  EXPECT_EQ(told[0].people[0].unread, 1U);
}

TEST_F(Hub, GivesAStartingPeopleServiceProfilePeopleAndWhatWaits) {
  hub_.introduce({"Front desk", ""}).value();
  handle(person_seen{somebody("ann")});
  handle(person_seen{somebody("bob")});
  const auto sent = send("ann", "later");
  const outbox out = handle(people_started{});
  ASSERT_EQ(out.people.size(), 5U);
  EXPECT_EQ(std::get<own_profile>(out.people[0]).name, "Front desk");
  EXPECT_EQ(std::get<person_known>(out.people[1]).who.key, "ann@pc");
  EXPECT_FALSE(std::get<person_known>(out.people[1]).who.here) << "nobody is here until seen";
  EXPECT_EQ(std::get<everybody_known>(out.people[3]).last_own_packet, sent.packet);
  const auto& waiting = std::get<message_out>(out.people[4]);
  EXPECT_EQ(waiting.packet, sent.packet);
  EXPECT_EQ(waiting.text, "later");
  EXPECT_EQ(of<person_changed>(out.web).size(), 2U) << "the page sees them go";
}

TEST_F(Hub, ANameFromTheCommandLineHoldsUntilThePageChangesIt) {
  hub_.introduce({"Ann", ""}).value();
  handle(rename_self{" Anna "});
  hub_.introduce({"Ann", ""}).value();
  EXPECT_EQ(of<own_profile>(handle(people_started{}).people)[0].name, "Anna");
  hub_.introduce({"Front desk", ""}).value();
  EXPECT_EQ(of<own_profile>(handle(people_started{}).people)[0].name, "Front desk");
}

TEST_F(Hub, ARenameReachesBothServicesAndABadOneNeither) {
  const outbox out = handle(rename_self{"前台"});
  EXPECT_EQ(of<own_profile>(out.people)[0].name, "前台");
  EXPECT_EQ(of<own_profile>(out.web)[0].name, "前台");
  for (const auto& name : {std::string(), std::string("  "), std::string("a\nb"), std::string(101, 'x')}) {
    EXPECT_EQ(refusal(rename_self{name}), "A name has 1 to 100 bytes on one line.");
  }
}

TEST_F(Hub, AMessageIsStoredConfirmedAndShown) {
  const outbox out = handle(from("ann", 7, "hi"));
  const auto receipts = of<receipt_due>(out.people);
  ASSERT_EQ(receipts.size(), 1U);
  EXPECT_EQ(receipts[0].to.key, "ann@pc");
  EXPECT_EQ(receipts[0].packet, 7U);
  const auto shown = of<message_changed>(out.web);
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0].what.text, "hi");
  EXPECT_EQ(shown[0].unread, 1U);
  EXPECT_EQ(of<person_changed>(out.web).size(), 1U) << "ann was unknown";
}

TEST_F(Hub, ARepeatedMessageIsConfirmedAgainAndStoredOnce) {
  handle(from("ann", 7, "hi"));
  const outbox out = handle(from("ann", 7, "hi"));
  EXPECT_EQ(of<receipt_due>(out.people).size(), 1U);
  EXPECT_EQ(of<message_changed>(out.web)[0].unread, 1U);
  EXPECT_EQ(of<history_page>(handle(history_wanted{"h", "ann"}).web)[0].messages.size(), 1U);
}

TEST_F(Hub, AClientThatStartedAnewMaySayAnythingUnderItsOldNumbers) {
  message_in first = from("ann", 7, "hello");
  handle(first);
  message_in second = first;
  second.from.life = now_ + 5;
  EXPECT_NE(of<message_changed>(handle(second).web).at(0).what.id, 1);
  EXPECT_EQ(of<message_changed>(handle(second).web).at(0).what.id, 2) << "its repetition is the same message";
  EXPECT_EQ(store_.find_person("ann@pc").value()->life, now_ + 5);
  EXPECT_EQ(store_.last_incoming("ann@pc").value(), 7U);

  // What people knew before it learned of the life changes nothing.
  EXPECT_EQ(of<message_changed>(handle(first).web).at(0).what.id, 2);
  handle(person_seen{first.from});
  EXPECT_EQ(store_.find_person("ann@pc").value()->life, now_ + 5);
}

TEST_F(Hub, ABatchWithTwoLivesDoublesNothingWhenItComesTwice) {
  message_in first = from("ann", 7, "hello");
  first.from.life = 1;
  message_in second = from("ann", 7, "hello again");
  second.from.life = 2;
  const std::vector<to_store> batch{person_seen{first.from}, first, person_seen{second.from}, second};
  handle(batch);
  EXPECT_EQ(of<receipt_due>(handle(batch).people).size(), 2U);
  EXPECT_EQ(store_.history("ann@pc", 0, 10).value().messages.size(), 2U);
}

TEST_F(Hub, AMessageThatWantsNoReceiptGetsNone) {
  message_in quiet = from("ann", 7, "hi");
  quiet.wants_receipt = false;
  EXPECT_TRUE(of<receipt_due>(handle(quiet).people).empty());
}

TEST_F(Hub, ARepeatedRequestSendsNothingASecondTime) {
  handle(person_seen{somebody("ann")});
  const outbox first = handle(send_text{"r1", "ann", "hi"});
  const outbox second = handle(send_text{"r1", "ann", "hi"});
  EXPECT_EQ(of<message_out>(first.people).size(), 1U);
  EXPECT_EQ(of<message_changed>(second.web)[0].what.id, of<message_changed>(first.web)[0].what.id);
  EXPECT_EQ(of<message_changed>(second.web)[0].ref, "r1");
  EXPECT_EQ(refusal(send_text{"r1", "ann", "other"}), "The reference was used for another message before.");
  EXPECT_EQ(store_.waiting_count("ann@pc").value(), 1);
}

TEST_F(Hub, ARefusedRequestStaysRefused) {
  const std::string sentence = refusal(send_text{"r1", "ann", "hi"});
  EXPECT_EQ(sentence, "Nobody known is called “ann”.");
  handle(person_seen{somebody("ann")});
  EXPECT_EQ(refusal(send_text{"r1", "ann", "hi"}), sentence);
  EXPECT_EQ(refusal(send_text{"r2", "ann", "hi"}), "");
}

TEST_F(Hub, FindsAPersonByKeyOrByAnUnambiguousName) {
  person ann = somebody("ann");
  ann.name = "Ann";
  person other = somebody("ann2");
  other.name = "ann";
  other.address = "192.0.2.8";
  handle({person_seen{ann}, person_seen{other}, person_seen{somebody("bob")}});
  EXPECT_EQ(send("bob", "x").who, "bob@pc");
  EXPECT_EQ(send(" BOB ", "x").who, "bob@pc");
  EXPECT_EQ(send("ANN2@PC", "x").who, "ann2@pc");
  EXPECT_EQ(send("Ann", "x").who, "ann@pc") << "spelled like one of two";
  EXPECT_EQ(refusal(send_text{"", "ANN", "x"}), "“ANN” may be ann2@pc (192.0.2.8) or ann@pc (192.0.2.7); say which.");
  EXPECT_EQ(refusal(send_text{"", " ", "x"}), "Nobody was named.");
}

TEST_F(Hub, RefusesTextsThatAreEmptyOrTooLong) {
  handle(person_seen{somebody("ann")});
  EXPECT_EQ(refusal(send_text{"a", "ann", " \n"}), "An empty message is not sent.");
  EXPECT_EQ(refusal(send_text{"b", "ann", std::string(text_bytes_max + 1, 'x')}),
            "The text is longer than 1 MiB; send it as a file.");
  EXPECT_EQ(refusal(send_text{"c", "ann", std::string(text_bytes_max, 'x')}), "");
  EXPECT_EQ(refusal(send_text{std::string(201, 'r'), "ann", "x"}), "A reference has at most 200 bytes.");
}

TEST_F(Hub, ALongTextOwnsANumberForEachPiece) {
  handle(person_seen{somebody("ann")});
  const std::string text(20'000, 'x');
  const auto first = send("ann", text);
  EXPECT_EQ(send("ann", "next").packet, first.packet + pieces_of(text).size());
}

TEST_F(Hub, WhoeverComesBackGetsWhatWaits) {
  person ann = somebody("ann");
  handle(person_seen{ann});
  send("ann", "one");
  send("ann", "two");
  ann.here = false;
  EXPECT_TRUE(handle(person_seen{ann}).people.empty());
  ann.here = true;
  ann.address = "192.0.2.99";
  const auto again = of<message_out>(handle(person_seen{ann}).people);
  ASSERT_EQ(again.size(), 2U);
  EXPECT_EQ(again[0].text, "one");
  EXPECT_EQ(again[0].to.address, "192.0.2.99");
  EXPECT_TRUE(handle(person_seen{ann}).people.empty()) << "nothing is new";
  ann.away = true;
  EXPECT_TRUE(handle(person_seen{ann}).people.empty());
  ann.away = false;
  EXPECT_EQ(of<message_out>(handle(person_seen{ann}).people).size(), 2U);
}

TEST_F(Hub, AnOutcomeIsShownAndNeverTakenBack) {
  handle(person_seen{somebody("ann")});
  const auto id = send("ann", "x").id;
  EXPECT_EQ(of<message_changed>(handle(message_outcome{id, message_state::delivered}).web)[0].what.state,
            message_state::delivered);
  EXPECT_EQ(of<message_changed>(handle(message_outcome{id, message_state::failed, "why"}).web)[0].what.state,
            message_state::delivered);
  EXPECT_TRUE(handle(message_outcome{99, message_state::delivered}).web.empty());
}

TEST_F(Hub, AThousandWaitingMessagesPassThroughASmallWindowInOrder) {
  handle(person_seen{somebody("ann")});
  std::vector<message_out> in_hand;
  for (int i = 0; i < 1000; ++i) {
    for (auto& m : of<message_out>(handle(send_text{"", "ann", std::to_string(i)}).people)) in_hand.push_back(m);
  }
  EXPECT_EQ(in_hand.size(), window_messages_max);
  for (std::size_t i = 0; i < in_hand.size(); ++i) {
    EXPECT_EQ(in_hand[i].text, std::to_string(i));
    for (auto& m : of<message_out>(handle(message_outcome{in_hand[i].id}).people)) in_hand.push_back(m);
  }
  EXPECT_EQ(in_hand.size(), 1000U);
}

TEST_F(Hub, ReadingLowersTheUnreadCountOnce) {
  handle(from("ann", 1, "a"));
  const auto second = of<message_changed>(handle(from("ann", 2, "b")).web)[0].what;
  handle(from("ann", 3, "c"));
  EXPECT_EQ(of<person_changed>(handle(mark_read{"ann@pc", second.id}).web)[0].entry.unread, 1U);
  EXPECT_TRUE(handle(mark_read{"ann@pc", second.id}).web.empty());
}

TEST_F(Hub, IgnoresPeopleThatNoWireCouldName) {
  person nameless = somebody("x");
  nameless.key = "";
  person strange = somebody("x");
  strange.key = "a\nb";
  EXPECT_TRUE(
      handle({person_seen{nameless}, person_seen{strange}, message_in{.from = nameless, .text = "x"}}).web.empty());
  person wordy = somebody("x");
  wordy.name = std::string(199, 'x') + "好";
  EXPECT_EQ(of<person_changed>(handle(person_seen{wordy}).web)[0].entry.who.name, std::string(199, 'x'));
}

// A trigger stands for a disk that refuses.
TEST_F(Hub, AMessageThatCannotBeStoredTakesNoOtherDownAndGetsNoReceipt) {
  handle(person_seen{somebody("ann")});
  {
    auto db = detail::database::open(folder_ / "office.db").value();
    db.script("CREATE TRIGGER t BEFORE INSERT ON messages WHEN new.text = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END")
        .value();
  }
  outbox out;
  const auto done = hub_.handle_all(
      std::vector<to_store>{from("ann", 1, "good"), from("ann", 2, "bad"), send_text{"r", "ann", "bad"}}, out);
  EXPECT_FALSE(done);
  ASSERT_EQ(of<receipt_due>(out.people).size(), 1U);
  EXPECT_EQ(of<receipt_due>(out.people)[0].packet, 1U);
  EXPECT_EQ(of<message_changed>(out.web).size(), 1U);
  const auto failed = of<request_failed>(out.web);
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].ref, "r");
  EXPECT_THAT(failed[0].text, AllOf(StartsWith("Not done: "), HasSubstr("no")));
  EXPECT_EQ(store_.history("ann@pc", 0, 10).value().messages.size(), 1U);
}

// ---- The whole, with crashes -------------------------------------------------------------------------------------

// What must be true, computed in the simplest way.
struct model {
  struct line {
    person_key who;
    std::string text;
    bool outgoing;
    message_state state;
    bool read;
    auto operator<=>(const line&) const = default;
  };
  std::map<person_key, bool> here;
  std::map<std::pair<person_key, std::uint32_t>, std::size_t> received;  // → lines
  std::map<std::string, std::size_t> requested;                         // → lines
  std::vector<line> lines;

  std::uint32_t unread(const person_key& who) const {
    return static_cast<std::uint32_t>(std::count_if(
        lines.begin(), lines.end(), [&](const line& l) { return l.who == who && !l.outgoing && !l.read; }));
  }
};

// The two other services as far as the store can see them, and a queue that redelivers.
class world {
 public:
  explicit world(std::uint32_t seed) : random_(seed) {
    reopen();
    for (const char* name : {"ann", "bob", "cy"}) deliver({person_seen{somebody(name)}});
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      std::vector<to_store> batch;
      for (auto n = 1 + pick(8); n > 0; --n) add_something(batch);
      deliver(batch);
      now_ += 1000;
    }
  }

  // All that waits is delivered in the end, with no further crash.
  void settle() {
    crashes_ = false;
    while (!in_hand_.empty()) {
      std::vector<to_store> batch;
      for (const auto& [id, out] : in_hand_) batch.push_back(message_outcome{id});
      in_hand_.clear();
      deliver(batch);
    }
  }

  void check() {
    for (const auto& [who, here] : model_.here) {
      ASSERT_TRUE(page_people_.contains(who));
      EXPECT_EQ(page_people_[who].who.here, here) << who;
      EXPECT_EQ(page_people_[who].unread, model_.unread(who)) << who;
      check_history(who);
    }
    for (std::size_t i = page_since_; i < model_.lines.size(); ++i) {
      EXPECT_TRUE(page_lines_.contains(static_cast<std::int64_t>(i) + 1)) << "the page was not told";
    }
    for (const auto& [id, line] : page_lines_) {
      const message stored = store_->find_message(id).value().value();
      EXPECT_EQ(line.state, stored.state) << id;
      EXPECT_EQ(line.text, stored.text) << id;
    }
  }

 private:
  std::size_t pick(std::size_t n) { return random_() % n; }
  bool chance(double p) { return std::uniform_real_distribution<>()(random_) < p; }

  void reopen() {
    hub_.reset();
    store_.reset();
    store_.emplace(store::open(folder_.path()).value());
    hub_.emplace(*store_, [this] { return now_; });
  }

  void add_something(std::vector<to_store>& batch) {
    const std::string name = std::array{"ann", "bob", "cy"}[pick(3)];
    const std::string fresh = std::to_string(++counter_);
    switch (pick(12)) {
      case 0: {
        person who = somebody(name);
        who.here = chance(0.7);
        batch.push_back(person_seen{who});
        return;
      }
      case 1:
        if (chance(0.3)) restart_people(batch);
        return;
      case 2:
        if (chance(0.1)) restart_web(batch);
        return;
      case 3:
        if (!page_lines_.empty()) {
          auto at = std::next(page_lines_.begin(), static_cast<std::ptrdiff_t>(pick(page_lines_.size())));
          remember(batch, mark_read{at->second.who, at->first});
        }
        return;
      case 4:
      case 5: remember(batch, send_text{"r" + fresh, name, "out " + fresh}); return;
      case 6:
        for (int i = 0; i < 20; ++i) remember(batch, send_text{"r" + fresh + "." + std::to_string(i), name, fresh});
        return;
      case 7:
      case 8: remember(batch, message_in{somebody(name), 1'700'000'000 + counter_, "in " + fresh, true}); return;
      case 9:
        if (!past_.empty()) batch.push_back(past_[pick(past_.size())]);
        return;  // Comes twice.
      default:
        if (in_hand_.empty()) return;
        auto at = std::next(in_hand_.begin(), static_cast<std::ptrdiff_t>(pick(in_hand_.size())));
        remember(batch, message_outcome{at->first, chance(0.9) ? message_state::delivered : message_state::failed});
        in_hand_.erase(at);
    }
  }

  void remember(std::vector<to_store>& batch, to_store what) {
    past_.push_back(what);
    batch.push_back(std::move(what));
  }

  void restart_people(std::vector<to_store>& batch) {
    in_hand_.clear();
    batch.push_back(people_started{});
  }

  void restart_web(std::vector<to_store>& batch) {
    page_people_.clear();
    page_lines_.clear();
    batch.push_back(web_started{});
  }

  // The store service's loop, killed now and then before the commit, before the sending, or in the midst of it.
  void deliver(const std::vector<to_store>& batch) {
    while (crashes_ && chance(0.15)) {
      outbox out;
      auto transaction = store_->begin().value();
      for (const auto& what : batch) hub_->handle(what, out).value();
      if (chance(0.6)) {
        transaction.commit().value();
        out.people.resize(pick(out.people.size() + 1));
        out.web.resize(pick(out.web.size() + 1));
        send(out);
      } else {
        const auto dropped = std::move(transaction);
      }
      reopen();
      outbox first_words;
      hub_->started(first_words).value();
      send(first_words);
    }
    for (const auto& what : batch) std::visit([&](const auto& m) { apply(m); }, what);
    outbox out;
    hub_->handle_all(batch, out).value();
    send(out);
  }

  void send(const outbox& out) {
    for (const auto& any : out.people) {
      if (const auto* m = std::get_if<message_out>(&any)) in_hand_.insert_or_assign(m->id, *m);
      if (const auto* r = std::get_if<receipt_due>(&any)) expect_stored(*r);
    }
    for (const auto& any : out.web) std::visit([&](const auto& m) { show(m); }, any);
  }

  void expect_stored(const receipt_due& receipt) {
    const std::string text = "in " + std::to_string(receipt.packet - 1'700'000'000);
    const auto lines = store_->history(receipt.to.key, 0, 100'000).value().messages;
    EXPECT_EQ(std::count_if(lines.begin(), lines.end(), [&](const message& m) { return m.text == text; }), 1);
  }

  // What a page does.
  void show(const office_snapshot& all) {
    page_people_.clear();
    for (const auto& entry : all.people) page_people_[entry.who.key] = entry;
  }
  void show(const person_changed& change) { page_people_[change.entry.who.key] = change.entry; }
  void show(const message_changed& change) {
    page_lines_[change.what.id] = change.what;
    page_people_[change.what.who].unread = change.unread;
  }
  template <class Other>
  void show(const Other&) {}

  // What each input means; the second time it means nothing.
  void apply(const person_seen& seen) { model_.here[seen.who.key] = seen.who.here; }
  void apply(const people_started&) {
    for (auto& [who, here] : model_.here) here = false;
  }
  void apply(const web_started&) { page_since_ = model_.lines.size(); }
  void apply(const message_in& in) {
    if (model_.received.emplace(std::pair(in.from.key, in.packet), model_.lines.size()).second) {
      model_.lines.push_back({in.from.key, in.text, false, message_state::received, false});
    }
  }
  void apply(const send_text& request) {
    if (model_.requested.emplace(request.ref, model_.lines.size()).second) {
      model_.lines.push_back({request.to + "@pc", request.text, true, message_state::waiting, false});
    }
  }
  // Ids rise by one for each line, because what was rolled back gave its id back.
  void apply(const message_outcome& outcome) {
    auto& state = model_.lines.at(static_cast<std::size_t>(outcome.id) - 1).state;
    if (state != message_state::delivered) state = outcome.state;
  }
  void apply(const mark_read& request) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(request.up_to); ++i) {
      if (model_.lines[i].who == request.who && !model_.lines[i].outgoing) model_.lines[i].read = true;
    }
  }
  template <class Other>
  void apply(const Other&) {}

  void check_history(const person_key& who) {
    std::vector<model::line> expected;
    std::copy_if(model_.lines.begin(), model_.lines.end(), std::back_inserter(expected),
                 [&](const auto& line) { return line.who == who; });
    std::vector<model::line> stored;
    std::uint32_t last_packet = 0;
    for (const message& m : store_->history(who, 0, 100'000).value().messages) {
      stored.push_back({m.who, m.text, m.outgoing, m.state, m.read});
      if (!m.outgoing) continue;
      EXPECT_GT(m.packet, last_packet);
      last_packet = m.packet;
      EXPECT_NE(m.state, message_state::waiting) << "delivered or refused in the end";
    }
    EXPECT_TRUE(stored == expected) << who;
  }

  temporary_folder folder_;
  unix_ms now_ = 1'700'000'000'000;
  std::mt19937 random_;
  bool crashes_ = true;
  std::uint32_t counter_ = 0;
  std::optional<store> store_;
  std::optional<hub> hub_;
  std::vector<to_store> past_;                         // What may come a second time at any time.
  std::map<std::int64_t, message_out> in_hand_;        // The people service's.
  std::map<person_key, person_entry> page_people_;     // The page's.
  std::map<std::int64_t, message> page_lines_;         // The page's.
  std::size_t page_since_ = 0;                         // Lines that the page must know: those after it began.
  model model_;
};

TEST(HubInACrashingOffice, LosesNothingDoublesNothingAndTellsEverybody) {
  for (std::uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);  // The seed alone repeats the failure.
    world office(seed);
    office.run(60);
    office.settle();
    office.check();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace pigeon::office
