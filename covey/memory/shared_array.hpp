/// @file
/// shared_array: many elements of one type in shared memory, seen as a std::span.
#pragma once

#include <covey/memory/memory_left.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <limits>
#include <span>

namespace covey {

/// How make_shared_array() makes it.
struct shared_array_options {
  /// In pages of 2 MiB where the system gives them to shared memory; otherwise in ordinary ones: see
  /// shared_array::why_no_huge_pages().
  bool huge_pages = false;

  /// Its pages are cleared and mapped when it is made, for who writes all of them alone, at once: a quarter less than a
  /// page fault for each. Otherwise they are only reserved, which takes a quarter of that, and each is cleared by whom
  /// it is first touched by: where several fill it, all of them do so at the same time.
  bool populate = false;
};

template <class T>
class shared_array;
template <class T>
class read_only;
template <class T>
shared_array<T> make_shared_array(std::size_t size, const shared_array_options& options = {});

/// A fixed number of elements that several processes share, at the same address in all. Its memory is reserved when it
/// is made: touching it never fails.
///
/// Handle:  a copy is the same elements; give it to any task, process or message.
/// Safety:  thread-compatible, the handle and each element: lock what several use, or make the elements atomic.
/// Death:   a holder killed at any instruction costs nobody else the elements.
/// Design:  docs/design/memory.md
template <class T>
class shared_array {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;  ///< of the elements
  using iterator = T*;  ///< through the elements

  /// No elements.
  shared_array() noexcept = default;

  /// All of them, as long as this or another copy of it lives. Throws memory_damaged when this lies in shared memory
  /// and was written over.
  [[nodiscard]] std::span<T> span() const {
    std::byte* const base = region_.data();
    if (base == nullptr) return {};
    const std::size_t count = size();
    if (detail::in_arena(this) && count > room_in(region_.size()))
      throw memory_damaged("covey: a shared_array in shared memory was written over");
    return {detail::object_in<T>(base), count};
  }

  /// How many.
  [[nodiscard]] std::size_t size() const noexcept {
    return std::atomic_ref(const_cast<std::size_t&>(size_)).load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }  ///< whether there are none
  [[nodiscard]] T* data() const { return span().data(); }  ///< the first
  T& operator[](std::size_t i) const { return span()[i]; }  ///< element `i`, which must exist
  [[nodiscard]] iterator begin() const { return data(); }  ///< the first
  /// Behind the last.
  [[nodiscard]] iterator end() const {
    const auto all = span();
    return all.data() + all.size();
  }

  /// Whether both are the same elements, not equal ones.
  bool operator==(const shared_array& other) const noexcept { return region_ == other.region_; }

  /// Why the elements cannot be in huge pages on this machine; empty when they are, if that was asked for.
  [[nodiscard]] static std::string why_no_huge_pages() { return detail::why_no_huge_pages(); }

  /// For covey.
  void encode_handle(detail::encoder& out) const {
    region_.encode(out);
    detail::encode(out, std::uint64_t{size()});
  }
  /// For covey.
  static shared_array decode_handle(detail::decoder& in) {
    detail::region memory = detail::decode_root(in, detail::type_number<T[]>());
    const auto count = detail::decode<std::uint64_t>(in);
    if (memory ? count > room_in(memory.size()) : count != 0)
      throw bad_message("covey: a message tells a wrong size of a shared array");
    return {std::move(memory), count};
  }

 private:
  friend shared_array make_shared_array<T>(std::size_t size, const shared_array_options& options);
  template <class>
  friend class read_only;

  shared_array(detail::region memory, std::size_t size) : region_(std::move(memory)), size_(size) {}

  static constexpr std::size_t room_in(std::uint64_t bytes) noexcept {
    return (bytes - detail::object_offset<T>) / sizeof(T);
  }

  detail::region region_;
  std::size_t size_ = 0;
};

/// Makes `size` elements, all T(), in shared memory of their own. Throws std::system_error when there is not so much
/// memory, in the machine, in the container or in covey's address space (16 TiB).
template <class T>
shared_array<T> make_shared_array(std::size_t size, const shared_array_options& options) {
  static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::is_default_constructible_v<T>,
                "covey: the elements of a shared array are made by T()");
  static_assert(std::is_trivially_destructible_v<T>,
                "covey: elements with a destructor are for make_shared<covey::vector<T>>");
  static_assert(alignof(T) <= detail::page_bytes, "covey: no alignment above a page");
  if (size > std::numeric_limits<std::size_t>::max() / 2 / sizeof(T)) throw std::bad_array_new_length();
  // Fresh pages are zero, and so are most first values: these need not be touched.
  constexpr bool zeros = std::is_trivially_default_constructible_v<T>;
  detail::region memory = detail::make_root({.object_bytes = detail::object_offset<T> + size * sizeof(T),
                                             .type = detail::type_number<T[]>(),
                                             .with_heap = false,
                                             .huge_pages = options.huge_pages,
                                             .populate = options.populate || !zeros});
  auto* const first = reinterpret_cast<T*>(memory.data() + detail::object_offset<T>);
  if constexpr (!zeros) std::uninitialized_value_construct_n(first, size);
  return {std::move(memory), size};
}

}  // namespace covey
