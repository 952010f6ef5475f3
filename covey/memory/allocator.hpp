/// @file
/// allocator: containers whose elements lie in shared memory.
#pragma once

#include <atomic>
#include <covey/memory/heap.hpp>
#include <covey/memory/region.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

namespace covey {

template <class T>
class allocator;

namespace detail {

/// First page of a root that make_shared made; the object follows, then what the heap hands out.
struct root {
  object_header header;
  heap memory;
};
static_assert(sizeof(root) <= 1024);

/// The heap of the root that is being built on this thread; nullptr otherwise.
inline constinit thread_local heap* heap_being_filled = nullptr;

/// While it lives, allocators that are made on this thread without being told a heap use `h`.
class filling {
 public:
  explicit filling(heap* h) noexcept : before_(std::exchange(heap_being_filled, h)) {}
  filling(const filling&) = delete;
  filling& operator=(const filling&) = delete;
  ~filling() { heap_being_filled = before_; }

 private:
  heap* before_;
};

/// The heap for an allocator at `self` that was told none.
heap* default_heap(std::uintptr_t self) noexcept;

/// Stops the process: a container of private or another root's memory was moved into the memory of a root.
[[noreturn]] void refuse_foreign_container() noexcept;

/// An argument as it must be given to the constructor of a T in a root: an rvalue T that knows nothing of allocators is
/// given as const, to be copied, because the containers in it would bring their private memory along.
template <class T, class Arg>
inline constexpr bool brings_containers =
    std::is_same_v<T, Arg> && std::is_class_v<T> && !std::is_trivially_copyable_v<T> &&
    !std::uses_allocator_v<T, allocator<std::byte>> && std::is_copy_constructible_v<T>;

template <class T, class Arg>
using landing = std::conditional_t<brings_containers<T, Arg>, const Arg&, Arg&&>;

/// The arguments with which a T is constructed for allocator `a`: as std::uses_allocator_construction_args, with
/// `landing` applied. For pairs they are piecewise.
template <class T, class A, class... Args>
auto landing_args(const A& a, Args&&... args) {
  if constexpr (std::uses_allocator_v<T, A>)
    return std::uses_allocator_construction_args<T>(a, std::forward<Args>(args)...);
  else
    return std::tuple<landing<T, Args>...>(std::forward<Args>(args)...);
}

template <class T, class A, class... Args>
auto landing_args_of_tuple(const A& a, std::tuple<Args...>&& args) {
  return std::apply([&](auto&&... each) { return landing_args<T>(a, std::forward<decltype(each)>(each)...); },
                    std::move(args));
}

template <class T>
struct landing_pair;  // undefined: not a pair
template <class First, class Second>
struct landing_pair<std::pair<First, Second>> {
  using first = std::remove_cv_t<First>;
  using second = std::remove_cv_t<Second>;

  template <class A, class X, class Y>
  static auto args(const A& a, std::piecewise_construct_t, X&& x, Y&& y) {
    return std::tuple(std::piecewise_construct, landing_args_of_tuple<first>(a, std::forward<X>(x)),
                      landing_args_of_tuple<second>(a, std::forward<Y>(y)));
  }
  template <class A, class... X, class... Y>
  static auto args(const A& a, std::piecewise_construct_t, const std::tuple<X...>& x, const std::tuple<Y...>& y) {
    return args(a, std::piecewise_construct, std::tuple<X...>(x), std::tuple<Y...>(y));
  }
  template <class A>
  static auto args(const A& a) {
    return args(a, std::piecewise_construct, std::tuple<>(), std::tuple<>());
  }
  template <class A, class X, class Y>
  static auto args(const A& a, X&& x, Y&& y) {
    return args(a, std::piecewise_construct, std::forward_as_tuple(std::forward<X>(x)),
                std::forward_as_tuple(std::forward<Y>(y)));
  }
  template <class A, class X, class Y>
  static auto args(const A& a, const std::pair<X, Y>& p) {
    return args(a, p.first, p.second);
  }
  template <class A, class X, class Y>
  static auto args(const A& a, std::pair<X, Y>& p) {
    return args(a, p.first, p.second);
  }
  template <class A, class X, class Y>
  static auto args(const A& a, std::pair<X, Y>&& p) {
    return args(a, std::forward<X>(p.first), std::forward<Y>(p.second));
  }
};

/// Whether the only argument is an rvalue of the type that is to be made.
template <class T, class... Args>
inline constexpr bool is_move = false;
template <class T, class Arg>
inline constexpr bool is_move<T, Arg> = std::is_same_v<T, Arg>;

}  // namespace detail

/// An allocator for std containers, in the memory of a make_shared object or, when there is none, in private memory.
///
/// It remembers its heap. One that is made without being told is of the object in which it lies; else of the object
/// that make_shared, or a container in shared memory that makes an element, is building on this thread; else private.
/// Elements are made with the container's own allocator, so containers in containers share its memory. An element given
/// as an rvalue is moved if it lies in the same object and copied otherwise, when it is a class that holds containers.
///
/// It does not keep its object alive: a container in private memory with the allocator of an object ends before the
/// object does. swap of containers with unequal allocators is undefined, as in std.
///
/// Safety:  thread-compatible, as the containers are: lock what several processes use.
/// Death:   a process killed inside allocate or deallocate strands at most the block in its hand, until
///          reclaim_stranded(), or until the object goes; the container itself may be half changed: see mutex::recover.
/// Design:  docs/design/memory.md. Example: examples/tour_05_shared.cpp
template <class T>
class allocator {
 public:
  using value_type = T;  ///< as std wants it
  using propagate_on_container_copy_assignment = std::false_type;  ///< a container stays where it is
  using propagate_on_container_move_assignment = std::false_type;  ///< a container stays where it is
  using propagate_on_container_swap = std::false_type;  ///< a container stays where it is
  using is_always_equal = std::false_type;  ///< heaps differ

