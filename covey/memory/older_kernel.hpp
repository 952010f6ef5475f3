/// @file
/// A program that is started with COVEY_LINUX=6.1 in its environment finds a kernel that knows nothing newer: the
/// oldest that covey supports. For tests of what covey does there.
#pragma once

namespace covey::detail {

/// Before anything else happens. Does nothing without the variable; stops the process when the kernel cannot be made
/// older (no seccomp) or another version is asked for.
void make_the_kernel_older() noexcept;

}  // namespace covey::detail
