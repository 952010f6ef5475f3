/// @file
/// How guard and keeper learn of deaths and write them into the ledger. Every step may be repeated by the other.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <covey/memory/family.hpp>
#include <functional>

namespace covey::detail {

/// Raises the family's deaths and wakes all who sleep.
void wake_everybody();

int open_pidfd(pid_t pid);

/// The live entry of `pid`, or nullptr. Slow, for the guard; the keeper has an index.
process_entry* find_process(pid_t pid);

/// Whether `pid` runs a program that is no member of this family: it has memory, in which there is no ledger. False
/// when that cannot be seen, as of one that is ending.
bool runs_another_program(pid_t pid, int ledger_fd);

/// It was seen to run another program. As mark_dead(), but that its pid lives.
bool mark_elsewhere(process_entry& e, std::uint64_t state);

/// `state` is what the caller knows the entry by. False: the other of guard and keeper was first, and the entry may
/// have another tenant by now.
bool mark_dead(process_entry& e, std::uint64_t state);

/// The parent of `pid`; 0 when there is no such process.
pid_t parent_of(pid_t pid);

/// Writes what became of each ended child into the ledger, then reaps it. `find` gives the entry of a pid or nullptr.
/// False when `special` was among them.
bool reap_children(pid_t special, const std::function<process_entry*(pid_t)>& find,
                   const std::function<void(process_entry&)>& on_death);

}  // namespace covey::detail
