/// @file
/// The roles of a queue: which processes read and write it. docs/design/queue.md.
#pragma once

#include <covey/ipc/queue_layout.hpp>

namespace covey::detail {

/// Where a queue keeps its roles: queue_flag bits, stored as checked_flags(), and a word for each process and role.
struct role_table {
  std::atomic<std::uint32_t>& flags;
  std::span<std::atomic<std::uint64_t>, role_holders_max> holders;
  std::uint64_t queue;  // its id
};

inline role_table roles_of(const queue_view& q) { return {q.header().flags, q.header().roles, q.id}; }

/// This process has one share more of `role`. Throws std::length_error when too many processes have one.
void enter_role(const role_table& roles, queue_role role);

/// One share less; whether that was the last of all processes, so that others are to be woken.
bool leave_role_of(const role_table& roles, queue_role role);

/// Processes that died have no role any more.
void strike_dead_roles(const role_table& roles);

}  // namespace covey::detail
