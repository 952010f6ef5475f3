/// @file
/// COVEY_CHECK: what must hold, checked in release builds too.
#pragma once

namespace covey::detail {

/// Prints where and what to stderr and aborts. Signal-safe.
[[noreturn]] void check_failed(const char* expression, const char* file, int line, const char* why) noexcept;

}  // namespace covey::detail

/// Stops the process when `condition` is false: a precondition or an invariant of ours is broken, and going on would
/// only spread the damage. `why` is one sentence for the reader of the core dump.
#define COVEY_CHECK(condition, why)                    \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::covey::detail::check_failed(#condition, __FILE__, __LINE__, why))
