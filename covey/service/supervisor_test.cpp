// Real processes and real kills. Children report through a queue; nothing sleeps to let something happen.
#include <covey/service/supervisor.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory/containers.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::child_phase;
using covey::exit_status;
using covey::supervisor;
using covey::supervisor_event;
using covey::testing::eventually;
using std::chrono::steady_clock;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using kind = supervisor_event::kind;

// What several processes say, in the order in which they said it: a queue keeps the order of each alone.
struct words {
  covey::mutex mutex{};
  covey::shared_ptr<covey::vector<covey::string>> said = covey::make_shared<covey::vector<covey::string>>();
  covey::queue<int> count{};

  void put(const std::string& word) const {
    covey::mutex m = mutex;
    {
      const std::scoped_lock lock(m);
      said->emplace_back(word.c_str());
    }
    count.put(0);
  }
};

// ThreadSanitizer has a thread of its own, so that process::forked refuses.
#if defined(__SANITIZE_THREAD__)
constexpr bool can_fork = false;
#elif defined(__has_feature)
constexpr bool can_fork = !__has_feature(thread_sanitizer);
#else
constexpr bool can_fork = true;
#endif

// ---- children ------------------------------------------------------------------------------------------------------

void wait_for_stop(std::stop_token stop) {
  const covey::event never;
  while (!never.wait_for(1min, stop))
    if (stop.stop_requested()) return;
}

// Says when it runs and when it stops.
void resident(std::stop_token stop, words out, std::string name) {
  out.put("+" + name);
  wait_for_stop(stop);
  out.put("-" + name);
}

// Says its pid, and stays.
void reports_pid(std::stop_token stop, covey::queue<pid_t> out) {
  out.put(::getpid());
  wait_for_stop(stop);
}

void deaf(words out) {
  ::signal(SIGTERM, SIG_IGN);
  out.put("deaf");
  for (;;) ::pause();
}

// Ends in the next of the ways that `how` holds; stays when there is none.
void ends_as_told(std::stop_token stop, covey::queue<std::string> how) {
  const auto way = how.get(stop);
  if (!way) return;
  how.task_done();
  if (*way == "crash") ::raise(SIGSEGV);
  if (*way == "throw") throw std::runtime_error("no more paper");
  if (*way == "three") ::_exit(3);
}

// ---- the one who looks ---------------------------------------------------------------------------------------------

// Runs a supervisor in a thread of its own, and stops it.
class at_work {
 public:
  explicit at_work(supervisor& s) : supervisor_(s), thread_([this] { code_ = supervisor_.run(); }) {}
  ~at_work() { (void)end(); }
  int end() {
    if (thread_.joinable()) supervisor_.stop();  // otherwise the next run() would find it
    return wait();
  }
  int wait() {
    if (thread_.joinable()) thread_.join();
    return code_;
  }

 private:
  supervisor& supervisor_;
  int code_ = -1;
  std::thread thread_;
};

template <class T>
T next(const covey::queue<T>& q) {
  auto got = q.get_for(10s);
  if (!got) throw std::runtime_error("nothing came through the queue within ten seconds");
  q.task_done();
  return *got;
}

