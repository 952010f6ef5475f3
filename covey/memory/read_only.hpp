/// @file
/// read_only: a shared object, or an array, for those who shall not change it.
#pragma once

#include <covey/memory/shared_array.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <span>

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

/// The elements of a shared_array for those who shall not change them; all else as above.
template <class T>
class read_only<T[]> {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;  ///< of the elements
  using iterator = const T*;  ///< through the elements

  /// No elements.
  read_only() noexcept = default;

  /// Those of `array`. The receivers of this cannot write to them; this process can while it keeps `array`.
  explicit read_only(const shared_array<T>& array) : reading_(array.region_), size_(array.span().size()) {}

  /// All of them, as long as this or another copy of it lives.
  [[nodiscard]] std::span<const T> span() const noexcept {
    std::byte* const base = reading_.data();
    if (base == nullptr) return {};
    return {detail::object_in<const T>(base), size_};
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }                     ///< how many
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }                      ///< whether there are none
  [[nodiscard]] const T* data() const noexcept { return span().data(); }                ///< the first
  const T& operator[](std::size_t i) const noexcept { return span()[i]; }  ///< element `i`, which must exist
  [[nodiscard]] iterator begin() const noexcept { return data(); }  ///< the first
  [[nodiscard]] iterator end() const noexcept { return data() + size(); }  ///< behind the last

  /// For covey.
  void encode_handle(detail::encoder& out) const {
    reading_.encode(out);
    detail::encode(out, std::uint64_t{size_});
  }
  /// For covey.
  static read_only decode_handle(detail::decoder& in) {
    read_only r;
    r.reading_ = detail::reading::decode(in, detail::region_kind::object);
    const auto count = detail::decode<std::uint64_t>(in);
    const std::uint64_t id = r.reading_.id();
    if (id != 0) detail::check_type(id, detail::type_number<T[]>());
    if (id != 0 ? count > shared_array<T>::room_in(r.reading_.size()) : count != 0)
      throw bad_message("covey: a message tells a wrong size of a shared array");
    r.size_ = count;
    return r;
  }

 private:
  detail::reading reading_;
  std::size_t size_ = 0;
};

template <class T>
explicit read_only(const shared_ptr<T>&) -> read_only<T>;
template <class T>
explicit read_only(const shared_array<T>&) -> read_only<T[]>;

}  // namespace covey
