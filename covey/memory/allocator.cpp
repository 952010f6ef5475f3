#include <covey/memory/allocator.hpp>

#include <covey/base/check.hpp>

namespace covey::detail {

heap* default_heap(std::uintptr_t self) noexcept {
  if (object_header* const around = object_around(reinterpret_cast<const void*>(self)); around != nullptr)
    return &reinterpret_cast<root*>(around)->memory;
  return heap_being_filled;
}

void refuse_foreign_container() noexcept {
  COVEY_CHECK(false, "a container moved into shared memory has its elements there too: copy it instead");
  __builtin_unreachable();
}

}  // namespace covey::detail
