#include <covey/memory/shared_ptr.hpp>

#include <algorithm>
#include <covey/base/check.hpp>
#include <covey/memory/heap_layout.hpp>
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

region make_root(const root_request& request) {
  family_check();
  const std::uint64_t first = whole_pages(request.object_bytes);
  // Without a heap: one that has no memory.
  const std::uint64_t blocks = heap_layout::round_up(request.object_bytes, heap_layout::granule);
  const std::uint64_t limit = request.with_heap ? first + address_space_for_a_heap() : blocks;
  const std::uint64_t all = std::max(first, limit) + heap_layout::starts_bytes(blocks, limit);
  region memory(region_request{.bytes = all,
                               .committed = first,
                               .kind = region_kind::object,
                               .type = request.type,
                               .destroy = request.destroy,
                               .huge_pages = request.huge_pages,
                               .populate = request.populate});
  auto* const made = reinterpret_cast<root*>(memory.data());
  new (&made->memory) heap(request.object_bytes, first, limit);
  return memory;
}

heap& heap_of(const void* p) {
  family_check();
  object_header* const around = object_around(p);
  COVEY_CHECK(around != nullptr, "the object lies in shared memory that this process holds");
  return reinterpret_cast<root*>(around)->memory;
}

bool holds_type(std::uint64_t region_id, std::uint64_t type) noexcept {
  const region_entry& r = family.book->regions[static_cast<std::uint32_t>(region_id)];
  return r.kind == static_cast<std::uint32_t>(region_kind::object) && r.type == type;
}

void check_type(std::uint64_t region_id, std::uint64_t type) {
  if (!holds_type(region_id, type)) throw bad_message("covey: a message names a shared object of another type");
}

region decode_root(decoder& in, std::uint64_t type) {
  region memory = region::decode(in, region_kind::object);
  if (memory) check_type(memory.id(), type);
  return memory;
}

}  // namespace covey::detail
