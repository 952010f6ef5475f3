/// @file
/// shared_ptr: an object in shared memory, at the same address in every process that holds it.
#pragma once

#include <algorithm>
#include <covey/memory/allocator.hpp>
#include <memory>
#include <typeinfo>
#include <utility>

namespace covey {

template <class T>
class shared_ptr;
template <class T, class... Args>
shared_ptr<T> make_shared(Args&&... args);

namespace detail {

/// Where the object lies in its region.
template <class T>
inline constexpr std::size_t object_offset = (sizeof(root) + alignof(T) - 1) / alignof(T) * alignof(T);

template <class T>
T* object_in(std::byte* base) noexcept {
  return std::launder(reinterpret_cast<T*>(base + object_offset<std::remove_const_t<T>>));
}

/// Does nothing when the heap around the object was written over: its containers cannot be trusted either.
template <class T>
void destroy_in(std::byte* base) noexcept {
  if (reinterpret_cast<root*>(base)->memory.sound_approx()) std::destroy_at(object_in<T>(base));
}

/// What destroys a T in its region; nullptr when nothing need be done.
template <class T>
constexpr auto destroyer() noexcept {
  void (*destroy)(std::byte*) noexcept = nullptr;
  if constexpr (!std::is_trivially_destructible_v<T>) destroy = &destroy_in<T>;
  return destroy;
}

/// A number for a type, the same in every process of the program.
template <class T>
std::uint64_t type_number() noexcept {
  static const std::uint64_t number = typeid(std::remove_const_t<T>).hash_code();
  return number;
}

/// The heap of the root in which `p` lies.
heap& heap_of(const void* p);

/// What make_root() makes a region for.
struct root_request {
  std::size_t object_bytes;  // from the region's first byte to the object's end
  std::uint64_t type;
  void (*destroy)(std::byte* base) noexcept = nullptr;
  bool with_heap = true;  // room for what containers will hold
  bool huge_pages = false;
  bool populate = true;  // it is written as soon as it is made
};

/// A region whose first pages hold a root and room for the object; its heap is empty.
region make_root(const root_request& request);

/// Whether the region of kind object, held by this process, holds a T of that number.
bool holds_type(std::uint64_t region_id, std::uint64_t type) noexcept;

/// Refuses what was encoded when it holds another type than `type`: throws bad_message.
void check_type(std::uint64_t region_id, std::uint64_t type);

/// The region of kind object that was encoded. Throws bad_message when it is gone or holds another type.
region decode_root(decoder& in, std::uint64_t type);

}  // namespace detail

/// A pointer to an object that several processes share, and that lives as long as anybody holds it.
///
/// The holder may be a process, a message on its way, or another shared object in which the pointer lies. When the last
/// pointer of the whole family is destroyed by a live process, that process runs the object's destructor; when the
/// last holder dies or is freed as a whole (a killed process, a queue with messages), the memory goes without it. There
/// is no use_count: what other processes hold can change before it is returned. Objects that hold each other are never
/// freed while the family lives, as with std::shared_ptr. There is no pointer to a base or a member, and no cast: which
/// type a region was made for is all that a process can check of a pointer that others give it.
///
/// A pointer that lies in a shared object may be used in place, under the lock of that object; copy it to use it
/// longer.
///
/// Handle:  a copy points at the same object; give it to any task, process or message.
/// Safety:  thread-compatible, the pointer and the object: lock what several use, with a covey::mutex.
/// Death:   a holder killed at any instruction costs nobody else the object. But it may be torn: if nobody repairs it
///          (see mutex::recover, guarded), it holds what a change left that was cut in two. Its destructor does not
///          run any more: the memory, with that of its containers, goes as a whole, and so do the references in it.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/memory.md. Example: examples/tour_05_shared.cpp
template <class T>
class shared_ptr {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using element_type = T;  ///< what it points at

  /// Points at nothing.
  shared_ptr() noexcept = default;

  /// Points at nothing.
  shared_ptr(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor): as std

  /// From a pointer to the same object that may change it.
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  shared_ptr(const shared_ptr<U>& other)  // NOLINT(google-explicit-constructor): as std
      : region_(other.region_), object_(here()) {}

  shared_ptr(const shared_ptr& other) : region_(other.region_), object_(here()) {}  ///< the same object

  /// Leaves nothing behind.
  shared_ptr(shared_ptr&& other) : region_(std::move(other.region_)), object_(here()) { other.object_ = nullptr; }

  /// The same object; lets go of the one before.
  shared_ptr& operator=(shared_ptr other) noexcept {
    object_ = nullptr;
    region_ = std::move(other.region_);
    object_ = here();
    return *this;
  }

  ~shared_ptr() = default;

  /// Lets go of the object.
  void reset() noexcept { *this = shared_ptr(); }

