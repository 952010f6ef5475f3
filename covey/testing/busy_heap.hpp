/// @file
/// For tests of what the killed had in hand: a heap in which somebody nearly always has something in hand.
#pragma once

#include <covey/memory/containers.hpp>
#include <covey/sync/event.hpp>

namespace covey::testing {

/// Allocates and deallocates in the heap of `texts` until it is killed, and has set `working` before. Half of the time
/// it looks for the place of a block that is neither used nor free yet, behind hundreds of free ones; so a kill strands
/// memory within few attempts, however slow the program and the machine are.
[[noreturn]] inline void allocate_until_killed(covey::vector<covey::string>& texts, covey::event& working) {
  constexpr int holes = 300;
  constexpr std::size_t own_run = 5'000;  // not a small block, whose place is found at once
  texts.clear();
  texts.reserve(2 * holes + 1);
  while (texts.size() < 2 * holes) texts.emplace_back(own_run, 'x');
  for (std::size_t i = 0; i < texts.size(); i += 2) {
    texts[i].clear();
    texts[i].shrink_to_fit();
  }
  working.set();
  for (;;) {
    texts.emplace_back(2 * own_run, 'x');
    texts.pop_back();
  }
}

}  // namespace covey::testing