std::string next(words& w) {
  (void)next(w.count);
  const std::scoped_lock lock(w.mutex);
  const std::string word(w.said->front().c_str());
  w.said->erase(w.said->begin());
  return word;
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

bool gone(pid_t pid) { return ::kill(pid, 0) != 0; }

// The events as short words: `+web` started, `-web` ended, `~web` restarting, `?web` stopping, `!web` gave up.
struct diary {
  void operator()(const supervisor_event& e) {
    const std::scoped_lock lock(mutex);
    lines.push_back(std::string(1, "+-~?!"[static_cast<int>(e.what)]) + e.child);
    events.push_back(e);
  }
  std::mutex mutex;
  std::vector<std::string> lines;
  std::vector<supervisor_event> events;
};

covey::supervisor_options written_to(diary& d, unsigned max_restarts = 5) {
  return {.max_restarts = max_restarts, .on_event = [&d](const supervisor_event& e) { d(e); }};
}

// ---- restarts ------------------------------------------------------------------------------------------------------

TEST(Supervisor, RestartsAChildThatWasKilled) {
  supervisor office;
  covey::queue<pid_t> pids;
  office.add({.name = "web", .run = {reports_pid, pids}});
  at_work work(office);
  const pid_t first = next(pids);
  ::kill(first, SIGKILL);
  const pid_t second = next(pids);
  EXPECT_NE(first, second);
  EXPECT_TRUE(gone(first));
  EXPECT_TRUE(eventually([&] { return office.view().child("web").pid == second; }));
  EXPECT_EQ(office.view().child("web").restarts, 1U);
  EXPECT_THAT(office.view().child("web").last_end, HasSubstr("signal 9"));
  EXPECT_EQ(work.end(), 0);
  EXPECT_TRUE(gone(second));
  EXPECT_EQ(office.reason(), "asked to stop");
}

// How often a child of each kind is started when it ends in all four ways, one after the other.
std::vector<std::string> life_of(covey::restart_kind restart, std::vector<std::string> ways) {
  diary d;
  supervisor office{written_to(d)};
  covey::queue<std::string> how;
  for (const auto& way : ways) how.put(way);
  office.add({.name = "it", .run = {ends_as_told, how}, .restart = restart});
  at_work work(office);
  EXPECT_TRUE(eventually([&] {
    const auto it = office.view().child("it");
    return it.phase == child_phase::ended ||
           (how.empty() && it.phase == child_phase::running && it.restarts == ways.size());
  }));
  EXPECT_EQ(work.end(), 0);
  std::vector<std::string> ends;
  for (const auto& e : d.events)
    if (e.what == kind::ended) ends.push_back(e.text);
  return ends;
}

TEST(Supervisor, RestartsAPermanentChildHoweverItEnded) {
  EXPECT_THAT(life_of(covey::permanent, {"crash", "throw", "three", "return"}),
              ElementsAre(HasSubstr("signal 11"), "exited with 1: no more paper", "exited with 3", "exited with 0", _))
      << "the last was stopped, perhaps before its function began";
}

TEST(Supervisor, RestartsATransientChildUntilItExitsWithZero) {
  EXPECT_THAT(life_of(covey::transient, {"crash", "three", "return", "crash"}),
              ElementsAre(HasSubstr("signal 11"), "exited with 3", "exited with 0"));
}

TEST(Supervisor, NeverRestartsATemporaryChild) {
  EXPECT_THAT(life_of(covey::temporary, {"crash", "throw"}), ElementsAre(HasSubstr("signal 11")));
}

TEST(Supervisor, ReturnsWhenNoChildIsLeft) {
  supervisor office;
  EXPECT_EQ(office.run(), 0);
  office.add({.name = "a", .run = [] { return 0; }, .restart = covey::transient});
  office.add({.name = "b", .run = [] { return 3; }, .restart = covey::temporary});
  EXPECT_EQ(office.run(), 0);
  EXPECT_EQ(office.reason(), "no child is left to run");
  EXPECT_EQ(office.view().child("b").last_end, "exited with 3");
}

TEST(Supervisor, BacksOffWhenAChildEndsAgainAndAgain) {
  diary d;
  supervisor office{written_to(d)};
  office.add({.name = "loop", .run = [] { return 1; }, .max_restarts = 4});
  EXPECT_EQ(office.run(), 1);
  std::vector<std::chrono::milliseconds> delays;
  for (const auto& e : d.events)
    if (e.what == kind::restarting) delays.push_back(e.delay);
  EXPECT_THAT(delays, ElementsAre(0ms, 10ms, 20ms, 40ms));
}

TEST(Supervisor, GoesOnWhenTheKeeperIsKilledTogetherWithAChild) {
  supervisor office;
  covey::queue<pid_t> pids;
  office.add({.name = "web", .run = {reports_pid, pids}, .max_restarts = 100, .within = 1ms});
  at_work work(office);
  const auto& book = *covey::detail::family.book;
  for (int i = 0; i < 20; ++i) {
    const pid_t keeper = book.keeper_pid;
    const pid_t child = next(pids);
    ::kill(i % 2 == 0 ? keeper : child, SIGKILL);
    ::kill(i % 2 == 0 ? child : keeper, SIGKILL);
    EXPECT_TRUE(eventually([&] { return book.keeper_pid != keeper; }));
  }
  EXPECT_FALSE(gone(next(pids)));
  EXPECT_EQ(work.end(), 0);
}

// ---- giving up -----------------------------------------------------------------------------------------------------

TEST(Supervisor, GivesUpBeyondItsIntensityStopsAllAndSaysWhy) {
  diary d;
  supervisor office{written_to(d, 2)};
  words said;
  office.add({.name = "calm", .run = {resident, said, "calm"}});
  office.add({.name = "loop", .run = [] { return 7; }});
  EXPECT_EQ(office.run(), 1);
  EXPECT_EQ(office.reason(),
            "gave up: the children needed more than 2 restarts within 10 s; the last was loop, which exited with 7");
  EXPECT_EQ(d.events[d.events.size() - 3].text, office.reason());
  EXPECT_THAT(d.lines, ElementsAre("+calm", "+loop", "-loop", "~loop", "+loop", "-loop", "~loop", "+loop", "-loop",
                                   "!loop", "?calm", "-calm"));
  EXPECT_TRUE(gone(office.view().child("calm").pid));
}

TEST(Supervisor, CountsAChildWithItsOwnIntensityAlone) {
  supervisor office{{.max_restarts = 0}};
  covey::queue<pid_t> pids;
  office.add({.name = "often", .run = {reports_pid, pids}, .max_restarts = 3, .within = 20s});
  at_work work(office);
  for (int i = 0; i < 4; ++i) ::kill(next(pids), SIGKILL);
  EXPECT_EQ(work.wait(), 1);
  EXPECT_THAT(office.reason(),
              HasSubstr("often needed more than 3 restarts within 20 s; the last time it was killed by"));
}

TEST(Supervisor, ForgetsRestartsThatAreLongerAgoThanItsWindow) {
  supervisor office{{.max_restarts = 1, .within = 1ms}};
  covey::queue<pid_t> pids;
  office.add({.name = "web", .run = {reports_pid, pids}});
  at_work work(office);
  for (int i = 0; i < 6; ++i) {
    const pid_t web = next(pids);
    std::this_thread::sleep_for(5ms);  // after the restart that made it, however late that was: outside the window
    ::kill(web, SIGKILL);
  }
  (void)next(pids);
  EXPECT_EQ(work.end(), 0);
}

// ---- order and stopping --------------------------------------------------------------------------------------------

TEST(Supervisor, StartsInOrderAndStopsInReverse) {
  diary d;
  supervisor office{written_to(d)};
  words said;
  for (const char* name : {"a", "b", "c"}) office.add({.name = name, .run = {resident, said, name}});
  at_work work(office);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(next(said).front(), '+');
  EXPECT_EQ(work.end(), 0);
  EXPECT_EQ(next(said), "-c");
  EXPECT_EQ(next(said), "-b");
  EXPECT_EQ(next(said), "-a");
  EXPECT_THAT(d.lines, ElementsAre("+a", "+b", "+c", "?c", "-c", "?b", "-b", "?a", "-a"));
}

TEST(Supervisor, KillsAChildThatIgnoresSigtermAfterItsGrace) {
  supervisor office;
  words said;
  office.add({.name = "deaf", .run = {deaf, said}, .stop_grace = 50ms});
  at_work work(office);
  EXPECT_EQ(next(said), "deaf");
  const auto begin = steady_clock::now();
  EXPECT_EQ(work.end(), 0);
  EXPECT_GE(steady_clock::now() - begin, 50ms);
  EXPECT_THAT(office.view().child("deaf").last_end, HasSubstr("signal 9"));
}

TEST(Supervisor, StopsAChildThatWaitsForItsRestart) {
  supervisor office{{.max_restarts = 100}};
  office.add({.name = "loop", .run = [] { return 1; }});
  at_work work(office);
  ASSERT_TRUE(eventually([&] { return office.view().child("loop").restarts >= 4; }));
  EXPECT_EQ(work.end(), 0);
  EXPECT_EQ(office.view().child("loop").phase, child_phase::ended);
}

TEST(Supervisor, StopsByATokenAndByAStopThatCameFirst) {
  supervisor office;
  words said;
  office.add({.name = "a", .run = {resident, said, "a"}});
  office.stop();
  EXPECT_EQ(office.run(), 0) << "started and stopped nothing";
  std::stop_source source;
  std::jthread other([&] {
    EXPECT_EQ(next(said), "+a");
    source.request_stop();
  });
  EXPECT_EQ(office.run(source.get_token()), 0);
  EXPECT_EQ(next(said), "-a");
}

TEST(Supervisor, MayBeRunAgainAndTakesChildrenWhileItRuns) {
  supervisor office;
  words said;
  office.add({.name = "a", .run = {resident, said, "a"}});
  for (const bool again : {false, true}) {
    at_work work(office);
    std::set<std::string> both{next(said)};
    if (!again) office.add({.name = "b", .run = {resident, said, "b"}});
    both.insert(next(said));
    EXPECT_THAT(both, ElementsAre("+a", "+b"));
    EXPECT_EQ(work.end(), 0);
    EXPECT_EQ(next(said), "-b");
    EXPECT_EQ(next(said), "-a");
  }
}

TEST(Supervisor, RefusesWhatItCannotKeepAlive) {
  supervisor office;
  const auto nothing = [] { return 0; };
  EXPECT_THROW(office.add({.run = nothing}), std::invalid_argument);
  EXPECT_THROW(office.add({.name = "a"}), std::invalid_argument);
  office.add({.name = "a", .run = nothing});
  EXPECT_THROW(office.add({.name = "a", .run = nothing}), std::invalid_argument);
  for (std::size_t i = 1; i < covey::supervised_children_max; ++i)
    office.add({.name = std::to_string(i), .run = nothing});
  EXPECT_THROW(office.add({.name = "too many", .run = nothing}), std::length_error);
}

TEST(Supervisor, StopsItsChildrenWhenItsCallbackThrows) {
  pid_t pid = 0;
  supervisor office{{.on_event = [&](const supervisor_event& e) {
    pid = e.pid;
    throw std::runtime_error("disk full");
  }}};
  office.add({.name = "a", .run = wait_for_stop});
  EXPECT_THROW((void)office.run(), std::runtime_error);
  EXPECT_GT(pid, 0);
  EXPECT_TRUE(gone(pid));
}

TEST(SupervisorDeathTest, RefusesToRunTwiceAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a plain fork would be no member of the family
  supervisor office{{.on_event = [&](const supervisor_event&) { (void)office.run(); }}};
  office.add({.name = "a", .run = wait_for_stop});
  EXPECT_DEATH((void)office.run(), "one run");
}

TEST(Supervisor, TakesForEverAsAGraceAndAWindow) {
  supervisor office{{.within = std::chrono::milliseconds::max()}};
  words said;
  office.add({.name = "a", .run = {resident, said, "a"}, .stop_grace = std::chrono::milliseconds::max()});
  at_work work(office);
  EXPECT_EQ(next(said), "+a");
  EXPECT_EQ(work.end(), 0);
  EXPECT_EQ(office.view().child("a").last_end, "exited with 0");
}

// ---- signals -------------------------------------------------------------------------------------------------------

// A program of its own with a supervisor, which gets `signal` when its children run; with a second thread that has
// nothing blocked.
void stops_by(int signal) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  words said;
  covey::process program = covey::process::forked([said] {
    ::signal(SIGINT, SIG_DFL);  // as in a program started from a terminal
    std::atomic<bool> done = false;
    std::thread other([&] { done.wait(false); });
    supervisor office;
    office.add({.name = "a", .run = {resident, said, "a"}});
    office.add({.name = "b", .run = {resident, said, "b"}});
    const int code = office.run();
    said.put(office.reason());
    done = true;
    done.notify_all();
    other.join();
    return code + 40;
  });
  EXPECT_EQ(next(said).front(), '+');
  EXPECT_EQ(next(said).front(), '+');
  ::kill(program.pid(), signal);
  EXPECT_EQ(next(said), "-b");
  EXPECT_EQ(next(said), "-a");
  EXPECT_EQ(next(said), signal == SIGINT ? "stopped by SIGINT" : "stopped by SIGTERM");
  EXPECT_EQ(program.join().code(), 40);
}

