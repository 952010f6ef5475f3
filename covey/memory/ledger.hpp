/// @file
/// The ledger: what the keeper knows of the family, readable by all and writable by the keeper alone.
/// States and reasons: docs/design/identity.md and memory.md.
#pragma once

#include <sys/resource.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace covey::detail {

inline constexpr std::uint32_t processes_max = 4096;      // bits 10..21 of a name
inline constexpr std::uint32_t threads_max = 1000;        // of one process; bits 0..9 of a name
inline constexpr std::uint32_t regions_max = 1U << 20;
inline constexpr std::uint32_t edges_max = 1U << 21;
inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::size_t huge_page_bytes = 2 << 20;

// ---- processes -----------------------------------------------------------------------------------------------------

/// `elsewhere`: its pid runs another program since (exec). It takes part in nothing any more, and has not ended.
enum class process_phase : std::uint8_t { free, starting, alive, dead, elsewhere };

/// A process of the family. Valid while `state` holds the same generation.
struct process_entry {
  std::atomic<std::uint64_t> state;  // generation << 8 | phase; release: pairs with acquire in readers
  std::atomic<std::uint64_t> runs_as;      // pid | generation << 32: two write it, and one of them may come late
  std::atomic<std::int32_t> wait_status;   // as waitpid gives it; valid when dead and status_known
  std::atomic<std::uint32_t> status_known;
  std::atomic<std::uint32_t> parent;       // slot of the logical parent
  std::atomic<std::uint64_t> parent_generation;
  std::atomic<std::uint64_t> made_by;      // sequence number of the parent's request
  std::atomic<std::uint64_t> last_request; // highest sequence number done for this process
  std::atomic<std::uint32_t> forgotten;    // the parent will not ask any more
  std::atomic<std::uint32_t> foreign;      // not the keeper's child: watched by pidfd
  std::atomic<std::uint64_t> started_ns;   // CLOCK_MONOTONIC
  std::atomic<std::uint64_t> cpu_us;       // user + system, when dead
  std::atomic<std::uint64_t> peak_bytes;   // resident, when dead
  char name[32];
};