  /// Of the object around it, of the one being built, or private.
  allocator() noexcept : heap_(detail::default_heap(reinterpret_cast<std::uintptr_t>(this))) {}

  /// For a new container: the same heap, or, when this lies in an object, that object's.
  allocator(const allocator& other) noexcept : heap_(landed(other.heap())) {}

  /// For a container that is moved. Stops the process when this lies in an object and the container brings memory from
  /// elsewhere, which other processes do not have: copy such a container instead.
  allocator(allocator&& other) noexcept : heap_(landed(other.heap())) {
    if (heap() == other.heap()) {
      heap_ = other.heap_;
    } else if (other.heap_ != nullptr) {
      detail::refuse_foreign_container();
    }
  }

  /// As the copy, for another type.
  template <class U>
  allocator(const allocator<U>& other) noexcept : heap_(landed(other.heap())) {  // NOLINT(google-explicit-constructor)
    other.note_use();  // containers allocate through such copies
  }

  allocator& operator=(const allocator&) = delete;  ///< containers stay where they are

  ~allocator() = default;

  /// Room for `n`. Throws std::bad_alloc.
  [[nodiscard]] T* allocate(std::size_t n) {
    detail::heap* const h = heap();
    if (h == nullptr) {
      note_use();
      return std::allocator<T>().allocate(n);
    }
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(h->allocate(n * sizeof(T), alignof(T)));
  }

  /// Gives back what allocate(n) gave.
  void deallocate(T* p, std::size_t n) noexcept {
    if (detail::heap* const h = heap(); h != nullptr)
      h->deallocate(static_cast<void*>(p), n * sizeof(T), alignof(T));
    else
      std::allocator<T>().deallocate(p, n);
  }

  /// Makes an element; containers in it are made with this allocator.
  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    if constexpr (std::is_trivially_copyable_v<U>) {
      ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
    } else if (is_private()) {
      std::uninitialized_construct_using_allocator(p, *this, std::forward<Args>(args)...);
    } else {
      construct_in_heap(p, std::forward<Args>(args)...);
    }
  }

  /// A copy of a container goes where the copy is made, not where the original lies.
  [[nodiscard]] allocator select_on_container_copy_construction() const noexcept {
    return allocator(detail::heap_being_filled);
  }

  /// Whether this allocates private memory.
  [[nodiscard]] bool is_private() const noexcept { return heap() == nullptr; }

  /// Whether what one allocates the other can free.
  template <class U>
  bool operator==(const allocator<U>& other) const noexcept {
    return heap() == other.heap();
  }

 private:
  template <class>
  friend class allocator;

  explicit allocator(detail::heap* h) noexcept : heap_(h) {}

  [[nodiscard]] detail::heap* heap() const noexcept {
    detail::heap* const h = std::atomic_ref(heap_).load(std::memory_order_relaxed);
    return h == private_in_use() ? nullptr : h;
  }

  // Private memory, and some of it may belong to the container.
  static detail::heap* private_in_use() noexcept { return reinterpret_cast<detail::heap*>(std::uintptr_t{1}); }

  void note_use() const noexcept {
    const std::atomic_ref h(heap_);
    if (h.load(std::memory_order_relaxed) == nullptr) h.store(private_in_use(), std::memory_order_relaxed);
  }

  // The heap that this must have when it is meant to have `h`.
  [[nodiscard]] detail::heap* landed(detail::heap* h) const noexcept {
    if (!detail::in_arena(this) || (h != nullptr && h->contains(this))) return h;
    return detail::default_heap(reinterpret_cast<std::uintptr_t>(this));
  }

  template <class U, class... Args>
  void construct_in_heap(U* p, Args&&... args) {
    detail::heap* const h = heap();
    const detail::filling here(h);
    if constexpr (detail::is_move<U, Args...>) {
      if ((h->contains(std::addressof(args)) && ...)) {
        ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
        return;
      }
    }
    const auto make = [p](auto&&... each) { ::new (static_cast<void*>(p)) U(std::forward<decltype(each)>(each)...); };
    if constexpr (detail::is_a<U, std::pair>)
      std::apply(make, detail::landing_pair<U>::args(*this, std::forward<Args>(args)...));
    else
      std::apply(make, detail::landing_args<U>(*this, std::forward<Args>(args)...));
  }

  mutable detail::heap* heap_;  // nullptr: private, nothing allocated yet
};

}  // namespace covey
