/// @file
/// What the shared memory's own structures say when somebody wrote over them, and empty handles when they are used.
#pragma once

#include <stdexcept>

namespace covey {

/// Shared memory holds what covey never writes: one of those to whom it was granted wrote over it. Nothing is wrong
/// with other objects. What holds the damage can still be let go of; its destructor may not run.
class memory_damaged : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// A handle that refers to nothing is used.
[[noreturn]] inline void throw_moved_from() { throw std::logic_error("covey: this handle was moved from"); }

}  // namespace detail

}  // namespace covey
