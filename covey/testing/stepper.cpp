// One process at a time is stepped: the test's own. It forks the victim, moves it to where it is to die, kills it, and
// checks. What a point costs is a fork, two or three stops and the keeper's part in a death: one or two milliseconds.
#include <covey/testing/stepper.hpp>

#include <gtest/gtest-spi.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <covey/process/backtrace.hpp>
#include <covey/testing/arena_watch.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/tracee.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iomanip>
#include <iterator>
#include <map>
#include <numeric>
#include <sstream>
#include <unordered_map>
#include <vector>

// NOLINTNEXTLINE(bugprone-reserved-identifier): the linker's names
extern "C" const char __executable_start, etext;  // of the program's code

namespace covey::detail {
namespace {

using namespace testing;

// ---- how much is tried ---------------------------------------------------------------------------------------------

bool is_long() { return std::getenv("COVEY_LONG_TESTS") != nullptr; }

// Instructions of a process that is killed after each of them, rather than where it matters or is new.
constexpr std::size_t few_instructions = 400;
std::size_t every_below() { return is_long() ? 10'000 : few_instructions; }
std::size_t kills_of_the_operation() { return is_long() ? 10'000 : 150; }  // of a longer one
constexpr std::size_t depths = 3;  // the operation, its recoverer, the recoverer of that

// Work is counted in single steps, which cost 12 to 35 us, as the hypervisor likes debug exceptions. The victim is
// killed whatever that costs; what follows shares this.
std::size_t work_of_recoverers(bool brief) { return is_long() ? 1'000'000 : brief ? 8'000 : 50'000; }
// For each of the two to die after its every instruction.
constexpr std::size_t work_of_every = 1'000'000;
constexpr std::size_t work_of_a_kill = 60;  // of each process
constexpr std::size_t work_of_a_breakpoint = 3;
constexpr std::size_t work_of_recording = 1;  // a step
constexpr std::size_t share_of_recordings = 8;  // of the work of recoverers

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
    constexpr std::size_t rounds = 32, of_later = 25;
    std::vector<std::size_t> points, later;
    for (const std::size_t point : matters)
      (point == 0 || point == size() || visit[point - 1] <= rounds ? points : later).push_back(point);
    return united(points, thinned(later, of_later, 0));
  }

  // For each state that it leaves behind, one point. After the last it changes nothing more, so let it return: then
  // what that promises must hold, whoever comes.
  [[nodiscard]] std::vector<std::size_t> states() const {
    std::vector<std::size_t> points = always();
    if (!slept) points.back() = size();
    return points;
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

// Whether a nap ends before the process is killed in it would be a matter of time.
class without_naps {
 public:
  without_naps() { naps = false; }
  without_naps(const without_naps&) = delete;
  without_naps& operator=(const without_naps&) = delete;
  ~without_naps() { naps = true; }
};

char watched[512];
unsigned patience_s() { return is_long() ? 300 : 30; }  // what runs for hours does so beside others

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
    kill_the_operation();
    if (plan_.recover && !report_.violation) kill_those_who_follow();
    ::alarm(0);
    ::sigaction(SIGALRM, &before, nullptr);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return report_;
  }

 private:
  using deaths_of_several = std::vector<std::vector<death>>;

  void kill_the_operation();
  void kill_those_who_follow();
  const recording& record_after(const std::vector<death>& deaths);
  const recording& recoverer_after(const std::vector<death>& deaths);
  deaths_of_several followed_by_another(const deaths_of_several& states, bool matter);
  deaths_of_several followed_everywhere(const deaths_of_several& states);
  void kill(const deaths_of_several& all, std::size_t& work, bool matter);
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

  last_process replay(const std::vector<death>& deaths, const std::shared_ptr<void>& world, bool stops) {
    last_process last{.finished = true, .followed = deaths.size() > 1};
    for (std::size_t depth = 0; depth < deaths.size(); ++depth) {
      const auto t = start(depth, world);
      last_process now = advance(*t, *deaths[depth].seen, deaths[depth].after);
      if (stops && depth == (plan_.goes_on ? deaths.size() - 1 : 0)) now = stop(*t, now, world);
      if (depth == 0) last.returned = now.finished;
      last.finished = last.finished && now.finished;
      last.slept = now.slept;
      t->kill();
    }
    return last;
  }

  last_process stop(tracee& t, const last_process& now, const std::shared_ptr<void>& world) {
    plan_.while_stopped(world.get());
    if (!plan_.goes_on || now.finished || now.slept) return now;
    const tracee::state s = t.go_on();
    return {.finished = s == tracee::state::ended, .slept = s == tracee::state::sleeps};
  }

  const stepped_plan& plan_;
  std::vector<std::shared_ptr<void>> scratch_;  // what the processes warmed up on
  step_report report_;
  std::deque<recording> recordings_;  // the operation's is the first
  std::vector<std::pair<std::size_t, const recording*>> recoverers_;  // after which instruction of the operation
};

// The next process after `deaths`, to its end.
const recording& stepping::record_after(const std::vector<death>& deaths) {
  watch(deaths);
  const auto world = plan_.prepare();
  (void)replay(deaths, world, plan_.while_stopped && !plan_.goes_on);
  const auto t = start(deaths.size(), world);
  recordings_.push_back(record(*t));
  t->kill();
  scratch_.clear();
  return recordings_.back();
}

void stepping::kill_the_operation() {
  const recording& seen = record_after({});
  const bool few = seen.size() < every_below();
  const std::vector<std::size_t> all = few ? seen.all() : seen.distinct();
  report_.instructions = seen.size();
  report_.matter = seen.matters.size() - 1;
  report_.slept = seen.slept;
  report_.points[0] = united(all, seen.matters).size();
  for (const std::size_t point : united(few ? all : thinned(all, kills_of_the_operation(), 1), seen.always())) {
    die({{&seen, point}});
    if (report_.violation) return;
  }
}

// A recoverer's instructions are those of another in a similar state, but for a few: to record costs as much as to kill
// a hundred. Where that makes a difference, it dies a few instructions from where it should, and what the check asks is
// the same.
const recording& stepping::recoverer_after(const std::vector<death>& deaths) {
  const auto distance = [&](const auto& r) {
    return r.first > deaths[0].after ? r.first - deaths[0].after : deaths[0].after - r.first;
  };
  return *std::ranges::min_element(recoverers_, {}, distance)->second;
}

// The points of one more process after each of `states`: where it matters, or else everywhere else.
stepping::deaths_of_several stepping::followed_by_another(const deaths_of_several& states, bool matter) {
  deaths_of_several all;
  for (const auto& deaths : states) {
    const recording& r = recoverer_after(deaths);
    std::vector<std::size_t> points = r.size() < few_instructions ? r.all() : r.states();
    if (!matter) {
      std::vector<std::size_t> others;
      std::ranges::set_difference(r.size() < every_below() ? r.all() : r.distinct(), points,
                                  std::back_inserter(others));
      points = std::move(others);
    }
    for (const std::size_t point : points) {
      all.push_back(deaths);
      all.back().push_back({&r, point});
    }
  }
  return all;
}

// All points of one more process, but each instruction once, in one of those of `states` that lead to it.
stepping::deaths_of_several stepping::followed_everywhere(const deaths_of_several& states) {
  constexpr std::size_t several = 64;
  struct choice {
    std::size_t state;
    death next;
  };
  std::map<std::pair<std::uint64_t, std::size_t>, std::vector<choice>> where;  // by address and visit
  for (std::size_t n = 0; n < std::min(several, states.size()); ++n) {
    const std::size_t state = n * states.size() / std::min(several, states.size());
    const recording& r = recoverer_after(states[state]);
    if (r.size() < few_instructions) continue;  // all of them are among those that matter
    for (const std::size_t point : r.size() < every_below() ? r.all() : r.distinct())
      where[point == 0 ? std::pair{0UL, 0UL} : std::pair{r.address[point - 1], r.visit[point - 1]}].push_back(
          {state, {&r, point}});
  }
  deaths_of_several all;
  for (const auto& [instruction, choices] : where) {
    const auto& [state, next] = choices[all.size() % choices.size()];
    all.push_back(states[state]);
    all.back().push_back(next);
  }
  return all;
}

// As many of `all` as `work` allows, evenly.
void stepping::kill(const deaths_of_several& all, std::size_t& work, bool matter) {
  if (all.empty()) return;
  const std::size_t depth = all[0].size() - 1;
  std::size_t cost = 0, asked = 0;  // of some of them
  for (std::size_t i = 0; i < all.size(); i += 1 + all.size() / 256, ++asked)
    for (const auto& d : all[i]) cost += work_of_a_kill + (d.seen->size() == 0 ? 0 : route_to(*d.seen, d.after).work);
  const std::size_t count = std::clamp<std::size_t>(work * asked / cost, 1, all.size());
  work -= std::min(work, cost * count / asked);
  (matter ? report_.points : report_.other_points)[depth] += all.size();
  for (std::size_t i = 0; i < count && !report_.violation; ++i) {
    die(all[i * all.size() / count + (all.size() / count) / 2]);
    if (!matter) ++report_.others_killed[depth];
  }
}

// Those where it matters first, of both; what is left of the work is for the rest.
void stepping::kill_those_who_follow() {
  std::size_t work = work_of_recoverers(plan_.brief);
  const recording& seen = recordings_.front();
  deaths_of_several first, second;
  for (const std::size_t point : seen.states()) first.push_back({{&seen, point}});

  // From the last state, which has most to repair, to the first, as many as their share of the work allows.
  for (std::size_t n = 0, count = 1; n < count; ++n) {
    const auto& deaths = first[first.size() - 1 - n * (first.size() - 1) / std::max<std::size_t>(count - 1, 1)];
    const recording& r = record_after(deaths);
    recoverers_.emplace_back(deaths[0].after, &r);
    if (n == 0)
      count = std::clamp<std::size_t>(work / share_of_recordings / (work_of_recording * r.size() + 1), 1, first.size());
    if (!plan_.brief) work -= std::min(work, work_of_recording * r.size());
  }

  const deaths_of_several matter = followed_by_another(first, true);
  std::size_t most = work / 3 * 2;
  work -= most;
  kill(matter, most, true);
  if (report_.violation) return;
  work += most;
  // Of the recoverer of that, those of which the first made a difference.
  for (const auto& deaths : matter)
    if (std::ranges::binary_search(deaths[1].seen->states(), deaths[1].after)) second.push_back(deaths);
  most = work / 8 * 7;
  work -= most;
  kill(followed_by_another(second, true), most, true);
  if (report_.violation) return;
  work += most;
  if (!is_long()) return kill(followed_by_another(first, false), work, false);
  work = work_of_every;
  kill(followed_everywhere(first), work, false);
  if (report_.violation || second.empty()) return;
  work = work_of_every;
  kill(followed_everywhere(second), work, false);
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
    const last_process last = replay(deaths, world, plan_.while_stopped != nullptr);
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
                patience_s());
  ::alarm(patience_s());
}

}  // namespace

step_report run_stepped(const stepped_plan& plan) {
  if (auto why = why_not_steppable()) return {.skipped = std::move(why)};
  const without_naps awake;
  return stepping(plan).run();
}

}  // namespace covey::detail

namespace covey::testing {

std::string to_string(const std::string& name, const step_report& r) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << "stepper: " << name << ": " << r.instructions << " instructions, "
      << r.matter << " matter; killed at " << r.killed[0] << " of " << r.points[0]
      << (r.slept ? ", the last asleep" : "");
  if (r.points[1] != 0) out << "; recoverer " << r.killed[1] - r.others_killed[1] << " of " << r.points[1];
  if (r.other_points[1] != 0) out << " that matter, " << r.others_killed[1] << " of " << r.other_points[1] << " others";
  if (r.points[2] != 0) out << "; its recoverer " << r.killed[2] - r.others_killed[2] << " of " << r.points[2];
  if (r.other_points[2] != 0) out << " that matter, " << r.others_killed[2] << " of " << r.other_points[2] << " others";
  out << "; " << r.seconds << " s";
  return out.str();
}

}  // namespace covey::testing
