// One process at a time is stepped: the test's own. It forks the victim, moves it to where it is to die, kills it, and
// checks. What a point costs is a fork, two or three stops and the keeper's part in a death: about a millisecond.
#include <covey/testing/stepper.hpp>

#include <gtest/gtest-spi.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <covey/memory/region.hpp>
#include <covey/process/backtrace.hpp>
#include <covey/testing/arena_watch.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/tracee.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <iterator>
#include <numeric>
#include <sstream>
#include <unordered_map>
#include <vector>

extern "C" const char __executable_start, etext;  // of the program's code

namespace covey::detail {
namespace {

using namespace testing;

// ---- how much is tried ---------------------------------------------------------------------------------------------

bool is_long() { return std::getenv("COVEY_LONG_TESTS") != nullptr; }

// For the victim, its recoverer, and the recoverer of that.
struct effort {
  std::size_t every_below;      // instructions: after each of them, rather than where it matters or is new
  std::size_t kills_max;        // of one process in one state
  std::size_t states_followed;  // states left behind, in which the next process is stepped
};
constexpr std::size_t depths = 3;

const effort& effort_at(std::size_t depth) {
  static constexpr effort quick[depths] = {{400, 1000, 24}, {400, 250, 8}, {400, 60, 0}};
  static constexpr effort thorough[depths] = {{10'000, 10'000, 400}, {10'000, 2'000, 60}, {10'000, 300, 0}};
  return (is_long() ? thorough : quick)[depth];
}

// Work is counted in single steps, which cost some 12 us. The victim is killed whatever that costs; what follows shares
// this.
std::size_t work_of_recoverers() { return is_long() ? 20'000'000 : 120'000; }
constexpr std::size_t work_of_a_kill = 60;
constexpr std::size_t work_of_a_breakpoint = 3;
constexpr std::size_t work_of_recording = 4;  // a step

// `count` of `all`, evenly; different ones for different `turn`s.
std::vector<std::size_t> thinned(const std::vector<std::size_t>& all, std::size_t count, std::size_t turn) {
  if (all.size() <= count) return all;
  std::vector<std::size_t> some;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t begin = i * all.size() / count;
    const std::size_t width = (i + 1) * all.size() / count - begin;
    some.push_back(all[begin + turn % width]);
  }
  return some;
}

std::vector<std::size_t> united(const std::vector<std::size_t>& a, const std::vector<std::size_t>& b) {
  std::vector<std::size_t> both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

// ---- what was seen -------------------------------------------------------------------------------------------------

struct recording {
  std::vector<std::uint64_t> address;  // of each instruction
  std::vector<std::size_t> matters;  // numbers of instructions done after which something is different; 0 first
  std::vector<std::size_t> first;  // instructions done when the next address is met for the first time
  std::vector<std::size_t> visit;  // of each instruction: how many times its address was met, with this
  bool slept = false;

  [[nodiscard]] std::size_t size() const { return address.size(); }

  // After every instruction.
  [[nodiscard]] std::vector<std::size_t> all() const {
    std::vector<std::size_t> points(size() + 1);
    std::iota(points.begin(), points.end(), 0);
    return points;
  }

  // Where it matters: not thinned out, but for the later rounds of loops and copies of many bytes.
  [[nodiscard]] std::vector<std::size_t> always() const {
    constexpr std::size_t rounds = 32;
    std::vector<std::size_t> points, later;
    for (const std::size_t point : matters)
      (point == 0 || point == size() || visit[point - 1] <= rounds ? points : later).push_back(point);
    return united(points, thinned(later, 100, 0));
  }

  // Where it matters, before each instruction that is met for the first time, and after the last.
  [[nodiscard]] std::vector<std::size_t> distinct() const {
    std::vector<std::size_t> points = united(always(), first);
    if (points.back() != size()) points.push_back(size());
    return points;
  }
};

bool in_program(std::uint64_t address) {
  return address >= reinterpret_cast<std::uint64_t>(&__executable_start) &&
         address < reinterpret_cast<std::uint64_t>(&etext);
}

recording record(tracee& t) {
  recording r;
  r.matters.push_back(0);
  std::unordered_map<std::uint64_t, std::size_t> visits;
  arena_watch shared;
  for (;;) {
    const std::uint64_t address = t.next();
    const bool kernel = t.enters_kernel_next();
    const tracee::state s = t.step(kernel);
    if (s == tracee::state::ended) return r;
    r.visit.push_back(++visits[address]);
    if (r.visit.back() == 1 && in_program(address)) r.first.push_back(r.size());
    r.address.push_back(address);
    if (shared.changed() || kernel) r.matters.push_back(r.size());
    if (s == tracee::state::sleeps) {
      r.slept = true;
      return r;
    }
  }
}

// How to get to where `count` instructions are done: with a breakpoint at the address of one of them, the rest in
// steps.
struct route {
  std::size_t by;  // instructions done at the breakpoint; 0: none
  std::size_t work;  // in single steps
};

route route_to(const recording& r, std::size_t count) {
  route best{.by = 0, .work = count};
  for (std::size_t by = std::min(count, r.size() - 1); by > 0 && count - by < best.work; --by) {
    const std::size_t work = work_of_a_breakpoint * r.visit[by] + (count - by);
    if (in_program(r.address[by]) && work < best.work) best = {.by = by, .work = work};
  }
  return best;
}

// Runs to where `count` instructions are done.
last_process advance(tracee& t, const recording& r, std::size_t count) {
  const auto step = [&] { return t.step(r.slept && t.enters_kernel_next()); };
  tracee::state s = tracee::state::stands;
  std::size_t done = r.size() == 0 ? 0 : route_to(r, count).by;
  if (done != 0) {
    const std::uint64_t address = r.address[done];
    for (std::size_t visit = 1; s == tracee::state::stands; ++visit) {
      s = t.run_to(address, r.slept);
      if (visit == r.visit[done]) break;
      if (s == tracee::state::stands) s = step();
    }
  }
  for (; s == tracee::state::stands && done < count; ++done) s = step();
  if (s == tracee::state::stands && !r.slept && count == r.size()) s = t.step(false);  // the mark of the end
  return {.finished = s == tracee::state::ended, .slept = s == tracee::state::sleeps};
}

// ---- one operation -------------------------------------------------------------------------------------------------

std::string in_words(const arena_usage& u) {
  return std::to_string(u.regions) + " regions, " + std::to_string(u.bytes) + " bytes";
}

struct death {
  const recording* seen;
  std::size_t after;  // instructions
};

// A stop and a step are two switches between two processes; on one processor they cost a third.
class on_one_processor {
 public:
  on_one_processor() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(std::max(0, ::sched_getcpu())), &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  on_one_processor(const on_one_processor&) = delete;
  on_one_processor& operator=(const on_one_processor&) = delete;
  ~on_one_processor() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

char watched[512];
constexpr unsigned patience_s = 30;

// Says where it hangs, which the test's time limit would not.
void give_up(int) {
  [[maybe_unused]] const auto n = ::write(STDERR_FILENO, watched, std::strlen(watched));
  std::abort();
}

class stepping {
 public:
  explicit stepping(const stepped_plan& plan) : plan_(plan) {}

  step_report run() {
    const auto begin = std::chrono::steady_clock::now();
    const on_one_processor here;
    struct sigaction on_alarm{};
    struct sigaction before{};
    on_alarm.sa_handler = give_up;
    ::sigaction(SIGALRM, &on_alarm, &before);
    std::vector<death> deaths;
    explore(deaths, work_of_recoverers());
    ::alarm(0);
    ::sigaction(SIGALRM, &before, nullptr);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return report_;
  }

 private:
  void explore(std::vector<death>& deaths, std::size_t work);
  recording record_after(const std::vector<death>& deaths);
  void die(const std::vector<death>& deaths);
  void watch(const std::vector<death>& deaths) const;
  [[nodiscard]] std::string describe(const std::vector<death>& deaths, bool with_names) const;

  // A process that stands before the operation of its depth.
  std::unique_ptr<tracee> start(std::size_t depth, const std::shared_ptr<void>& world) {
    const auto& action = depth == 0 ? plan_.run : plan_.recover;
    const auto& warm = depth == 0 && plan_.warm ? plan_.warm : action;
    scratch_.push_back(plan_.prepare());
    void* const other = scratch_.back().get();
    const auto prepare = [&] {
      warm(other);
      if (depth == 0 && plan_.before) plan_.before(world.get());
    };
    return std::make_unique<tracee>(prepare, [&] { action(world.get()); });
  }

  last_process replay(const std::vector<death>& deaths, const std::shared_ptr<void>& world) {
    last_process last{.finished = true};
    for (std::size_t depth = 0; depth < deaths.size(); ++depth) {
      const auto t = start(depth, world);
      const last_process now = advance(*t, *deaths[depth].seen, deaths[depth].after);
      last = {.finished = last.finished && now.finished, .slept = now.slept};
      if (plan_.while_stopped && depth == 0 && deaths.size() == 1) plan_.while_stopped(world.get());
      t->kill();
    }
    return last;
  }

  const stepped_plan& plan_;
  std::vector<std::shared_ptr<void>> scratch_;  // what the processes warmed up on
  step_report report_;
  std::size_t recoverer_instructions_ = 0;  // the last one's
  std::size_t turn_ = 0;  // so that what is thinned out is something else each time
};

// The next process after `deaths`, to its end.
recording stepping::record_after(const std::vector<death>& deaths) {
  watch(deaths);
  const auto world = plan_.prepare();
  (void)replay(deaths, world);
  const auto t = start(deaths.size(), world);
  recording seen = record(*t);
  t->kill();
  scratch_.clear();
  return seen;
}

// Kills the next process after `deaths` at its points, then follows some of the states that this leaves.
void stepping::explore(std::vector<death>& deaths, std::size_t work) {
  const std::size_t depth = deaths.size();
  const recording seen = record_after(deaths);
  const effort& e = effort_at(depth);
  const std::vector<std::size_t> all = seen.size() < e.every_below ? seen.all() : seen.distinct();
  if (depth == 0) {
    report_.instructions = seen.size();
    report_.matter = seen.matters.size() - 1;
    report_.slept = seen.slept;
  } else {
    recoverer_instructions_ = seen.size();
    work -= std::min(work, work_of_recording * seen.size());
  }
  report_.points[depth] += united(all, seen.matters).size();
  ++turn_;
  // Half of the work is for this one, unless nobody follows.
  const bool followed = plan_.recover && depth + 1 < depths;
  std::size_t kills = e.kills_max;
  if (depth > 0) {
    std::size_t cost = 0;
    for (const std::size_t point : all) cost += work_of_a_kill + route_to(seen, point).work;
    const std::size_t mine = followed ? work / 2 : work;
    kills = std::clamp<std::size_t>(mine * all.size() / cost, 3, kills);
    work -= mine;
  }
  std::vector<std::size_t> points = thinned(all, kills, turn_);
  if (depth == 0) points = united(points, seen.always());
  for (const std::size_t point : points) {
    deaths.push_back({&seen, point});
    die(deaths);
    deaths.pop_back();
    if (report_.violation) return;
  }
  if (!followed) return;
  if (depth == 0) recoverer_instructions_ = record_after({{&seen, seen.matters.back()}}).size();
  // As many states as leave each a recording and some kills.
  constexpr std::size_t kills_worthwhile = 12;
  const std::size_t each = kills_worthwhile * (2 * work_of_a_kill) + work_of_recording * recoverer_instructions_;
  const std::size_t at_least = report_.killed[depth + 1] == 0 ? 1 : 0;
  const auto states = thinned(seen.matters, std::clamp(work / each, at_least, e.states_followed), turn_);
  for (const std::size_t point : states) {
    deaths.push_back({&seen, point});
    explore(deaths, work / states.size());
    deaths.pop_back();
    if (report_.violation) return;
  }
}

void stepping::die(const std::vector<death>& deaths) {
  watch(deaths);
  ++report_.killed[deaths.size() - 1];
  const auto before = settled();
  std::string wrong;
  ::testing::TestPartResultArray said;
  try {
    const ::testing::ScopedFakeTestPartResultReporter listen(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &said);
    const auto world = plan_.prepare();
    const last_process last = replay(deaths, world);
    plan_.check(world.get(), last);
  } catch (const std::exception& e) {
    wrong = std::string("threw: ") + e.what() + '\n';
  }
  for (int i = 0; i < said.size(); ++i) {
    const auto& part = said.GetTestPartResult(i);
    if (part.failed())
      wrong += part.file_name() + (':' + std::to_string(part.line_number())) + ": " + part.message() + '\n';
  }
  scratch_.clear();
  if (wrong.empty() && !comes_back_to(before))
    wrong = "memory was left: " + in_words(arena_in_use()) + ", " + in_words(before) + " before\n";
  if (!wrong.empty()) report_.violation = wrong + describe(deaths, true);
}

std::string stepping::describe(const std::vector<death>& deaths, bool with_names) const {
  static constexpr const char* who[depths] = {"the operation", "its recoverer", "the recoverer's recoverer"};
  std::ostringstream out;
  out << "stepper: " << plan_.name;
  for (std::size_t i = 0; i < deaths.size(); ++i) {
    const auto& [seen, after] = deaths[i];
    out << (i == 0 ? ": killed " : ", then ") << who[i] << " after " << after << " of " << seen->size()
        << " instructions";
    if (!with_names || after == 0) continue;
    const std::uint64_t address = seen->address[after - 1];
    const auto frames = symbolize(std::span(&address, 1));
    if (!frames.empty()) out << " (" << frames[0].function << "+0x" << std::hex << frames[0].offset << std::dec << ')';
  }
  return out.str();
}

void stepping::watch(const std::vector<death>& deaths) const {
  std::snprintf(watched, sizeof watched, "%s; nothing has moved for %u s since\n", describe(deaths, false).c_str(),
                patience_s);
  ::alarm(patience_s);
}

}  // namespace

step_report run_stepped(const stepped_plan& plan) {
  if (auto why = why_not_steppable()) return {.skipped = std::move(why)};
  return stepping(plan).run();
}

}  // namespace covey::detail

namespace covey::testing {

std::string to_string(const std::string& name, const step_report& r) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << "stepper: " << name << ": " << r.instructions << " instructions, "
      << r.matter << " matter; killed at " << r.killed[0] << " of " << r.points[0]
      << (r.slept ? ", the last asleep" : "");
  if (r.points[1] != 0) out << "; recoverer " << r.killed[1] << " of " << r.points[1];
  if (r.points[2] != 0) out << "; its recoverer " << r.killed[2] << " of " << r.points[2];
  out << "; " << r.seconds << " s";
  return out.str();
}

}  // namespace covey::testing
