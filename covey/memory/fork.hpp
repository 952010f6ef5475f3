/// @file
/// The two places where covey itself forks, and what runs before main.
#pragma once

#include <sys/types.h>

namespace covey::detail {

/// fork, known to covey: the child speaks for itself at once or is a keeper.
pid_t our_fork() noexcept;

/// Founds the family; called before main by the wrapper in wrap_main.cpp. An error is kept for the first use.
void found_before_main() noexcept;

}  // namespace covey::detail
