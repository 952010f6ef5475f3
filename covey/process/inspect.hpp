/// @file
/// inspect: what exists in the family, as seen by one of its processes.
#pragma once

#include <chrono>
#include <covey/base/codec.hpp>
#include <covey/base/travel.hpp>
#include <covey/memory/notes.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace covey {

/// A process of the family, or one that ended and that its parent may still ask for.
struct process_info {
  std::int64_t pid = 0;          ///< as the system numbers it; 0 while it is being started
  std::int64_t parent = 0;       ///< the pid of the one that started it; 0 for the program itself
  std::string name{};            ///< process_options::name; "top" for the program itself
  std::string state{};           ///< "starting", "alive", "dead", or "exec": it runs another program
  std::chrono::nanoseconds age{};  ///< since its start
};

/// Who holds a region, and so keeps it; or who has something of it in hand, or waits.
struct holder_info {
  std::int64_t pid = 0;      ///< a process; 0 for a region
  std::uint64_t region = 0;  ///< a shared object or a message in a queue, by the id of its region; 0 for a process
  std::int64_t count = 0;    ///< references; or messages, permits, threads
};

/// A piece of shared memory: an object, a lock, a queue.
struct region_info {
  std::uint64_t id = 0;     ///< never used again
  std::string kind{};       ///< "object", "mutex", "queue", …
  std::uint64_t bytes = 0;  ///< of address space; its pages take memory as they are committed
  bool damaged = false;     ///< somebody wrote over it
  bool left_by_the_dead = false;  ///< a holder was killed: what lies in it may be torn
  std::vector<std::string> names{};  ///< as living processes named it, see name_object()
  std::vector<holder_info> holders{};  ///< in no order
  /// Living processes, and how many of their threads sleep for something that lies in it: to lock it, to get, for room,
  /// …, for it among others in wait_any(), or will awake at once. Some are seen only after 10 ms of sleep; not each of
  /// more than 125 threads of a process is, nor of more than 256 things that its threads wait for in wait_any(); and
  /// who sleeps on the descriptor of a pollable is not.
  std::vector<holder_info> waiters{};
};

/// The memory of a shared object (make_shared, make_shared_array) that this process holds.
struct object_info {
  std::uint64_t region = 0;  ///< its region
  std::uint64_t used = 0;  ///< bytes that its containers have allocated, also what nothing points to
  std::uint64_t committed = 0;  ///< bytes of memory that it takes, its own included
  /// Bytes of no use to anybody, because processes were killed while they had them in hand inside an allocator, before
  /// they had linked them in a container, or after they had unlinked them. As covey::stranded_bytes(), without its
  /// lock: nothing when somebody was changing the heap, more than 50,000 blocks are free, or more than 64 MiB would
  /// have to be searched in all objects together.
  std::optional<std::uint64_t> stranded_bytes{};
};

/// A queue, priority_queue or lifo_queue that this process holds. A pipe is two queues.
struct queue_info {
  std::uint64_t region = 0;  ///< its region
  std::string kind{};  ///< "queue", "priority_queue" or "lifo_queue"
  std::size_t capacity = 0;  ///< items that may wait
  std::size_t waiting = 0;  ///< items that wait, counted one by one while others put and get
  std::size_t failed = 0;  ///< items set aside, see get_failed()
  std::uint64_t put = 0;  ///< places given to messages since it was made; rates() of two snapshots divides it by time
  std::uint64_t got = 0;  ///< of these, those that neither wait, nor are set aside, nor in anybody's hand: the same
  bool closed = false;  ///< somebody closed it
  std::uint32_t getters = 0;  ///< threads that sleep for a message; who timed out or was killed counts until the next
                              ///< message, and wait_any() does not count
  std::uint32_t putters = 0;  ///< the same of threads that sleep for room
  std::vector<holder_info> in_flight{};  ///< messages in the hands of processes
};

/// One subscription to a broadcast.
struct subscriber_info {
  std::uint64_t region = 0;  ///< its region, in snapshot::regions too
  std::uint64_t behind = 0;  ///< messages put that it has not got, kept or not
  std::uint64_t missed = 0;  ///< messages that it knows it will never get
  std::vector<holder_info> holders{};  ///< whose it is; more than one when a handle was copied
};

/// A broadcast that this process holds, or subscribed to.
struct broadcast_info {
  std::uint64_t region = 0;  ///< its region
  std::size_t capacity = 0;  ///< messages that are kept at most
  std::size_t kept = 0;  ///< messages that are kept now
  std::uint64_t put = 0;  ///< messages put since it was made
  bool closed = false;  ///< somebody closed it
  std::vector<subscriber_info> subscribers{};  ///< in no order
};

/// A mutex, recursive_mutex or shared_mutex that this process holds a handle of.
struct lock_info {
  std::uint64_t region = 0;  ///< its region
  std::string kind{};  ///< "mutex", "recursive_mutex" or "shared_mutex"
  std::int64_t owner = 0;  ///< pid of the process that has it locked alone; 0 when none does
  std::vector<holder_info> readers{};  ///< of a shared_mutex: processes, and how many of their threads share it
  bool waited_for = false;  ///< somebody sleeps for it, or did when its owner took it; or was killed in his sleep. Who
                            ///< does is in region_info::waiters
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
  std::string kind{};  ///< as in the table
  std::int64_t value = 0;  ///< as in the table
  std::int64_t of = 0;  ///< as in the table
  /// Threads that sleep. Counted: the killed stay counted, and wait_any() is not; region_info::waiters says more.
  std::optional<std::int64_t> waiters{};
  std::vector<holder_info> held_by{};  ///< living processes
  bool broken = false;  ///< of a barrier: a party died, or threw where it ended a phase
};

