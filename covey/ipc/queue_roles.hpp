/// @file
/// The roles of a queue: which processes read and write it. docs/design/queue.md.
#pragma once

#include <covey/ipc/queue_layout.hpp>

namespace covey::detail {

/// This process has one share more of `role`. Throws std::length_error when too many processes have one.
void enter_role(const queue_view& q, queue_role role);

/// One share less; whether that was the last of all processes, so that others are to be woken.
bool leave_role_of(const queue_view& q, queue_role role);

/// Processes that died have no role any more.
void strike_dead_roles(const queue_view& q);

}  // namespace covey::detail
