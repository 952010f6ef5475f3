/// @file
/// What can be seen of the things of `sync` without touching them. docs/design/inspect.md.
#pragma once

#include <covey/memory/ledger.hpp>
#include <optional>
#include <vector>

namespace covey::detail {

/// Of a mutex, recursive_mutex or shared_mutex.
struct lock_sight {
  participant owner = 0;  // who has it alone, and lives
  std::vector<participant> readers{};
  bool waited_for = false;
  bool needs_recovery = false;
};

/// Of whatever else lies in `sync`; inspect.hpp's count_info tells what the numbers are of which kind.
struct count_sight {
  std::int64_t value = 0;
  std::int64_t of = 0;
  std::optional<std::int64_t> waiters{};
  std::vector<std::uint32_t> holders{};  // slots of processes, once for each thing that they hold
  bool broken = false;
};

/// Of the object with that region, which this process holds. Nothing when it holds it no longer, or it is of another
/// kind. Reads only, and not more than the state can hold: what somebody wrote over it makes wrong numbers, no harm.
std::optional<lock_sight> inspect_lock(std::uint64_t region_id);

/// The same of the others.
std::optional<count_sight> inspect_count(std::uint64_t region_id);

}  // namespace covey::detail
