/// @file
/// This process as a member of its family: its name, its view of the ledger, its line to the keeper.
/// docs/design/identity.md tells the whole.
#pragma once

#include <covey/base/result.hpp>
#include <covey/base/unique_fd.hpp>
#include <covey/memory/ledger.hpp>
#include <span>
#include <string>
#include <vector>

namespace covey::detail {

/// What a process knows of its family. Written before `main` and when a process starts, then constant but for the parts
/// that family.cpp guards.
struct family_view {
  ledger* book = nullptr;  // read-only, but in keepers. A child forked past covey still reads it, and takes no part
  bool takes_part = false;
  std::byte* cells = nullptr;  // processes_max * cells_bytes; own part writable
  std::byte* arena = nullptr;
  std::uint64_t arena_bytes = 0;
  int arena_fd = -1;
  int lobby_fd = -1;  // to send one end of a fresh connection to the keeper
  std::uint64_t lobby_identity = 0;
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
};

/// The own view. It takes no part when the family could not be founded; then family_check() throws why.
extern family_view family;

/// As family_check(), which sees that it takes no part.
void found_late_or_throw();

/// Throws std::system_error when this process takes part in no family: the program was linked without covey's link
/// option and already has threads, or the system refused something, or it was forked past covey. Founds one if it is
/// not too late.
inline void family_check() {
  if (!family.takes_part) found_late_or_throw();
}

/// Whether another thread of this process runs. One that was joined, and that the kernel still lists, does not.
bool has_other_threads();

/// This process.
inline process_id this_process_id() { return make_process_id(family.slot, family.generation); }

/// The name under which this thread holds locks; 0 until the first call of this_name().
extern constinit thread_local participant thread_name;

/// How many lock words this thread owns, and messages it was lent to read: when it ends with one, the family is told as
/// of a death.
extern constinit thread_local std::uint32_t locks_owned;

/// Gives this thread a name; throws std::system_error(EAGAIN) when threads_max threads of this process have one.
participant enlist_this_thread();

/// The name under which this thread holds locks.
inline participant this_name() { return thread_name != 0 ? thread_name : enlist_this_thread(); }

/// Gives this thread a name if it has none, and few threads (an eighth of threads_max) have one: those who need one
/// shall find one. False when it has none, and in a process that takes part in no family.
bool enlist_to_be_seen() noexcept;

/// Whether this process was forked from a member past covey: what its memory says that it owns is the parent's. What it
/// can still read stays mapped, so that looking does no harm; whatever acts for a participant asks first.
inline bool is_forked_past() noexcept { return thread_name == 0 && !family.takes_part; }

/// Whether the thread `name` (flags are ignored) can still act. Two loads; never blocks. A name that nobody ever had is
/// dead.
bool alive(participant name) noexcept;

/// Whether a thread that lives or has lived can be called `name`. Of random bits, few can.
bool may_have_lived(participant name) noexcept;

/// Whether process `id` is alive (or about to start).
bool process_alive(process_id id) noexcept;

/// As may_have_lived(), of a process.
bool process_may_have_lived(process_id id) noexcept;

/// Whether process `id` has not ended: it is alive, or runs another program since.
bool process_runs(process_id id) noexcept;

/// The pages of a process slot.
inline process_cells& cells_of(std::uint32_t slot) {
  return *reinterpret_cast<process_cells*>(family.cells + std::size_t{slot} * cells_bytes);
}

/// Ends this thread's name, so that what it still holds reads as held by the dead. At thread exit by itself, after the
/// destructors of all thread_local objects.
void dismiss_this_thread() noexcept;

/// `f` runs in each thread that is dismissed, while it still has its name; for the first four callers.
void before_dismissal(void (*f)() noexcept) noexcept;

// ---- founding, in family.cpp ---------------------------------------------------------------------------------------

/// Descriptors that only keepers keep.
struct keeper_descriptors {
  int ledger_fd = -1;
  int cells_fd = -1;
  int lobby_in_fd = -1;
  int life_fd = -1;  // read end of the top's life pipe
};

/// Becomes member `slot`: read-only ledger and cells, own cells writable; closes the keeper's descriptors.
void become_member(std::uint32_t slot, std::uint64_t generation, const keeper_descriptors& keys) noexcept;

/// Maps the own cells writable through `cells_fd` after a fork of a member.
result<void> become_forked_member(std::uint32_t slot, std::uint64_t generation, int cells_fd) noexcept;

/// The read end of this process's life pipe, to be given to those it starts; made at the first call.
result<int> life_pipe_for_children();

/// Lets the kernel kill this process when the other end of `life_fd` is closed. Ends it at once if that has happened
/// already.
result<void> die_with(int life_fd) noexcept;

// ---- the line to the keeper, in keeper_line.cpp --------------------------------------------------------------------

enum class keeper_op : std::uint32_t {
  hello,
  make_region,
  hold,
  drop,
  release,
  carry,
  attach,
  detach,
  start,
  adopt,
  adopted,
  forget,
  thread_died,
  report_damage,
  sync
};

struct keeper_request {
  keeper_op op;
  std::uint32_t fd_count;
  std::uint64_t sequence;
  std::uint64_t values[6];
};

struct keeper_reply {
  std::uint64_t sequence;
  std::int32_t error;  // errno, 0 is success
  std::uint32_t fd_count;
  std::uint64_t values[4];
};

struct keeper_answer {
  std::uint64_t values[4];
  unique_fd fd;
};

/// Asks the keeper and waits for its answer (two wakes, about 15 µs). Repeats itself when the keeper is replaced.
result<keeper_answer> ask_keeper(keeper_op op, std::span<const std::uint64_t> values, std::span<const int> fds = {});

/// Tells the keeper; does not wait. Kept until answered, so that a replaced keeper hears it too.
void tell_keeper(keeper_op op, std::span<const std::uint64_t> values) noexcept;

/// Forgets the connection of the process from which this one was forked.
void reset_keeper_line() noexcept;

// ---- the keeper, in keeper.cpp -------------------------------------------------------------------------------------

/// In values[0] of keeper_op::start: SIGTERM stays blocked until the worker can turn it into a request to stop.
inline constexpr std::uint64_t start_with_sigterm_blocked = 1;

/// What a starting worker is given.
struct child_start {
  unique_fd payload;  // a memfd: what to run
  std::vector<unique_fd> fds;  // stdin, stdout, stderr, working directory, then the caller's own
  std::uint64_t values[2];
};

/// What a worker runs after it became a member; never returns. Set by covey/process before main.
extern void (*child_main)(child_start& start);

/// Guard and keeper, in a child of the top; never returns.
[[noreturn]] void guard_the_family(const keeper_descriptors& keys) noexcept;

}  // namespace covey::detail