inline constexpr std::uint64_t runs_as_of(std::uint64_t generation, std::int32_t pid) {
  return generation << 32 | static_cast<std::uint32_t>(pid);
}
inline std::int32_t pid_of(const process_entry& e) {  // 0: nobody knows it yet
  return static_cast<std::int32_t>(e.runs_as.load(std::memory_order_relaxed) & 0xffff'ffff);
}

inline constexpr std::uint64_t generation_of(std::uint64_t state) { return state >> 8; }
inline constexpr process_phase phase_of(std::uint64_t state) { return static_cast<process_phase>(state & 0xff); }
inline constexpr std::uint64_t state_of(std::uint64_t generation, process_phase phase) {
  return generation << 8 | static_cast<std::uint64_t>(phase);
}

// ---- regions and references ----------------------------------------------------------------------------------------

/// A run of pages of the arena. Its id is index | generation << 32; an odd generation is in use.
struct region_entry {
  std::atomic<std::uint32_t> generation;
  std::uint32_t kind;
  std::uint64_t offset;  // in the arena, bytes
  std::uint64_t bytes;
  std::uint64_t made_for;  // process id (slot | generation << 32) of the creator
  std::uint64_t made_by;   // its request
  std::uint64_t type;      // of an object, as its maker said
  std::uint64_t destroy;   // of an object: the address of what destroys it, or 0
  std::atomic<std::uint32_t> damaged;  // a holder said so; for as long as the generation
  std::atomic<std::uint32_t> ending;   // its last holder was told that it is the last, and destroys the object
  std::atomic<std::uint32_t> left_by_the_dead;  // a holder died: an object may be torn, and is not destroyed any more
  std::atomic<std::uint32_t> kept;  // a reference to it found no room here: it stays until the family ends
};

/// `from`, or its message of that number, holds `count` references to region `to`. In use when `to` is not 0.
struct edge_entry {
  std::uint64_t from;
  std::uint64_t message;  // 0: `from` itself
  std::atomic<std::uint64_t> to;
  std::int64_t count;
};

/// Kinds of `edge_entry::from`: a process that maps the region, a process being started whose arguments name it, a
/// region.
inline constexpr std::uint64_t edge_from_process = 1ULL << 63;
inline constexpr std::uint64_t edge_from_arguments = 1ULL << 62;

struct ledger {
  std::atomic<std::uint32_t> deaths;  // futex: raised at each death; all sleepers of the family sleep on it too
  std::atomic<std::int32_t> keeper_pid;
  std::atomic<std::int32_t> guard_pid;
  std::atomic<std::uint32_t> regions_used;  // entries ever used: a bound for scans
  std::atomic<std::uint32_t> edges_used;
  std::atomic<std::uint32_t> keepers;  // how many keepers there have been
  alignas(page_bytes) process_entry processes[processes_max];
  alignas(page_bytes) region_entry regions[regions_max];
  alignas(page_bytes) edge_entry edges[edges_max];
};

// ---- cells: each process its own -----------------------------------------------------------------------------------

enum class last_words_kind : std::uint32_t { none, signal, exception, code };

/// What a dying process leaves: written by itself, valid when `kind` is not none.
struct last_words {
  std::atomic<last_words_kind> kind;  // release: after all below; pairs with acquire in the reader
  std::int32_t number;  // the signal, or the exit code
  std::uint64_t address;
  std::uint32_t frame_count;
  std::uint32_t text_bytes;
  std::uint64_t frames[64];
  char text[32 * 1024];  // an encoded exception
};

inline constexpr std::size_t cells_bytes = 128 * 1024;

/// For which lock a thread sleeps, told by itself when the lock was made to look for deadlocks. docs/design/sync.md.
struct lock_wait {
  std::atomic<std::uint64_t> who;  // the thread's own name: what a predecessor in the cell left is not meant
  std::atomic<std::uint64_t> on;  // the owner that it waits for
  std::atomic<std::uint64_t> since_ns;  // CLOCK_MONOTONIC
  std::atomic<std::uint32_t> lock;  // number of the lock; 0 when it does not wait
  std::atomic<std::uint32_t> epoch;  // odd while the fields above change
  std::atomic<std::uint32_t> on_releases;  // the owner's `releases` when the lock was seen in its hands
  std::atomic<std::uint32_t> releases;  // raised before this thread gives up such a lock
};

/// An offset in the arena has so many bits: 16 TiB.
inline constexpr unsigned arena_bits = 44;

/// On what a thread sleeps, for inspect: the generation of its process, and where in the arena the word is; 0 when it
/// does not sleep. What the dead left there has another generation than the process that lives in their place.
inline constexpr std::uint64_t sleep_note(std::uint64_t generation, std::uint64_t offset) {
  return generation << arena_bits | offset;
}
inline constexpr std::uint64_t sleep_offset(std::uint64_t note) { return note & ((1ULL << arena_bits) - 1); }

/// On so many words threads of one process that wait for several things are shown to sleep, all together. A note of
/// theirs tells the page in which the word lies, and in the lower bits, the same for all words of one sleep, where the
/// first of them stands.
inline constexpr std::uint32_t more_sleeps_max = 256;
inline constexpr std::uint64_t more_sleep_note(std::uint64_t generation, std::uint64_t offset, std::uint32_t first) {
  return sleep_note(generation, offset / page_bytes * page_bytes + first);
}
static_assert(more_sleeps_max <= page_bytes);

/// The pages that one process may write and all may read.
struct process_cells {
  std::atomic<std::uint32_t> thread_generation[threads_max + 1];
  std::atomic<std::uint32_t> sleeps_used;  // ever, by whom ever: a bound for who looks
  std::atomic<std::uint64_t> sleeps[threads_max];  // sleep_note() of each thread
  std::atomic<std::uint32_t> more_sleeps_used;  // as sleeps_used
  std::atomic<std::uint64_t> more_sleeps[more_sleeps_max];  // more_sleep_note(), in any order
  lock_wait waits[threads_max];
  alignas(page_bytes) last_words last;
};
static_assert(sizeof(process_cells) <= cells_bytes);

// ---- names of participants -----------------------------------------------------------------------------------------

/// A participant, as in docs/design/identity.md; 0 is nobody.
using participant = std::uint64_t;

inline constexpr std::uint64_t name_waiters = 1ULL << 31;
inline constexpr std::uint64_t name_unrepaired = 1ULL << 30;
inline constexpr std::uint64_t name_flags = name_waiters | name_unrepaired;
inline constexpr std::uint64_t process_generation_mask = (1ULL << 20) - 1;
inline constexpr std::uint64_t thread_generation_mask = (1ULL << 12) - 1;

inline constexpr participant make_name(std::uint32_t slot, std::uint64_t generation, std::uint32_t cell,
                                       std::uint32_t cell_generation) {
  return (generation & process_generation_mask) << 44 | (cell_generation & thread_generation_mask) << 32 |
         static_cast<std::uint64_t>(slot) << 10 | (cell + 1);
}
inline constexpr std::uint32_t slot_of(participant name) { return name >> 10 & (processes_max - 1); }
inline constexpr std::uint32_t cell_of(participant name) { return static_cast<std::uint32_t>(name & 1023) - 1; }

/// A process: slot | generation << 32.
using process_id = std::uint64_t;
inline constexpr process_id make_process_id(std::uint32_t slot, std::uint64_t generation) {
  return generation << 32 | slot;
}
inline constexpr std::uint32_t slot_of_process(process_id id) { return static_cast<std::uint32_t>(id); }
inline constexpr std::uint64_t generation_of_process(process_id id) { return id >> 32; }

}  // namespace covey::detail
