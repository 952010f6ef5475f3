/// @file
/// weak_ptr: names an object in shared memory without keeping it.
#pragma once

#include <covey/memory/shared_ptr.hpp>

namespace covey {

/// Names an object that make_shared made, and does not keep it alive. It is nothing but a number that is never used
/// again: it costs nobody anything, may lie anywhere, in shared objects too, and travels in messages.
///
/// Safety:  thread-compatible.
/// Death:   as for shared_ptr: lock() gives the object for as long as anybody in the family holds it.
/// Design:  docs/design/memory.md
template <class T>
class weak_ptr {
 public:
  using covey_handle = void;  ///< may travel to other processes
  using element_type = T;  ///< what it names

  /// Names nothing.
  weak_ptr() noexcept = default;

  /// Names what `strong` points at.
  template <class U>
    requires(std::is_same_v<U, T> || std::is_same_v<const U, T>)
  weak_ptr(const shared_ptr<U>& strong) noexcept : id_(strong.region_.id()) {}  // NOLINT(google-explicit-constructor)

  /// The object, held, or nullptr when nobody in the family holds it any more, or its last holder destroys it now. Asks
  /// the keeper (about 15 µs) when this process does not hold the object itself. Throws std::system_error when the
  /// keeper or the mapping cannot be had.
  [[nodiscard]] shared_ptr<T> lock() const {
    const std::uint64_t id = id_;  // may be changed by others, if this lies in shared memory
    detail::region held = id != 0 ? detail::region::hold_if_held(id) : detail::region();
    return held && detail::holds_type(held.id(), detail::type_number<T>()) ? shared_ptr<T>(std::move(held)) : nullptr;
  }

  /// Whether lock() would give nullptr for ever. False may be stale when it is returned. Two loads.
  [[nodiscard]] bool expired() const noexcept { return !detail::is_held_by_somebody(id_); }

  /// Names nothing from now on.
  void reset() noexcept { id_ = 0; }

  void encode_handle(detail::encoder& out) const { detail::encode(out, id_); }  ///< for covey
  /// For covey.
  static weak_ptr decode_handle(detail::decoder& in) {
    weak_ptr w;
    w.id_ = detail::decode<std::uint64_t>(in);
    return w;
  }

 private:
  std::uint64_t id_ = 0;
};

}  // namespace covey
