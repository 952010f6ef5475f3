/// @file
/// inspect: what exists in the family, as seen by one of its processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace covey {

/// A process of the family, or one that ended and that its parent may still ask for.
struct process_info {
  std::int64_t pid = 0;          ///< as the system numbers it; 0 while it is being started
  std::int64_t parent = 0;       ///< the pid of the one that started it; 0 for the program itself
  std::string name{};            ///< process_options::name; "top" for the program itself
  std::string state{};           ///< "starting", "alive" or "dead"
  std::chrono::nanoseconds age{};  ///< since its start
};

/// Who holds a region, and so keeps it.
struct holder_info {
  std::int64_t pid = 0;      ///< a process; 0 for a region
  std::uint64_t region = 0;  ///< a shared object or a message in a queue, by the id of its region; 0 for a process
  std::int64_t count = 0;    ///< references
};

/// A piece of shared memory: an object, a lock, a queue.
struct region_info {
  std::uint64_t id = 0;     ///< never used again
  std::string kind{};       ///< "object", "mutex", "queue", …
  std::uint64_t bytes = 0;  ///< of address space; its pages take memory as they are committed
  bool damaged = false;     ///< somebody wrote over it
  bool left_by_the_dead = false;  ///< a holder was killed: what lies in it may be torn
  std::vector<holder_info> holders{};  ///< in no order
};

/// A queue, priority_queue or lifo_queue that this process holds. A pipe is two queues.
struct queue_info {
  std::uint64_t region = 0;        ///< its region
  std::string kind{};              ///< "queue", "priority_queue" or "lifo_queue"
  std::size_t capacity = 0;        ///< items that may wait
  std::size_t waiting = 0;         ///< items that wait, counted one by one while others put and get
  std::size_t failed = 0;          ///< items set aside, see get_failed()
  std::uint64_t put = 0;           ///< places given to messages since it was made: two snapshots give a rate
  bool closed = false;             ///< somebody closed it
  std::vector<holder_info> in_flight{};  ///< messages in the hands of processes
};

/// One subscription to a broadcast.
struct subscriber_info {
  std::uint64_t region = 0;   ///< its region, in snapshot::regions too
  std::uint64_t behind = 0;   ///< messages put that it has not got, kept or not
  std::uint64_t missed = 0;   ///< messages that it knows it will never get
  std::vector<holder_info> holders{};  ///< whose it is; more than one when a handle was copied
};

/// A broadcast that this process holds, or subscribed to.
struct broadcast_info {
  std::uint64_t region = 0;  ///< its region
  std::size_t capacity = 0;  ///< messages that are kept at most
  std::size_t kept = 0;      ///< messages that are kept now
  std::uint64_t put = 0;     ///< messages put since it was made
  bool closed = false;       ///< somebody closed it
  std::vector<subscriber_info> subscribers{};  ///< in no order
};

/// A mutex, recursive_mutex or shared_mutex that this process holds a handle of.
struct lock_info {
  std::uint64_t region = 0;  ///< its region
  std::string kind{};        ///< "mutex", "recursive_mutex" or "shared_mutex"
  std::int64_t owner = 0;    ///< pid of the process that has it locked alone; 0 when none does
  std::vector<holder_info> readers{};  ///< of a shared_mutex: processes, and how many of their threads share it
  bool waited_for = false;   ///< somebody sleeps for it, or did when its owner took it; or was killed in his sleep
  bool needs_recovery = false;  ///< an owner died in its section and nobody has recovered it
};

/// Another thing of `sync` that this process holds a handle of:
///
/// kind                | value                    | of          | waiters               | held_by
/// --------------------|--------------------------|-------------|-----------------------|-----------------------------
/// event               | 1 when set               | 1           | 1 when anybody may be | -
/// semaphore           | its count                | -           | counted               | -
/// permits             | those that are free      | all         | counted               | who owns how many
/// latch               | what is left             | -           | counted               | -
/// barrier             | parties that arrived     | all parties | not known             | whose threads are parties
/// condition_variable  | -                        | -           | counted               | -
/// once_flag           | 1 when done              | 1           | 1 when anybody may be | who runs it now
/// guarded             | updates so far, mod 2^32 | -           | 1 when anybody may be | who updates now
struct count_info {
  std::uint64_t region = 0;  ///< its region
  std::string kind{};        ///< as in the table
  std::int64_t value = 0;    ///< as in the table
  std::int64_t of = 0;       ///< as in the table
  std::optional<std::int64_t> waiters{};  ///< threads that sleep. Counted: the killed stay counted, and wait_any is not
  std::vector<holder_info> held_by{};  ///< living processes
  bool broken = false;  ///< of a barrier: a party died, or threw where it ended a phase
};

/// What there was. Each entry is right for one instant; entries are of different instants.
struct snapshot {
  std::vector<process_info> processes{};  ///< all
  std::vector<region_info> regions{};  ///< all of the family, also those that this process cannot look into
  std::vector<queue_info> queues{};  ///< those that this process holds, and that are sound
  std::vector<broadcast_info> broadcasts{};  ///< those that this process holds, and that are sound
  std::vector<lock_info> locks{};  ///< those that this process holds
  std::vector<count_info> counts{};  ///< the other things of `sync` that this process holds
  std::uint64_t bytes_in_use = 0;  ///< memory that the family's shared memory takes
};

/// Looks. Waits for nobody: neither for a lock, nor for one who is stopped. Changes nothing that it looks at.
///
/// Safety: thread-safe. Death: of whom is being looked at leaves an entry of before or after.
/// Design: docs/design/inspect.md
snapshot inspect();

/// A table for people.
std::string to_text(const snapshot& s);

/// One line of JSON, with the members' names.
std::string to_json(const snapshot& s);

}  // namespace covey
