// What processes say of themselves and of objects, as inspect() of others shows it.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>
#include <covey/testing/scribbler.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using covey::testing::eventually;

std::vector<covey::entry_info> entries_of(std::int64_t pid) {
  std::vector<covey::entry_info> all = covey::inspect().entries;
  std::erase_if(all, [pid](const auto& e) { return e.pid != pid; });
  return all;
}

std::vector<std::string> names_of(const std::string& kind) {
  for (const covey::region_info& r : covey::inspect().regions)
    if (r.kind == kind) return r.names;
  return {"no such region"};
}

TEST(InspectEntry, ShowsWhatAProcessSaysOfItself) {
  covey::event set, more, set_again;
  covey::process worker{[](covey::event s, covey::event m, covey::event a) {
                          covey::inspect_entry left("tickets left", 100);
                          covey::inspect_entry stage("stage", "opening");
                          s.set();
                          m.wait();
                          left.set(99);
                          stage.set("selling");
                          {
                            const covey::inspect_entry moved = std::move(stage);
                            a.set();
                            covey::event().wait();
                          }
                        },
                        set, more, set_again};
  set.wait();
  const std::int64_t pid = worker.pid();
  auto seen = entries_of(pid);
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].name, "tickets left");
  EXPECT_EQ(seen[0].number, 100);
  EXPECT_EQ(seen[1].name, "stage");
  EXPECT_EQ(seen[1].number, std::nullopt);
  EXPECT_EQ(seen[1].text, "opening");
  more.set();
  set_again.wait();
  ::kill(worker.pid(), SIGSTOP);
  seen = entries_of(pid);
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].number, 99);
  EXPECT_EQ(seen[1].text, "selling");
  const covey::snapshot s = covey::inspect();
  EXPECT_NE(covey::to_text(s).find("tickets left"), std::string::npos);
  EXPECT_NE(covey::to_json(s).find("\"name\":\"stage\",\"number\":null,\"text\":\"selling\""), std::string::npos);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return covey::inspect().entries.empty(); }));
}

TEST(InspectEntry, ForgetsAnEntryWithItsObject) {
  {
    covey::inspect_entry a("a", 1);
    const covey::inspect_entry b("b", 2);
    EXPECT_EQ(entries_of(::getpid()).size(), 2U);
    a = covey::inspect_entry("c", 3);
    const auto seen = entries_of(::getpid());
    ASSERT_EQ(seen.size(), 2U);
    EXPECT_TRUE(seen[0].name == "c" || seen[1].name == "c");
  }
  EXPECT_TRUE(entries_of(::getpid()).empty());
}

TEST(InspectEntry, CutsWhatIsTooLongAndRefusesA129thEntry) {
  covey::inspect_entry longest(std::string(100, 'n'), std::string(1000, 't'));
  auto seen = entries_of(::getpid());
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].name, std::string(47, 'n'));
  EXPECT_EQ(seen[0].text, std::string(167, 't'));
  longest.set("a \"quoted\"\ntext");
  EXPECT_EQ(entries_of(::getpid()).at(0).text, "a ?quoted??text");
  longest.set("");
  EXPECT_EQ(entries_of(::getpid()).at(0).text, "");
  longest.set(-1);
  EXPECT_EQ(entries_of(::getpid()).at(0).number, -1);
  const covey::event e;
  {
    std::vector<covey::inspect_entry> all;
    for (int i = 0; i < 127; ++i) all.emplace_back("entry", i);
    EXPECT_EQ(entries_of(::getpid()).size(), 128U);
    EXPECT_THROW(covey::inspect_entry("one too many", 1), std::length_error);
    EXPECT_THROW(covey::name_object(e, "too"), std::length_error);
    all.pop_back();
    covey::name_object(e, "fits");
    EXPECT_THROW(covey::inspect_entry("one too many", 1), std::length_error);
  }
  EXPECT_EQ(entries_of(::getpid()).size(), 1U);
  EXPECT_EQ(names_of("event"), std::vector<std::string>{"fits"});
}

TEST(InspectEntry, NamesObjectsForAllAsLongAsWhoNamedThemLives) {
  const covey::queue<int> tickets(10);
  const covey::event named;
  covey::name_object(tickets, "tickets");
  EXPECT_EQ(names_of("queue"), std::vector<std::string>{"tickets"});
  covey::name_object(tickets, "all tickets");
  EXPECT_EQ(names_of("queue"), std::vector<std::string>{"all tickets"});
  EXPECT_NE(covey::to_text(covey::inspect()).find("all tickets"), std::string::npos);
  EXPECT_NE(covey::to_json(covey::inspect()).find("\"names\":[\"all tickets\"]"), std::string::npos);
  covey::process worker{[](covey::queue<int> q, covey::event e) {
                          covey::name_object(q, "theirs");
                          e.set();
                          covey::event().wait();
                        },
                        tickets, named};
  named.wait();
  EXPECT_EQ(names_of("queue").size(), 2U);
  worker.kill();
  worker.join();
  EXPECT_TRUE(eventually([] { return names_of("queue") == std::vector<std::string>{"all tickets"}; }));
  covey::name_object(tickets, "");
  EXPECT_TRUE(names_of("queue").empty());
}

