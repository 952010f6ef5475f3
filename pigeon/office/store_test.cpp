// Real files in a folder of the test's own. Where a test needs another user, a full disk or a sudden death, a forked
// child has it, and tells through a pipe what it saw.
#include <pigeon/office/store.hpp>

#include <gmock/gmock.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <random>
#include <set>

#include <covey/base/unique_fd.hpp>
#include <pigeon/office/office_test.hpp>
#include <pigeon/office/sqlite.hpp>

namespace pigeon::office {
namespace {

using ::testing::HasSubstr;
using testing::somebody;
using ::testing::StartsWith;
using testing::temporary_folder;

constexpr unix_ms now = 1'700'000'000'000;
constexpr unix_ms minute = 60'000;

unsigned mode_of(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 ? st.st_mode & 0777U : 0;
}

// The sentence with which opening fails; empty if it does not.
std::string refusal(const std::string& folder) {
  const auto opened = store::open(folder);
  return opened ? "" : opened.error().message();
}

// What `work` returns in a child of its own.
std::string in_child(const std::function<std::string()>& work) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string answer = work();
    const ssize_t written = ::write(ends[1], answer.data(), answer.size());
    ::_exit(written == static_cast<ssize_t>(answer.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  const covey::unique_fd from(ends[0]);
  std::string answer;
  char bytes[4096];
  for (ssize_t got; (got = ::read(from.get(), bytes, sizeof bytes)) > 0;)
    answer.append(bytes, static_cast<size_t>(got));
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) answer += " [the child died]";
  return answer;
}

TEST(Store, MakesAPrivateFolderWithPrivateFiles) {
  const temporary_folder folder;
  const std::string data = folder / "deep/data";
  auto opened = store::open(data).value();
  opened.put_person(somebody("ann")).value();
  EXPECT_EQ(mode_of(data), 0700U);
  EXPECT_EQ(mode_of(data + "/office.db"), 0600U);
  EXPECT_EQ(mode_of(data + "/office.db-wal"), 0600U);
  EXPECT_EQ(mode_of(data + "/lock"), 0600U);
}

TEST(Store, RemembersEverythingAcrossReopening) {
  const temporary_folder folder;
  person ann = somebody("ann");
  ann.encoding = text_encoding::gb18030;
  ann.group = "办公室";
  ann.away = true;
  ann.port = 65535;
  message in;
  message out;
  {
    auto s = store::open(folder.path()).value();
    s.put_person(ann).value();
    in = s.put_incoming(ann.key, 4294967295, std::string_view("hello\0you", 9), now).value().what;
    out = s.put_outgoing(ann.key, "你好\n", 1, now).value();
    s.put_request("r1", "Ann", out.id, now).value();
    s.put_request("r2", "Bob", "nobody", now).value();
    s.put_setting("name", "Front desk").value();
  }
  auto s = store::open(folder.path()).value();
  const person known = s.find_person("ann@pc").value().value();
  EXPECT_EQ(known.name, "ann");
  EXPECT_EQ(known.group, "办公室");
  EXPECT_EQ(known.encoding, text_encoding::gb18030);
  EXPECT_EQ(known.port, 65535);
  EXPECT_TRUE(known.here && known.away);
  const auto page = s.history(ann.key, 0, 10).value();
  ASSERT_EQ(page.messages.size(), 2U);
  EXPECT_FALSE(page.more);
  EXPECT_EQ(page.messages[0].text, in.text);
  EXPECT_EQ(in.text.size(), 9U);
  EXPECT_EQ(page.messages[0].packet, 4294967295U);
  EXPECT_EQ(page.messages[1].text, "你好\n");
  EXPECT_EQ(page.messages[1].state, message_state::waiting);
  EXPECT_EQ(s.find_request("r1").value()->answered->id, out.id);
  EXPECT_EQ(s.find_request("r2").value()->failure, "nobody");
  EXPECT_FALSE(s.find_request("r3").value());
  s.forget_requests(now + 1).value();
  EXPECT_FALSE(s.find_request("r1").value());
  EXPECT_EQ(s.setting("name").value(), "Front desk");
  EXPECT_FALSE(s.setting("group").value());
}

TEST(Store, PacketNumbersRiseForEverEvenWhenTheClockGoesBack) {
  const temporary_folder folder;
  std::uint32_t last = 0;
  for (const unix_ms time : {now, now + 5000, now + 1000, unix_ms{0}}) {
    auto s = store::open(folder.path()).value();
    s.put_person(somebody("ann")).value();
    const auto first = s.put_outgoing("ann@pc", "one", 3, time).value();
    const auto second = s.put_outgoing("ann@pc", "two", 1, time).value();
    EXPECT_GT(first.packet, last);
    EXPECT_GE(first.packet, time / 1000);
    EXPECT_EQ(second.packet, first.packet + 3) << "the three numbers of the first are its own";
    last = second.packet;
  }
}

TEST(Store, StoresAMessageOncePerSenderAndPacket) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("ann")).value();
  s.put_person(somebody("bob")).value();
  const auto first = s.put_incoming("ann@pc", 7, "hi", now).value();
  EXPECT_TRUE(first.fresh);
  const auto again = s.put_incoming("ann@pc", 7, "hi", now + 9 * minute).value();
  EXPECT_FALSE(again.fresh);
  EXPECT_EQ(again.what.id, first.what.id);
  EXPECT_TRUE(s.put_incoming("bob@pc", 7, "hi", now).value().fresh);
  EXPECT_TRUE(s.put_incoming("ann@pc", 8, "hi", now).value().fresh);
  EXPECT_EQ(s.unread("ann@pc").value(), 2U);
}

