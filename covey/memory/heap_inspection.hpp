/// @file
/// What can be seen of the heap of a shared object without its lock. docs/design/inspect.md.
#pragma once

#include <cstdint>
#include <optional>

namespace covey::detail {

struct heap_sight {
  std::uint64_t used = 0;       // bytes in blocks that were handed out
  std::uint64_t committed = 0;  // bytes of reserved pages, the root's own included
  std::optional<std::uint64_t> stranded{};  // as heap_usage::stranded; nothing when a living thread was changing the
                                            // heap, or too much would have to be searched
};

/// Of the region of kind object with that id. Nothing when there is none, or its heap was written over. Copies from the
/// arena's file: takes no reference, no lock and no page. Looks at no more than 50,000 free blocks, and searches no
/// more than `to_search` bytes for who points to what; takes from these how many it searched.
std::optional<heap_sight> inspect_heap(std::uint64_t region_id, std::uint64_t& to_search);

}  // namespace covey::detail