  /// The object, or nullptr. Throws memory_damaged when this lies in shared memory and was written over.
  [[nodiscard]] T* get() const { return detail::in_arena(this) ? object_of(region_) : object_; }

  /// The object; there must be one.
  T& operator*() const { return *get(); }
  /// The object; there must be one.
  T* operator->() const { return get(); }

  /// Whether it points at an object.
  explicit operator bool() const noexcept { return static_cast<bool>(region_); }

  /// Whether both point at the same object.
  template <class U>
  bool operator==(const shared_ptr<U>& other) const noexcept {
    return region_ == other.region_;
  }
  /// Whether it points at nothing.
  bool operator==(std::nullptr_t) const noexcept { return !region_; }

  void encode_handle(detail::encoder& out) const { region_.encode(out); }  ///< for covey
  /// For covey.
  static shared_ptr decode_handle(detail::decoder& in) {
    return shared_ptr(detail::decode_root(in, detail::type_number<T>()));
  }

 private:
  template <class>
  friend class shared_ptr;
  template <class>
  friend class weak_ptr;
  template <class>
  friend class read_only;
  template <class U, class... Args>
  friend shared_ptr<U> make_shared(Args&&... args);

  explicit shared_ptr(detail::region r) : region_(std::move(r)), object_(here()) {}

  static T* object_of(const detail::region& r) {
    std::byte* const base = r.data();
    return base != nullptr ? detail::object_in<T>(base) : nullptr;
  }
  // In shared memory there is no pointer to keep: others could write over it.
  [[nodiscard]] T* here() const { return detail::in_arena(this) ? nullptr : object_of(region_); }

  detail::region region_;
  T* object_ = nullptr;
};

/// Makes a T in shared memory of its own, with room for what its covey containers will hold (up to 1 GiB; pages are
/// taken as they are needed). Throws std::system_error or std::bad_alloc when memory cannot be had, and what T's
/// constructor throws.
template <class T, class... Args>
shared_ptr<T> make_shared(Args&&... args) {
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>,
                "covey: make_shared makes one object, not const: use make_shared_array or covey::vector, or convert to "
                "shared_ptr<const T>");
  static_assert(alignof(T) <= detail::page_bytes, "covey: no alignment above a page");
  detail::region memory = detail::make_root({.object_bytes = detail::object_offset<T> + sizeof(T),
                                             .type = detail::type_number<T>(),
                                             .destroy = detail::destroyer<T>()});
  auto* const made = reinterpret_cast<detail::root*>(memory.data());
  {
    const detail::filling here(&made->memory);
    auto* const place = reinterpret_cast<T*>(memory.data() + detail::object_offset<T>);
    if constexpr (std::uses_allocator_v<T, allocator<std::byte>>)
      std::uninitialized_construct_using_allocator(place, allocator<std::byte>(), std::forward<Args>(args)...);
    else if constexpr (std::is_constructible_v<T, Args...>)
      ::new (static_cast<void*>(place)) T(std::forward<Args>(args)...);
    else
      ::new (static_cast<void*>(place)) T{std::forward<Args>(args)...};
  }
  made->header.whole.store(detail::object_is_whole, std::memory_order_release);  // pairs with can_be_destroyed()
  return shared_ptr<T>(std::move(memory));
}

/// Bytes of the object's memory that are of no use to anybody because processes were killed: inside an allocator; or in
/// an operation of a container that had been given them and had not linked them yet, or had unlinked them and not given
/// them back: nothing in the object and its memory points to them. They come back by reclaim_stranded(), and when the
/// object goes. Counts, with the object's allocator locked, and once a holder of the object has died it follows all
/// pointers in it, in a copy: for people and tests, not for each request. From then on also counts what the living hold
/// only by pointers of their own: what they are about to link, have just unlinked, or have moved to a container of
/// theirs. Throws memory_damaged; std::bad_alloc.
template <class T>
[[nodiscard]] std::uint64_t stranded_bytes(const shared_ptr<T>& object) {
  return object ? detail::heap_of(object.get()).usage().stranded : 0;
}

/// Frees what nothing in the object and its memory points to, and returns how many bytes. To be called in the function
/// that is given to recover().
///
/// Nobody else uses the object meanwhile, also not under another of its mutexes; and what was allocated from its memory
/// is pointed to from the object or its memory, by plain, aligned pointers as the containers of covey have them: not by
/// offset_ptr, not by pointers with marks in their upper bits, not only from a stack, a container outside to which it
/// was moved, a message or another object. What is not is freed. When others change pointers in it all the same, it may
/// do nothing, and return 0. Throws memory_damaged; std::bad_alloc.
template <class T>
std::uint64_t reclaim_stranded(const shared_ptr<T>& object) {
  return object ? detail::heap_of(object.get()).reclaim() : 0;
}

}  // namespace covey
