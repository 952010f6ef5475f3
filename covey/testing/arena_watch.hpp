/// @file
/// arena_watch: whether anybody's shared memory changed since the last look.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace covey::testing {

/// Compares all shared memory of the family with what it was, byte by byte, also regions that this process does not
/// hold. Some microseconds a look, and more the more memory is in use.
class arena_watch {
 public:
  /// Remembers what is there now.
  arena_watch() { (void)changed(); }

  /// Whether a byte is different from what it was at the last look; remembers what is there now.
  bool changed();

 private:
  struct extent {
    std::uint64_t begin, end;
    bool operator==(const extent&) const = default;
  };
  std::vector<extent> extents_, extents_now_;
  std::vector<std::byte> bytes_, bytes_now_;  // of the extents, one after the other, and what is left of longer ones
};

}  // namespace covey::testing