/// Memory that a process found or made by name (open_or_create, create, attach). Who of other families holds it too is
/// not known.
struct named_info {
  std::int64_t pid = 0;  ///< of this family, by whom it is held
  std::string name{};  ///< its first 47 bytes; after "UID/" when it is another user's
  std::uint64_t bytes = 0;  ///< of memory
};

/// What a process says of itself, see inspect_entry.
struct entry_info {
  std::int64_t pid = 0;  ///< whose
  std::string name{};  ///< as it was given
  std::optional<std::int64_t> number{};  ///< nothing when it is a text
  std::string
      text{};  ///< empty when it is a number, or was being changed (and stays so if its writer is stopped there)
};

/// What there was. Each entry is right for one instant; entries are of different instants.
struct snapshot {
  std::chrono::steady_clock::time_point taken_at{};  ///< when the look began; all processes have the same clock
  std::vector<process_info> processes{};  ///< all
  std::vector<region_info> regions{};  ///< all of the family, also those that this process cannot look into
  std::vector<object_info> objects{};  ///< those that this process holds, and that are sound
  std::vector<queue_info> queues{};  ///< those that this process holds, and that are sound
  std::vector<broadcast_info> broadcasts{};  ///< those that this process holds, and that are sound
  std::vector<lock_info> locks{};  ///< those that this process holds
  std::vector<count_info> counts{};  ///< the other things of `sync` that this process holds
  std::vector<named_info> named{};  ///< of all living processes, in no order
  std::vector<entry_info> entries{};  ///< of all living processes
  std::uint64_t bytes_in_use = 0;  ///< memory that the family's shared memory takes
};

/// Looks. Waits for nobody: neither for a lock, nor for one who is stopped. Changes nothing that it looks at.
///
/// Safety: thread-safe. Death: of whom is being looked at leaves an entry of before or after.
/// Design: docs/design/inspect.md
snapshot inspect();

/// How fast a queue or a broadcast was between two snapshots.
struct rate_info {
  std::uint64_t region = 0;  ///< its region
  double put = 0;  ///< messages put in a second
  std::optional<double> got{};  ///< messages that left it in a second; nothing for a broadcast, which gives none away
};

/// Of each queue and each broadcast that is in both snapshots; of none when `after` was not taken later than `before`.
std::vector<rate_info> rates(const snapshot& before, const snapshot& after);

/// A line of one's own in each snapshot, as long as this lives: a name with a number or a short text.
///
///     covey::inspect_entry left("tickets left", 100);
///     left.set(99);
///
/// Safety: thread-safe, but for set() of a text: one thread at a time. set() costs a store or two, and no system call.
/// Death:  the entry goes with its process.
/// Limits: entries and named objects of a process together: 128, and 64 if it has as many named segments. Of a name 47
///         bytes are kept, of a text 167; whoever looks sees '?' for what is not printable ASCII.
/// Fork:   a child has none of its parent's entries; what it does to them does nothing.
class inspect_entry {
 public:
  /// Throws std::length_error when this process has too many, and std::system_error when there is no family.
  inspect_entry(std::string_view name, std::int64_t number) : note_(std::in_place, 0, name, number) {}
  /// The same, with a text.
  inspect_entry(std::string_view name, std::string_view text) : note_(std::in_place, 0, name, text) {}

  /// `other` is none any more.
  inspect_entry(inspect_entry&& other) noexcept : note_(std::exchange(other.note_, std::nullopt)) {}
  /// Its own entry ends.
  inspect_entry& operator=(inspect_entry&& other) noexcept {
    std::swap(note_, other.note_);
    return *this;
  }
  ~inspect_entry() {
    if (note_) note_->drop();
  }

  /// From now on it is this number.
  void set(std::int64_t number) noexcept {
    if (note_) note_->set(number);
  }
  /// From now on it is this text.
  void set(std::string_view text) noexcept {
    if (note_) note_->set(text);
  }

 private:
  std::optional<detail::own_note> note_;
};

namespace detail {
void name_regions(std::span<const std::uint64_t> ids, std::string_view name);
}

/// Names what `handle` names, a queue, a mutex, a shared_ptr, …, in the snapshots of all: as long as this process and
/// the object live, or until it gives it another name, or "". Each process may give its own name.
///
/// Both queues of a pipe have the name; of a subscriber it is the subscription. Limits as for inspect_entry; throws as
/// that does. Safety: thread-safe, but of two threads that name the same object at once both names may stay.
template <detail::handle_type Handle>
void name_object(const Handle& handle, std::string_view name) {
  detail::encoder out;
  detail::encode(out, handle);
  detail::name_regions(out.attachments, name);
}

/// A table for people.
std::string to_text(const snapshot& s);

/// One line of JSON, with the members' names. `taken_at` is in seconds of the steady clock.
std::string to_json(const snapshot& s);

}  // namespace covey
