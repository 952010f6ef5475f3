// One process at a time is stepped: the test's own. It forks the victim, moves it to where it is to die, kills it, and
// checks. What a point costs is a fork, two or three stops and the keeper's part in a death: about a millisecond.
#include <covey/testing/stepper.hpp>

#include <gtest/gtest-spi.h>
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
#include <sstream>
#include <unordered_set>
#include <vector>

extern "C" const char __executable_start, etext;  // of the program's code

namespace covey::detail {
namespace {

using namespace testing;

// ---- how much is tried ---------------------------------------------------------------------------------------------

bool is_long() { return std::getenv("COVEY_LONG_TESTS") != nullptr; }

// For the victim, its recoverer, and the recoverer of that.
struct effort {
  std::size_t every_below;      // instructions: after each of them, rather than after those that matter
  std::size_t kills_max;        // of one process in one state
  std::size_t states_followed;  // states left behind, in which the next process is stepped
};
constexpr std::size_t depths = 3;

const effort& effort_at(std::size_t depth) {
  static constexpr effort quick[depths] = {{1500, 1500, 24}, {400, 250, 8}, {400, 60, 0}};
  static constexpr effort thorough[depths] = {{10'000, 10'000, 400}, {10'000, 2'000, 60}, {10'000, 300, 0}};
  return (is_long() ? thorough : quick)[depth];
}

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

// ---- what was seen -------------------------------------------------------------------------------------------------

struct recording {
  std::vector<std::uint64_t> address;  // of each instruction
  std::vector<std::size_t> matters;    // numbers of instructions done after which something is different; 0 first
  std::vector<std::size_t> first;      // instructions done when the next address is met for the first time
  bool slept = false;

  [[nodiscard]] std::size_t size() const { return address.size(); }
};

bool in_program(std::uint64_t address) {
  return address >= reinterpret_cast<std::uint64_t>(&__executable_start) &&
         address < reinterpret_cast<std::uint64_t>(&etext);
}

recording record(tracee& t) {
  recording r;
  r.matters.push_back(0);
  std::unordered_set<std::uint64_t> met;
  arena_watch shared;
  for (;;) {
    const std::uint64_t address = t.next();
    const bool kernel = t.enters_kernel_next();
    if (met.insert(address).second && in_program(address)) r.first.push_back(r.size());
    const tracee::state s = t.step(kernel);
    if (s == tracee::state::ended) return r;
    r.address.push_back(address);
    if (shared.changed() || kernel) r.matters.push_back(r.size());
    if (s == tracee::state::sleeps) {
      r.slept = true;
      return r;
    }
  }
}

// Runs to where `count` instructions are done. An address met for the first time is reached at full speed.
last_process advance(tracee& t, const recording& r, std::size_t count) {
  const auto after = std::upper_bound(r.first.begin(), r.first.end(), count);
  const std::size_t near = after == r.first.begin() ? 0 : *std::prev(after);
  std::size_t done = 0;
  tracee::state s = tracee::state::stands;
  if (near > 4 && near < r.size()) {
    s = t.run_to(r.address[near], r.slept);
    done = near;
  }
  for (; s == tracee::state::stands && done < count; ++done) s = t.step(r.slept);
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
    struct sigaction on_alarm{};
    struct sigaction before{};
    on_alarm.sa_handler = give_up;
    ::sigaction(SIGALRM, &on_alarm, &before);
    std::vector<death> deaths;
    explore(deaths);
    ::alarm(0);
    ::sigaction(SIGALRM, &before, nullptr);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return report_;
  }

 private:
  void explore(std::vector<death>& deaths);
  void die(const std::vector<death>& deaths);
  void watch(const std::vector<death>& deaths) const;
  [[nodiscard]] std::string describe(const std::vector<death>& deaths, bool with_names) const;

  // A process that stands before the operation of its depth.
  std::unique_ptr<tracee> start(std::size_t depth, const std::shared_ptr<void>& world) {
    const auto& action = depth == 0 ? plan_.run : plan_.recover;
    const auto& warm = depth == 0 && plan_.warm ? plan_.warm : action;
    scratch_.push_back(plan_.prepare());
    void* const other = scratch_.back().get();
    return std::make_unique<tracee>([&] { warm(other); }, [&] { action(world.get()); });
  }

  last_process replay(const std::vector<death>& deaths, const std::shared_ptr<void>& world) {
    last_process last;
    for (std::size_t depth = 0; depth < deaths.size(); ++depth) {
      const auto t = start(depth, world);
      last = advance(*t, *deaths[depth].seen, deaths[depth].after);
      if (plan_.while_stopped && depth == 0 && deaths.size() == 1) plan_.while_stopped(world.get());
      t->kill();
    }
    return last;
  }

  const stepped_plan& plan_;
  std::vector<std::shared_ptr<void>> scratch_;  // what the processes warmed up on
  step_report report_;
  std::size_t turn_ = 0;  // so that what is thinned out is something else each time
};

// Kills the next process after `deaths` at its points, then follows some of the states that this leaves.
void stepping::explore(std::vector<death>& deaths) {
  const std::size_t depth = deaths.size();
  recording seen;
  {
    watch(deaths);
    const auto world = plan_.prepare();
    (void)replay(deaths, world);
    const auto t = start(depth, world);
    seen = record(*t);
    t->kill();
    scratch_.clear();
  }
  const effort& e = effort_at(depth);
  std::vector<std::size_t> all = seen.matters;
  if (seen.size() < e.every_below) {
    all.resize(seen.size() + 1);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  } else if (all.back() != seen.size()) {
    all.push_back(seen.size());
  }
  if (depth == 0) {
    report_.instructions = seen.size();
    report_.matter = seen.matters.size() - 1;
    report_.slept = seen.slept;
  }
  report_.points[depth] += all.size();
  ++turn_;
  for (const std::size_t point : thinned(all, e.kills_max, turn_)) {
    deaths.push_back({&seen, point});
    die(deaths);
    deaths.pop_back();
    if (report_.violation) return;
  }
  if (!plan_.recover || depth + 1 == depths) return;
  for (const std::size_t point : thinned(seen.matters, e.states_followed, turn_)) {
    deaths.push_back({&seen, point});
    explore(deaths);
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
