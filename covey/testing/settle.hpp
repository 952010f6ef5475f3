/// @file
/// What tests of processes wait for, and what must be as before when they are done.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <covey/memory/region.hpp>
#include <functional>
#include <thread>

namespace covey::testing {

/// Whether `holds()` becomes true within ten seconds.
template <class Condition>
bool eventually(const Condition& holds) {
  using namespace std::chrono_literals;
  const auto until = std::chrono::steady_clock::now() + 10s;
  for (int i = 0; std::chrono::steady_clock::now() < until; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(i < 50 ? 20us : 1ms);
  }
  return holds();
}

/// Whether process `pid` is no more, or a zombie.
bool gone(pid_t pid);

/// What the family has taken of the arena when the keeper has done what this process told it so far, and dropped what
/// those held of whose death this process knows.
covey::detail::arena_usage settled();

/// Whether the family's use of the arena becomes `before` again.
bool comes_back_to(const covey::detail::arena_usage& before);

/// Blocks until the family knows of the death of process `id`, which was killed: only then do its survivors act on it.
void learn_death_of(std::uint64_t id);

/// Runs `f` in a forked process that is killed after it; returns when the family knows.
void in_one_that_dies(const std::function<void()>& f);

/// Open descriptors of this process.
std::ptrdiff_t descriptors_open();

}  // namespace covey::testing
