/// @file
/// offset_ptr, offset_span: pointers inside a named segment, which each program maps at another address.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <type_traits>

namespace covey {
namespace detail {

/// Whether `bytes` from `p` lie wholly in one named segment of this process. Lock-free; one load for each segment.
bool inside_named(const void* p, std::size_t bytes) noexcept;

[[noreturn]] void throw_outside_named();

/// `at` as a T, if so many lie there whole and aligned; throws std::out_of_range.
template <class T>
T* checked_inside(std::uintptr_t at, std::size_t count) {
  T* const p = reinterpret_cast<T*>(at);
  if (at % alignof(T) != 0 || count > SIZE_MAX / sizeof(T) || !inside_named(p, count * sizeof(T)))
    throw_outside_named();
  return p;
}

}  // namespace detail

/// A pointer to something in the same named segment, kept as a distance from itself.
///
/// It may be copied to anywhere in the process, but only where it lies in the segment does it mean the same to others.
/// Safety:  thread-compatible, between processes too.
/// Garbage: another process may write nonsense here; then its use throws std::out_of_range, and never reaches past the
///          segments of this process. What it points to may still be the wrong object of the right size.
template <class T>
class offset_ptr {
 public:
  using covey_offset_type = void;  ///< may lie in a named segment
  using element_type = T;          ///< as in std's smart pointers

  /// Null.
  offset_ptr() noexcept = default;
  /// Points to `p`, which must lie in the same segment when others are to follow it.
  offset_ptr(T* p) noexcept { set(p); }  // NOLINT: converts as a pointer does
  offset_ptr(const offset_ptr& other) noexcept { set(other.unchecked()); }
  offset_ptr& operator=(const offset_ptr& other) noexcept {
    set(other.unchecked());
    return *this;
  }
  ~offset_ptr() = default;

  /// The plain pointer, checked: it and the whole object lie in a segment, aligned. Null stays null.
  /// Throws std::out_of_range.
  [[nodiscard]] T* get() const {
    const std::uintptr_t at = address();
    return at == 0 ? nullptr : detail::checked_inside<T>(at, 1);
  }
  /// As get(); throws std::out_of_range for null too.
  T& operator*() const { return *detail::checked_inside<T>(address(), 1); }
  /// As get(); throws std::out_of_range for null too.
  T* operator->() const { return detail::checked_inside<T>(address(), 1); }

  /// Whether it is not null.
  explicit operator bool() const noexcept { return address() != 0; }

  /// Whether both point to the same.
  bool operator==(const offset_ptr& other) const noexcept { return address() == other.address(); }

 private:
  static constexpr std::int64_t null = 1;  // a distance that nothing aligned to more than a byte has; no char begins
                                           // inside the pointer itself

  // Relaxed: another process may be writing; who wants order has a lock. Read once, so that what was checked is used.
  [[nodiscard]] std::uintptr_t address() const noexcept {
    const std::int64_t distance = std::atomic_ref(distance_).load(std::memory_order_relaxed);
    return distance == null ? 0 : reinterpret_cast<std::uintptr_t>(this) + static_cast<std::uintptr_t>(distance);
  }
  [[nodiscard]] T* unchecked() const noexcept { return reinterpret_cast<T*>(address()); }
  void set(const T* p) noexcept {
    const std::int64_t distance =
        p == nullptr
            ? null
            : static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(this));
    std::atomic_ref(distance_).store(distance, std::memory_order_relaxed);
  }

  alignas(8) mutable std::int64_t distance_ = null;
};

/// So many objects in a row in the same named segment: an offset_ptr and a count. The rules are offset_ptr's.
template <class T>
class offset_span {
 public:
  using covey_offset_type = void;  ///< may lie in a named segment

  /// Empty.
  offset_span() noexcept = default;
  /// Refers to `s`, which must lie in the same segment when others are to follow it.
  offset_span(std::span<T> s) noexcept : first_(s.empty() ? nullptr : s.data()), count_(s.size()) {}  // NOLINT

  /// The plain span, checked as a whole. Throws std::out_of_range.
  [[nodiscard]] std::span<T> get() const {
    const std::uint64_t count = std::atomic_ref(count_).load(std::memory_order_relaxed);
    if (count == 0) return {};
    T* const first = first_.get();
    if (first == nullptr) detail::throw_outside_named();
    return {detail::checked_inside<T>(reinterpret_cast<std::uintptr_t>(first), count), count};
  }

  /// The element `i`. Throws std::out_of_range when there is none, or the span is damaged.
  T& operator[](std::size_t i) const {
    const auto all = get();
    if (i >= all.size()) detail::throw_outside_named();
    return all[i];
  }

  /// How many; another process may have changed it when it returns.
  [[nodiscard]] std::size_t size() const noexcept { return std::atomic_ref(count_).load(std::memory_order_relaxed); }
  /// Whether there are none.
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

 private:
  offset_ptr<T> first_;
  mutable std::uint64_t count_ = 0;
};

}  // namespace covey