TEST(Store, AClientThatCountsFromOneAfterEachStartLosesNothing) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("old")).value();
  EXPECT_TRUE(s.put_incoming("old@pc", 1, "good morning", now).value().fresh);
  EXPECT_TRUE(s.put_incoming("old@pc", 1, "good morning", now + 24 * 60 * minute).value().fresh);
  EXPECT_EQ(s.history("old@pc", 0, 10).value().messages.size(), 2U);
}

TEST(Store, AClientThatResendsAfterAHolidayDoublesNothing) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("ann")).value();
  EXPECT_TRUE(s.put_incoming("ann@pc", 1'700'000'000, "bye", now).value().fresh);
  EXPECT_FALSE(s.put_incoming("ann@pc", 1'700'000'000, "bye", now + 14 * 24 * 60 * minute).value().fresh);
}

TEST(Store, AnOutcomeNeverGoesBack) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("ann")).value();
  const auto id = s.put_outgoing("ann@pc", "x", 1, now).value().id;
  EXPECT_TRUE(s.put_outcome(id, message_state::failed, "too long").value());
  EXPECT_EQ(s.find_message(id).value()->reason, "too long");
  EXPECT_TRUE(s.put_outcome(id, message_state::delivered, "").value()) << "a late receipt is the truth";
  EXPECT_EQ(s.find_message(id).value()->reason, "");
  for (const auto state : {message_state::waiting, message_state::failed, message_state::delivered}) {
    EXPECT_FALSE(s.put_outcome(id, state, "").value());
  }
  EXPECT_EQ(s.find_message(id).value()->state, message_state::delivered);
  EXPECT_FALSE(s.put_outcome(99, message_state::delivered, "").value());
}

TEST(Store, GivesHistoryInPagesOldestFirst) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("ann")).value();
  for (int i = 1; i <= 5; ++i) s.put_incoming("ann@pc", i, std::to_string(i), now).value();
  const auto newest = s.history("ann@pc", 0, 2).value();
  ASSERT_EQ(newest.messages.size(), 2U);
  EXPECT_EQ(newest.messages[0].text, "4");
  EXPECT_TRUE(newest.more);
  const auto oldest = s.history("ann@pc", newest.messages[0].id, 3).value();
  ASSERT_EQ(oldest.messages.size(), 3U);
  EXPECT_EQ(oldest.messages[0].text, "1");
  EXPECT_FALSE(oldest.more);
}

TEST(Store, APageOfLongMessagesIsShorterThanAskedFor) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  s.put_person(somebody("ann")).value();
  for (int i = 0; i < 6; ++i) s.put_outgoing("ann@pc", std::string(1 << 20, 'x'), 1, now).value();
  const auto page = s.history("ann@pc", 0, 50).value();
  EXPECT_EQ(page.messages.size(), 4U);
  EXPECT_TRUE(page.more);
}

TEST(Store, ABatchIsStoredTogetherOrNotAtAll) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  {
    const auto given_up = s.begin().value();
    s.put_person(somebody("ann")).value();
  }
  EXPECT_FALSE(s.find_person("ann@pc").value());
  auto kept = s.begin().value();
  s.put_person(somebody("ann")).value();
  s.put_person(somebody("bob")).value();
  kept.commit().value();
  EXPECT_EQ(s.people().value().size(), 2U);
}

