/// @file
/// What this process holds of the arena: how often, mapped how, and because of which handles in shared memory.
/// docs/design/memory.md.
#pragma once

#include <covey/memory/family.hpp>
#include <covey/memory/region.hpp>

namespace covey::detail {

/// What a reference of this process allows: the region is mapped writable while there is one that allows writing.
enum class access : std::uint8_t { write, read };

/// Whether `id` names a region that exists now, whatever bytes it was read from.
bool is_current(std::uint64_t id) noexcept;

/// The ledger's entry of a region; `id` must have been current.
inline const region_entry& entry_of(std::uint64_t id) noexcept {
  return family.book->regions[static_cast<std::uint32_t>(id)];
}

/// Maps what the keeper made for this process, which holds it from then on, once.
result<void> hold_made(std::uint64_t id);

/// Counts one more reference from private memory; the first one asks the keeper and maps.
result<void> take_locally(std::uint64_t id, access how = access::write);

/// As take_locally, unless nobody holds the region any more, or its last holder destroys what is in it. Whether it is
/// held.
bool take_if_held(std::uint64_t id);

/// Counts one more reference if this process counts one already. Asks nobody; false also for what is being made.
bool take_if_counted(std::uint64_t id);

/// One reference less. The last one of the family to an object runs its destructor.
void leave_locally(std::uint64_t id, access how = access::write) noexcept;

/// A handle at `handle` inside a region names `id`, and is used there: holds `id` until the handle has changed or the
/// region around it is given up. Throws memory_damaged when there is no such region.
void look_through(const void* handle, std::uint64_t id);

/// A handle that this process may look through was copied or moved within shared memory: who uses what it names goes
/// on.
void copy_look(const void* from, const void* to, std::uint64_t id) noexcept;

/// Ends what look_through() began for a handle. What it named, whose reference the caller has now; or 0.
std::uint64_t end_look(const void* handle) noexcept;

}  // namespace covey::detail