// Their places are used again.
TEST(InspectEntry, ForgetsNamesOfWhatIsGone) {
  for (int i = 0; i < 300; ++i) covey::name_object(covey::event(), "gone");
  const auto shared = covey::make_shared<int>(1);
  covey::name_object(shared, "an int");
  EXPECT_EQ(names_of("object"), std::vector<std::string>{"an int"});
}

TEST(InspectEntry, NamesBothQueuesOfAPipeAndTheSubscriptionOfASubscriber) {
  const auto [left, right] = covey::make_pipe<int>();
  covey::name_object(left, "pipe");
  const covey::broadcast<int> news;
  const auto mine = news.subscribe();
  covey::name_object(mine, "mine");
  covey::snapshot s = covey::inspect();
  EXPECT_EQ(std::ranges::count_if(s.regions, [](const auto& r) { return r.names == std::vector<std::string>{"pipe"}; }),
            2);
  EXPECT_TRUE(names_of("broadcast").empty());
  EXPECT_EQ(names_of("subscription"), std::vector<std::string>{"mine"});
}

TEST(InspectEntry, LeavesAParentsEntriesToTheParent) {
  covey::inspect_entry mine("mine", 1);
  {
    covey::process child = covey::process::forked([&mine, parent = ::getpid()] {
      mine.set(2);
      mine.set("two");
      {
        const covey::inspect_entry gone = std::move(mine);
      }
      const covey::inspect_entry own("child's", 3);
      const auto seen = entries_of(::getpid());
      return seen.size() == 1 && seen[0].name == "child's" && entries_of(parent).at(0).number == 1 ? 0 : 1;
    });
    EXPECT_EQ(child.join().code(), 0);
  }
  const auto seen = entries_of(::getpid());
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].number, 1);
  // Past covey: what it shares with us it must not change either, however it ends.
  const pid_t other = ::fork();
  if (other == 0) {
    mine.set(4);
    {
      const covey::inspect_entry gone = std::move(mine);
    }
    ::_exit(0);
  }
  ::waitpid(other, nullptr, 0);
  ASSERT_EQ(entries_of(::getpid()).size(), 1U);
  EXPECT_EQ(entries_of(::getpid())[0].number, 1);
}

// A text is seen whole or not at all, wherever its writer is stopped.
TEST(InspectEntry, SeesNoTornTextOfOneWhoIsStopped) {
  covey::event running, enough, done;
  const std::string texts[] = {std::string(167, 'a'), std::string(160, 'b')};
  covey::process worker{[](covey::event r, covey::event e, covey::event d) {
                          const std::string mine[] = {std::string(167, 'a'), std::string(160, 'b')};
                          covey::inspect_entry changing("changing", mine[0]);
                          r.set();
                          for (unsigned i = 0; !e.is_set(); ++i) changing.set(mine[i % 2]);
                          changing.set("changed");
                          d.set();
                          covey::event().wait();
                        },
                        running, enough, done};
  running.wait();
  for (int i = 0; i < 300; ++i) {
    if (i % 3 == 0) ::kill(worker.pid(), SIGSTOP);
    const auto seen = entries_of(worker.pid());
    ASSERT_EQ(seen.size(), 1U);
    const std::string& text = seen[0].text;
    EXPECT_TRUE(text.empty() || text == texts[0] || text == texts[1]) << text;
    ::kill(worker.pid(), SIGCONT);
  }
  enough.set();
  done.wait();
  EXPECT_EQ(entries_of(worker.pid()).at(0).text, "changed");
  worker.kill();
}

// What it may write of its cells it has written over, and goes on doing so.
TEST(InspectEntry, LooksAtTheNotesOfOneWhoWritesOverThem) {
  covey::event running;
  covey::process worker{[](covey::event e) {
                          using namespace covey::detail;
                          const covey::inspect_entry one("one", 1);
                          const auto begin = reinterpret_cast<std::uint64_t>(family.cells) +
                                             std::size_t{family.slot} * cells_bytes + note_cells_at;
                          std::mt19937_64 random(1);
                          e.set();
                          for (;;) {
                            for (const auto how : covey::testing::fillings)
                              covey::testing::fill(begin, begin + sizeof(note_cells), how, random);
                            // With stamps that are valid: the rest is nonsense.
                            for (std::uint64_t i = 0; i < notes_max; ++i)
                              reinterpret_cast<note_cells*>(begin)->notes[i].stamp = family.generation << 20 | 1;
                          }
                        },
                        running};
  running.wait();
  const covey::inspect_entry mine("mine", 7);
  for (int i = 0; i < 300; ++i) {
    const covey::snapshot s = covey::inspect();
    EXPECT_LE(s.entries.size(), 129U);
    for (const auto& e : s.entries) {
      EXPECT_LE(e.name.size(), 47U);
      EXPECT_LE(e.text.size(), 167U);
      EXPECT_TRUE(std::ranges::all_of(e.name + e.text, [](char c) { return c >= ' ' && c <= '~' && c != '"'; }));
    }
    EXPECT_EQ(std::ranges::count(covey::to_json(s), '\n'), 0);
    EXPECT_EQ(entries_of(::getpid()).at(0).number, 7);
  }
  worker.kill();
}

}  // namespace
