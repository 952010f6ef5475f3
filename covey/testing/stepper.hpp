/// @file
/// stepper: an operation is killed after each of its instructions that matters, and those who live are asked whether
/// they still can. docs/design/proof.md says what it sees and what not.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace covey::testing {

/// How far the processes got that were killed before a check.
struct last_process {
  bool finished = false;  ///< all had returned from what they did: what that promises must hold
  bool slept = false;     ///< the last was killed in its sleep
  bool returned = false;  ///< the operation itself had returned, whoever else was killed after it
  bool followed = false;  ///< a recoverer was killed too
};

/// What was tried, and what was found.
struct step_report {
  std::size_t instructions = 0;        ///< of the operation
  std::size_t matter = 0;              ///< of these, after which shared memory was different or the kernel entered
  bool slept = false;                  ///< it went to sleep: its last point is a kill in its sleep
  std::size_t killed[3] = {0, 0, 0};   ///< processes: in the operation, its recoverer, the recoverer's recoverer
  std::size_t points[3] = {0, 0, 0};   ///< where they could have been killed; of long recoverers, where it matters
  std::size_t others_killed[3] = {0, 0, 0};  ///< of `killed`: elsewhere, or everywhere, in long recoverers
  std::size_t other_points[3] = {0, 0, 0};   ///< where these could have been killed
  double seconds = 0;                  ///< it took
  std::optional<std::string> skipped{};    ///< why nothing was tried
  std::optional<std::string> violation{};  ///< the first, and after which instruction; nothing was tried after it
};

/// One line: points tried of points.
std::string to_string(const std::string& name, const step_report& report);

}  // namespace covey::testing

namespace covey::detail {

struct stepped_plan {
  std::string name;
  std::function<std::shared_ptr<void>()> prepare;
  std::function<void(void*)> run, recover, warm, before, while_stopped;
  std::function<void(void*, const testing::last_process&)> check;
  bool goes_on = false, brief = false;
};

testing::step_report run_stepped(const stepped_plan& plan);

}  // namespace covey::detail

namespace covey::testing {

/// An operation on a World: a default constructible struct of handles and what else it needs. Each kill has a fresh
/// one, made in the test's process; the processes that are killed see it as a fork does.
template <class World>
struct stepped {
  /// What is killed after its every instruction that matters.
  std::function<void(World&)> run;

  /// What the survivors must find; says so with EXPECT. Runs in the test's process after the family has learnt of the
  /// death. What it does must leave nothing in the World that outlives it: the memory is compared afterwards.
  std::function<void(World&, const last_process&)> check;

  /// What a survivor does to repair, or what repairs by itself on the way (any operation): it is killed at its
  /// instructions too, and so is who does it after that.
  std::function<void(World&)> recover{};

  /// Runs in the process to be killed before it is stepped, on a World of its own, so that nothing happens for the
  /// first time. By default the operation itself; necessary for operations that sleep.
  std::function<void(World&)> warm{};

  /// Runs in the process to be killed after it warmed up, on the World itself: the part of an operation that is not
  /// stepped, because it was stepped elsewhere.
  std::function<void(World&)> before{};

  /// Runs while the process that does `run` is stopped at the same places: what others can do then. Not for locks.
  /// Recoverers come after it.
  std::function<void(World&)> while_stopped{};

  /// Whether it then goes on, to its end or into its sleep, and is killed only there. Where there is a recoverer, that
  /// is stopped instead and goes on. Who slept already does not.
  bool goes_on = false;

  /// Whether recoverers share an eighth of the work of others, unless COVEY_LONG_TESTS is set: where nearly all that
  /// they find is left by another operation too, which is stepped with more of it.
  bool brief = false;
};

/// Runs the operation once to learn its instructions, then kills it before the first and after each that changed shared
/// memory or entered the kernel. When there are fewer than 400 (10,000 when COVEY_LONG_TESTS is set), also after each
/// other; else also before each that is met for the first time, which spares the rounds of loops.
/// Then `recover` is killed in each state that these deaths left, where shared memory changes or the kernel is entered,
/// and so is the recoverer of that, as far as time allows; when COVEY_LONG_TESTS is set, also after each instruction of
/// theirs, in one state or another. What `check` says with EXPECT goes to the report.
template <class World>
step_report try_step(std::string name, const stepped<World>& operation) {
  const auto on = [](const std::function<void(World&)>& f) -> std::function<void(void*)> {
    if (!f) return {};
    return [f](void* world) { f(*static_cast<World*>(world)); };
  };
  return detail::run_stepped(
      {.name = std::move(name),
       .prepare = [] { return std::static_pointer_cast<void>(std::make_shared<World>()); },
       .run = on(operation.run),
       .recover = on(operation.recover),
       .warm = on(operation.warm),
       .before = on(operation.before),
       .while_stopped = on(operation.while_stopped),
       .check = [f = operation.check](void* world, const last_process& last) { f(*static_cast<World*>(world), last); },
       .goes_on = operation.goes_on,
       .brief = operation.brief});
}

/// try_step(), prints the report, and fails the test at a violation. Skips it, with the reason, where processes cannot
/// be stepped.
template <class World>
void step(std::string name, const stepped<World>& operation) {
  const step_report report = try_step(name, operation);
  if (report.skipped) GTEST_SKIP() << name << " is not stepped, skipped: " << *report.skipped;
  std::printf("%s\n", to_string(name, report).c_str());
  std::fflush(stdout);
  if (report.violation) ADD_FAILURE() << *report.violation;
}

}  // namespace covey::testing
