/// @file
/// For tests: what the tests of named memory and the programs that they start share by name.
#pragma once

#include <array>
#include <covey/memory/named.hpp>
#include <covey/sync/named_mutex.hpp>

namespace covey::detail::named_board {

struct node {
  int value = 0;
  covey::offset_ptr<node> next{};
};

#ifdef COVEY_OTHER_BOARD  // a program with the same name and size for it, and other fields
using amount = float;
#else
using amount = int;
#endif

struct board {
  int maker = 0;  // process id
  covey::named_mutex lock{};
  amount value = 0;
  covey::named_event go{};
  std::array<node, 4> nodes{};
  covey::offset_ptr<node> head{};
  covey::offset_span<int> numbers{};
  std::atomic<int> steps_done{0};
  int whole = 4711;  // made last
};

/// Another type of the same name, as an older version of a program would have it.
namespace older {
struct board {
  int maker = 0;
  int value = 0;
};
}  // namespace older

}  // namespace covey::detail::named_board
