/// @file
/// read_only: a shared object for those who shall not change it.
#pragma once

#include <covey/memory/shared_ptr.hpp>

namespace covey {

/// A pointer to a shared object that holds it as a shared_ptr does, and through which nobody can write: in a process
/// that has only read_only pointers to the object, its pages are mapped read-only, and a write, also a wild one, is a
/// SIGSEGV in that process and changes nothing. A process that has a shared_ptr to it too may write, as long as it has
/// it.
///
/// The object's own memory is read-only; what it refers to (a mutex, an event, another object held by a shared_ptr
/// inside) is not, so a reader can lock. It cannot put anything into the object's containers. When the last holder of
/// the family is a reader, that process runs the destructor all the same, and its mapping is made writable for it.
///
/// Handle:  a copy points at the same object; give it to any task, process or message. Not into shared memory: that
///          throws std::logic_error.
/// Safety:  thread-compatible, as shared_ptr.
/// Death:   as shared_ptr.
/// Design:  docs/design/memory.md
template <class T>
class read_only {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using element_type = const T;  ///< what it points at

  /// Points at nothing.
  read_only() noexcept = default;

  /// What `object` points at. The receivers of this cannot write to it; this process can while it keeps `object`.
  explicit read_only(const shared_ptr<T>& object) : reading_(object.region_) {}

  /// The object, or nullptr.
  [[nodiscard]] const T* get() const noexcept {
    std::byte* const base = reading_.data();
    return base != nullptr ? detail::object_in<const T>(base) : nullptr;
  }

  /// The object; there must be one.
  const T& operator*() const noexcept { return *get(); }
  /// The object; there must be one.
  const T* operator->() const noexcept { return get(); }
  /// Whether it points at an object.
  explicit operator bool() const noexcept { return reading_.id() != 0; }

  void encode_handle(detail::encoder& out) const { reading_.encode(out); }  ///< for covey
  /// For covey.
  static read_only decode_handle(detail::decoder& in) {
    read_only r;
    r.reading_ = detail::reading::decode(in, detail::region_kind::object);
    if (r) detail::check_type(r.reading_.id(), detail::type_number<T>());
    return r;
  }

 private:
  detail::reading reading_;
};

}  // namespace covey