TEST(Store, ForgetsOnlyStrangersWhenFull) {
  const temporary_folder folder;
  auto s = store::open(folder.path()).value();
  auto batch = s.begin().value();
  for (int i = 0; i < 5001; ++i) {
    person who = somebody("p" + std::to_string(i));
    who.here = false;
    who.seen = i;
    s.put_person(who).value();
    if (i == 0) s.put_incoming(who.key, 1, "remember me", now).value();
  }
  batch.commit().value();
  EXPECT_EQ(s.people().value().size(), 5000U);
  EXPECT_TRUE(s.find_person("p0@pc").value()) << "has written";
  EXPECT_FALSE(s.find_person("p1@pc").value()) << "seen longest ago";
  EXPECT_TRUE(s.find_person("p5000@pc").value());
}

TEST(Store, RefusesASecondOfficeInTheSameFolder) {
  const temporary_folder folder;
  {
    const auto first = store::open(folder.path()).value();
    const std::string sentence = refusal(folder.path());
    EXPECT_EQ(sentence, "data folder " + folder.path() + " (process " + std::to_string(::getpid()) +
                            "): another office uses it; stop that one, or choose another data folder");
    EXPECT_EQ(in_child([&] { return refusal(folder.path()); }), sentence);
  }
  EXPECT_EQ(refusal(folder.path()), "");
}

// Root may write everywhere, so a child becomes nobody.
TEST(Store, RefusesAFolderThatCannotBeWritten) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  const temporary_folder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  {
    const auto made = store::open(folder.path()).value();
  }
  const auto as_nobody = [&](const std::string& path) {
    return in_child([&] {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) return std::string("could not become nobody");
      return refusal(path);
    });
  };
  const std::string rest = " (Permission denied): it cannot be written; make it writable or choose another data folder";
  EXPECT_EQ(as_nobody(folder.path()), "data folder " + folder.path() + rest);
  EXPECT_EQ(as_nobody(folder / "new"), "data folder " + (folder / "new") + rest);
}

TEST(Store, RefusesAFolderThatIsAFile) {
  const temporary_folder folder;
  std::ofstream(folder / "file") << "x";
  EXPECT_THAT(refusal(folder / "file"), HasSubstr("data folder " + (folder / "file") + ": Not a directory"));
}

void overwrite(const std::string& path, std::streamoff at, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file << bytes;
}

TEST(Store, RefusesADamagedDatabaseAndLeavesItAlone) {
  const temporary_folder folder;
  {
    auto s = store::open(folder.path()).value();
    auto batch = s.begin().value();
    s.put_person(somebody("ann")).value();
    for (int i = 1; i < 500; ++i) s.put_incoming("ann@pc", i, "a text of some length to fill pages", now).value();
    batch.commit().value();
  }
  const std::string path = folder / "office.db";
  const auto size = std::filesystem::file_size(path);
  overwrite(path, static_cast<std::streamoff>(size / 2), std::string(8192, '\x5a'));
  const std::string sentence = refusal(folder.path());
  EXPECT_THAT(sentence, StartsWith(path + " is damaged ("));
  EXPECT_THAT(sentence, HasSubstr("): move it away and start again, or restore a copy"));
  EXPECT_EQ(sentence.find('\n'), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(path), size);

  overwrite(path, 0, std::string(100, 'x'));
  EXPECT_EQ(refusal(folder.path()),
            path + " is damaged (file is not a database): move it away and start again, or restore a copy");
}

TEST(Store, RefusesADatabaseOfANewerPigeon) {
  const temporary_folder folder;
  {
    const auto made = store::open(folder.path()).value();
  }
  {
    auto db = detail::database::open(folder / "office.db").value();
    db.script("PRAGMA user_version = 99").value();
  }
  EXPECT_EQ(refusal(folder.path()), (folder / "office.db") +
                                        " has schema version 99 and this pigeon knows 2: a newer pigeon wrote it; "
                                        "use that one, or another data folder");
}

TEST(Store, MigratesStepByStepAndStopsBeforeAStepThatFails) {
  const temporary_folder folder;
  std::ofstream(folder / "x.db").flush();
  auto db = detail::database::open(folder / "x.db").value();
  const std::vector<const char*> one = {"CREATE TABLE a(x INTEGER) STRICT; INSERT INTO a VALUES(1)"};
  detail::migrate(db, one).value();
  detail::migrate(db, one).value();
  const std::vector<const char*> broken = {one[0], "UPDATE a SET x = 2",
                                           "UPDATE a SET x = 3; UPDATE nothing SET y = 1"};
  EXPECT_FALSE(detail::migrate(db, broken));
  EXPECT_EQ(db.integer("PRAGMA user_version").value(), 2);
  EXPECT_EQ(db.integer("SELECT x FROM a").value(), 2);
}

