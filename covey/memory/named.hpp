/// @file
/// create, attach, open_or_create: memory that programs which know nothing of each other find by name.
#pragma once

#include <covey/memory/named_segment.hpp>
#include <covey/memory/offset_only.hpp>
#include <covey/memory/offset_ptr.hpp>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace covey {

/// A T that all programs see which open the same name.
///
/// Handle:  a copy is the same object, which lives as long as any process has a handle. It does not travel to other
///          processes: they attach.
/// Safety:  thread-compatible; the object is as safe as T is: put a named_mutex in it, or atomics.
/// Death:   holders may be killed at any instruction; the others go on, and any of them answers for the name. The last
///          one's end frees the name and the memory; no destructor of T ever runs.
/// Fork:    a child forked past covey must not use it (its use stops the child with a sentence); it may attach anew.
///          A process with a handle has a thread of covey's, so process::forked refuses there.
/// Design:  docs/design/named.md. Example: examples/named_board.cpp
template <class T>
class named {
  static_assert((detail::require_offset_only<T>(), true));

 public:
  /// The object. Each process has it at an address of its own.
  [[nodiscard]] T* get() const { return static_cast<T*>(segment_->object()); }
  T* operator->() const { return get(); }  ///< the object
  T& operator*() const { return *get(); }  ///< the object

  /// `count` value-initialized objects in the segment's extra_bytes, for an offset_span in T; freed with the segment
  /// only. Throws std::bad_alloc when there is no room. Safety: process-safe. Death: a caller killed before it has
  /// noted what it got strands that.
  template <offset_only U>
  [[nodiscard]] std::span<U> make_array(std::size_t count) const {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(U)) throw std::bad_alloc();
    U* const first = static_cast<U*>(segment_->allocate(count * sizeof(U), alignof(U)));
    std::uninitialized_value_construct_n(first, count);
    return {first, count};
  }

  /// Whether both are the same object, opened in this process.
  bool operator==(const named& other) const noexcept { return segment_ == other.segment_; }

  explicit named(std::shared_ptr<detail::named_segment> s) : segment_(std::move(s)) {}  ///< for covey

 private:
  std::shared_ptr<detail::named_segment> segment_;
};

namespace detail {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"  // fewer arguments than fields are what is wanted
template <class T, class... Args>
named<T> open_named(named_segment::intent what, const named_options& options, Args&&... args) {
  require_offset_only<T>();
  if constexpr (offset_only<T>) {
    static_assert(alignof(T) <= named_segment::object_offset, "covey: a named segment aligns to 4096 at most");
    const auto shape = make_shape(sizeof(T), alignof(T), layout_of<T>(layout_start), typeid(T));
    return named<T>(
        named_segment::open(options, what, shape, [&](void* where) { new (where) T(std::forward<Args>(args)...); }));
  }
}
#pragma GCC diagnostic pop

}  // namespace detail

/// The T of that name; if there is none, it is made from `args` (an aggregate's fields in order), once: of many who
/// call this at the same time one makes it, and the others wait until it is whole. A maker that dies, or whose
/// constructor throws, leaves nothing behind: another one makes it afresh. Blocks up to the options' patience. Throws
/// std::system_error (timed_out: holders or maker are stopped; permission_denied: another user holds the name, or does
/// not share it; protocol_error: who holds the name is not covey; and when there is no memory), segment_mismatch, and
/// what T's constructor throws.
template <class T, class... Args>
[[nodiscard]] named<T> open_or_create(const named_options& options, Args&&... args) {
  return detail::open_named<T>(detail::named_segment::intent::open_or_create, options, std::forward<Args>(args)...);
}
/// As above, with options as they are.
template <class T, class... Args>
[[nodiscard]] named<T> open_or_create(std::string_view name, Args&&... args) {
  return open_or_create<T>(named_options{.name = std::string(name)}, std::forward<Args>(args)...);
}

/// Makes the T of that name; throws std::system_error (file_exists) when there is one, and as open_or_create does.
template <class T, class... Args>
[[nodiscard]] named<T> create(const named_options& options, Args&&... args) {
  return detail::open_named<T>(detail::named_segment::intent::create, options, std::forward<Args>(args)...);
}
/// As above, with options as they are.
template <class T, class... Args>
[[nodiscard]] named<T> create(std::string_view name, Args&&... args) {
  return create<T>(named_options{.name = std::string(name)}, std::forward<Args>(args)...);
}

/// The T of that name; throws std::system_error (no_such_file_or_directory) when there is none, and as open_or_create
/// does. Makes nothing and, when it ends, destroys nothing that others hold.
template <class T>
[[nodiscard]] named<T> attach(const named_options& options) {
  return detail::open_named<T>(detail::named_segment::intent::attach, options);
}
/// As above, with options as they are.
template <class T>
[[nodiscard]] named<T> attach(std::string_view name) {
  return attach<T>(named_options{.name = std::string(name)});
}

}  // namespace covey