TEST(Supervisor, StopsInOrderBySigterm) { stops_by(SIGTERM); }
TEST(Supervisor, StopsInOrderBySigint) { stops_by(SIGINT); }

TEST(Supervisor, GivesTheSignalsBackWhenItReturns) {
  supervisor office;
  EXPECT_EQ(office.run(), 0);
  EXPECT_EQ(::signal(SIGTERM, SIG_DFL), SIG_DFL);
  EXPECT_EQ(::signal(SIGINT, SIG_DFL), SIG_DFL);
}

TEST(Supervisor, LeavesAnIgnoredSigintIgnored) {
  supervisor office;
  words said;
  office.add({.name = "a", .run = {resident, said, "a"}});
  ::signal(SIGINT, SIG_IGN);
  at_work work(office);
  EXPECT_EQ(next(said), "+a");
  ::raise(SIGINT);
  EXPECT_EQ(work.end(), 0);
  EXPECT_EQ(office.reason(), "asked to stop");
}

TEST(Supervisor, TwoInOneProcessBothHearTheSignal) {
  supervisor east, west;
  words said;
  east.add({.name = "e", .run = {resident, said, "e"}});
  west.add({.name = "w", .run = {resident, said, "w"}});
  at_work one(east), two(west);
  (void)next(said), (void)next(said);
  ::raise(SIGTERM);
  EXPECT_EQ(one.wait(), 0);
  EXPECT_EQ(two.wait(), 0);
  EXPECT_EQ(east.reason(), "stopped by SIGTERM");
  EXPECT_EQ(west.reason(), "stopped by SIGTERM");
}