// Fills a store until it refuses; tells the refusal, and whether all that was accepted is there after reopening.
std::string fill_until_refused(const std::string& folder) {
  std::set<std::int64_t> accepted;
  std::string answer;
  {
    auto s = store::open(folder).value();
    s.put_person(somebody("ann")).value();
    for (int i = 0; i < 10'000 && answer.empty(); ++i) {
      const auto made = s.put_outgoing("ann@pc", std::string(1000, 'x'), 1, now);
      if (made) {
        accepted.insert(made->id);
      } else {
        answer = made.error().message();
      }
    }
    if (!s.history("ann@pc", 0, 10)) answer += " [and it cannot be read]";
  }
  auto s = store::open(folder);
  if (!s) return answer + " [and then: " + s.error().message() + "]";
  for (const auto id : accepted) {
    if (!s->find_message(id).value()) answer += " [lost " + std::to_string(id) + "]";
  }
  return accepted.size() < 100 ? answer + " [too early]" : answer;
}

TEST(Store, AFullDiskRefusesTheNewAndKeepsTheOld) {
  const temporary_folder folder;
  const std::string answer = in_child([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder.path().c_str(), "tmpfs", 0, "size=4m") != 0) {
      return "skip";
    }
    return fill_until_refused(folder / "data");
  });
  if (answer == "skip") GTEST_SKIP() << "a small tmpfs needs a mount namespace";
  EXPECT_THAT(answer, StartsWith("write " + (folder / "data/office.db") + ": the disk is full; "));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr("["))) << answer;
}

// A child commits messages, some in batches, and reports through a pipe the ids that are committed.
[[noreturn]] void commit_and_report(const std::string& folder, int to) {
  auto s = store::open(folder).value();
  s.put_person(somebody("ann")).value();
  for (std::uint32_t i = 0;; ++i) {
    std::vector<std::int64_t> ids;
    auto batch = s.begin().value();
    for (std::uint32_t j = 0; j <= i % 3; ++j) ids.push_back(s.put_outgoing("ann@pc", "x", 1, now).value().id);
    batch.commit().value();
    if (::write(to, ids.data(), ids.size() * sizeof ids[0]) < 0) ::_exit(1);
  }
}

std::vector<std::int64_t> killed_after(const std::string& folder, std::chrono::microseconds patience) {
  int ends[2];
  if (::pipe(ends) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) commit_and_report(folder, ends[1]);
  ::close(ends[1]);
  const covey::unique_fd from(ends[0]);
  // The random time counts from the first report: opening takes longer than committing.
  pollfd first{.fd = from.get(), .events = POLLIN, .revents = 0};
  ::poll(&first, 1, 10'000);
  ::usleep(static_cast<useconds_t>(patience.count()));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  std::vector<std::int64_t> ids(1 << 16);
  const ssize_t got = ::read(from.get(), ids.data(), ids.size() * sizeof ids[0]);
  ids.resize(got > 0 ? static_cast<std::size_t>(got) / sizeof ids[0] : 0);
  return ids;
}

TEST(Store, KilledAtAnyMomentItHasAllThatItReported) {
  const temporary_folder folder;
  std::mt19937 random(1);
  std::set<std::int64_t> reported;
  std::uint32_t last_packet = 0;
  for (int round = 0; round < 60; ++round) {
    const auto ids = killed_after(folder.path(), std::chrono::microseconds(random() % 20'000));
    ASSERT_FALSE(ids.empty()) << round;
    reported.insert(ids.begin(), ids.end());
    auto s = store::open(folder.path()).value();  // Checks the file, too.
    for (const auto id : ids) {
      const auto found = s.find_message(id).value();
      ASSERT_TRUE(found) << "message " << id << " is lost in round " << round;
      EXPECT_GT(found->packet, last_packet);
      last_packet = found->packet;
    }
  }
  auto s = store::open(folder.path()).value();
  EXPECT_GE(s.waiting_count("ann@pc").value(), static_cast<std::int64_t>(reported.size()));
}

}  // namespace
}  // namespace pigeon::office
