#include <covey/memory/shared_ptr.hpp>

#include <new>

namespace covey::detail {
namespace {

constexpr std::uint64_t mebibyte = 1 << 20;

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

// Address space for the containers of one root: 1 GiB of 16 TiB, and less where the arena is small.
std::uint64_t address_space_for_a_heap() {
  return std::min(family.arena_bytes / 64, std::max(family.arena_bytes / 16384, 64 * mebibyte));
}

}  // namespace

region make_root(std::size_t object_bytes, std::uint64_t type) {
  family_check();
  const std::uint64_t first = whole_pages(object_bytes);
  const std::uint64_t all = first + address_space_for_a_heap();
  region memory(region_request{.bytes = all, .committed = first, .kind = region_kind::object});
  auto* const made = reinterpret_cast<root*>(memory.data());
  new (&made->memory) heap(object_bytes, first, all);
  made->header.type = type;
  return memory;
}

region decode_root(decoder& in, std::uint64_t type) {
  region memory = region::decode(in, region_kind::object);
  if (memory && reinterpret_cast<root*>(memory.data())->header.type != type)
    throw bad_message("covey: a message names a shared object of another type");
  return memory;
}

}  // namespace covey::detail