// A child that is a supervisor itself: SIGTERM goes down the tree, in order.
int floor_main(words said) {
  supervisor office;
  office.add({.name = "desk", .run = {resident, said, "desk"}});
  const int code = office.run();
  said.put("-floor");
  return code;
}

TEST(Supervisor, SupervisesSupervisors) {
  supervisor house;
  words said;
  house.add({.name = "floor", .run = {floor_main, said}});
  at_work work(house);
  EXPECT_EQ(next(said), "+desk");
  EXPECT_EQ(work.end(), 0);
  EXPECT_EQ(next(said), "-desk");
  EXPECT_EQ(next(said), "-floor");
  EXPECT_EQ(house.view().child("floor").last_end, "exited with 0");
}

TEST(Supervisor, LosesItsChildrenWhenItIsKilled) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  covey::queue<pid_t> pids;
  covey::process program = covey::process::forked([pids] {
    supervisor office;
    office.add({.name = "a", .run = {reports_pid, pids}});
    return office.run();
  });
  const pid_t child = next(pids);
  program.kill();
  EXPECT_EQ(program.join().signal(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return gone(child); }));
}

// ---- what it holds -------------------------------------------------------------------------------------------------

TEST(Supervisor, KeepsTheObjectsInArgumentsAliveForLaterRestarts) {
  supervisor office{{.max_restarts = 100}};
  covey::queue<pid_t> pids;
  {
    // The only handles outside are given away: between two starts nobody but the supervisor holds these.
    covey::event dropped;
    words text;
    text.put("still here");
    office.add({.name = "web",
                .run = {[](covey::queue<pid_t> out, covey::event flag, words in) {
                          if (flag.is_set()) return 9;
                          if (in.count.size() != 1) return 8;
                          out.put(::getpid());
                          for (;;) ::pause();
                        },
                        pids, dropped, text},
                .within = 1ms});
  }
  at_work work(office);
  for (int i = 0; i < 20; ++i) ::kill(next(pids), SIGKILL);
  (void)next(pids);
  EXPECT_TRUE(eventually([&] { return office.view().child("web").restarts == 20; }));
  EXPECT_THAT(office.view().child("web").last_end, HasSubstr("signal 9"));
  EXPECT_EQ(work.end(), 0);
}

TEST(Supervisor, LeavesNoZombiesAndNoDescriptorsBehind) {
  supervisor office{{.max_restarts = 1000}};
  covey::queue<pid_t> pids;
  office.add({.name = "web", .run = {reports_pid, pids}, .within = 1ms});
  at_work work(office);
  ::kill(next(pids), SIGKILL);
  pid_t last = next(pids);
  const auto settled = [&] { return office.view().child("web").pid == last; };  // what a start opens is closed
  EXPECT_TRUE(eventually(settled));
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    ::kill(last, SIGKILL);
    const pid_t now = next(pids);
    EXPECT_TRUE(gone(last)) << "still there, as a zombie or alive";
    last = now;
  }
  EXPECT_TRUE(eventually(settled));
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(work.end(), 0);
  EXPECT_TRUE(gone(last));
}

// ---- the view ------------------------------------------------------------------------------------------------------

TEST(Supervisor, DoesNotRunInAChildForkedPastCovey) {
  supervisor office;
  office.add({.name = "a", .run = [] { return 0; }, .restart = covey::temporary});
  const pid_t past = ::fork();
  if (past == 0) {
    int code = 1;
    try {
      (void)office.run();
    } catch (const std::system_error& e) {
      code = std::string(e.what()).find("forked past covey") != std::string::npos ? 0 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(past, &status, 0), past);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(office.view().child("a").pid, 0);
  EXPECT_EQ(office.run(), 0);
}

TEST(Supervisor, KeepsAProgramAliveThatAChildBecomes) {
  covey::queue<pid_t> pids;
  supervisor office;
  office.add({.name = "sleep",
              .run = {[](covey::queue<pid_t> to) {
                        to.put(::getpid());
                        ::execl("/bin/sleep", "sleep", "1000", nullptr);
                        return 1;
                      },
                      pids}});
  std::jthread runs([&] { EXPECT_EQ(office.run(), 0); });
  for (int i = 0; i < 3; ++i) {
    const pid_t pid = next(pids);
    const auto program = [pid] { return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe"); };
    EXPECT_TRUE(eventually([&] { return program() != std::filesystem::read_symlink("/proc/self/exe"); }));
    ::kill(pid, SIGTERM);
  }
  next(pids);
  office.stop();
}

TEST(SupervisorView, IsWholeInAnotherProcessWhileChildrenAreKilled) {
  supervisor office{{.max_restarts = 1000, .within = 1ms}};
  covey::queue<pid_t> pids;
  for (const char* name : {"one", "two", "three"}) office.add({.name = name, .run = {reports_pid, pids}});
  covey::event enough;
  // Reads as fast as it can. Each number only grows, and a running child has a pid of its own.
  covey::process reader{[](covey::supervisor_view view, covey::event stop) {
                          std::vector<std::uint64_t> restarts(3);
                          std::uint64_t looks = 0;
                          for (bool last = false; !last;) {
                            last = stop.is_set();
                            const auto children = view.children();
                            ++looks;
                            if (children.empty()) continue;
                            for (std::size_t i = 0; i < children.size(); ++i) {
                              const auto& c = children[i];
                              if (c.name != (i == 0 ? "one" : i == 1 ? "two" : "three")) return 2;
                              if (c.restarts < restarts[i]) return 3;
                              if (c.phase == child_phase::running && c.pid <= 0) return 4;
                              if (c.restarts > 0 && c.last_end != "was killed by signal 9 (Killed)") return 5;
                              restarts[i] = c.restarts;
                            }
                          }
                          return looks > 1 && view.alive() && restarts[0] + restarts[1] + restarts[2] == 100 ? 0 : 6;
                        },
                        office.view(), enough};
  at_work work(office);
  for (int i = 0; i < 100; ++i) ::kill(next(pids), SIGKILL);
  for (int i = 0; i < 3; ++i) (void)next(pids);
  EXPECT_TRUE(eventually([&] {
    std::uint64_t restarts = 0;
    for (const auto& c : office.view().children()) restarts += c.restarts;
    return restarts == 100;
  }));
  enough.set();
  EXPECT_EQ(reader.join().code(), 0);
  EXPECT_EQ(work.end(), 0);
}

TEST(SupervisorView, ShowsTheLastWholeStateWhenTheSupervisorDied) {
  if (!can_fork) GTEST_SKIP() << "process::forked refuses beside the sanitizer's thread";
  covey::queue<pid_t> pids;
  covey::queue<covey::supervisor_view> views;
  covey::process program = covey::process::forked([pids, views] {
    supervisor office;
    office.add({.name = "a", .run = {reports_pid, pids}});
    views.put(office.view());
    return office.run();
  });
  const covey::supervisor_view view = next(views);
  const pid_t child = next(pids);
  EXPECT_TRUE(eventually([&] { return view.child("a").pid == child; }));
  EXPECT_TRUE(view.alive());
  program.kill();
  program.join();
  EXPECT_TRUE(eventually([&] { return !view.alive(); }));
  EXPECT_EQ(view.children().size(), 1U);
  EXPECT_EQ(view.child("a").pid, child);
  EXPECT_EQ(view.child("nobody").name, "");
  EXPECT_STREQ(to_string(view.child("a").phase), "running");
}

}  // namespace
