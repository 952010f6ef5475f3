/// @file
/// How a value becomes a message of bytes, and a message a value again, without a copy where that can be.
#pragma once

#include <array>
#include <bit>
#include <covey/ipc/queue_core.hpp>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace covey::detail {

/// A buffer of this thread that keeps its memory from one message to the next, unless the message was large. While it
/// is lent, others get one of their own: encoding may put to another queue.
template <class T>
class borrowed {
 public:
  borrowed() : from_spare_(!std::exchange(lent, true)), own_(from_spare_ ? nullptr : std::make_unique<T>()) {}
  borrowed(const borrowed&) = delete;
  borrowed& operator=(const borrowed&) = delete;
  ~borrowed() {
    if (!from_spare_) return;
    if (spare.value.bytes.capacity() > kept_bytes_max) spare.value = T{};
    lent = false;
  }
  T& operator*() const noexcept { return from_spare_ ? spare.value : *own_; }
  T* operator->() const noexcept { return &**this; }

 private:
  static constexpr std::size_t kept_bytes_max = 64 * 1024;
  struct kept {
    T value{};
    ~kept() { lent = true; }  // other destructors may put and get after this one
  };
  static inline thread_local kept spare{};
  static inline constinit thread_local bool lent = false;
  bool from_spare_;
  std::unique_ptr<T> own_;
};

/// A vector or string of numbers, whose elements lie aligned in a message.
template <class T>
inline constexpr bool is_readable_in_place = false;
template <class T>
  requires(is_bulk<T>)
inline constexpr bool is_readable_in_place<T> = alignof(typename T::value_type) <= alignof(std::uint64_t);

/// The elements of a vector or string of numbers as it is encoded: their number, then they themselves.
template <class Element>
std::span<const Element> elements_of(std::span<const std::byte> message) {
  std::uint64_t n = 0;
  if (message.size() >= sizeof n) std::memcpy(&n, message.data(), sizeof n);
  if (message.size() < sizeof n || n != (message.size() - sizeof n) / sizeof(Element) ||
      (message.size() - sizeof n) % sizeof(Element) != 0)
    throw bad_message("covey: a message is not as long as it says");
  return {reinterpret_cast<const Element*>(message.data() + sizeof n), static_cast<std::size_t>(n)};
}

/// Calls `put` with the message that `value` is, made without a copy where it can be.
template <class T, class Put>
bool put_message(const T& value, const Put& put) {
  if constexpr (is_bitwise<T>()) {
    return put(queue_core::outgoing{.bytes = std::as_bytes(std::span(&value, 1))});
  } else if constexpr (is_bulk<T>) {  // as it is encoded, but without a copy between
    const std::uint64_t n = value.size();
    return put(queue_core::outgoing{.head = std::as_bytes(std::span(&n, 1)),
                                    .bytes = std::as_bytes(std::span(value.data(), value.size()))});
  } else {
    const borrowed<encoder> message;
    message->bytes.clear();
    message->attachments.clear();
    encode(*message, value);
    return put(queue_core::outgoing{.bytes = message->bytes, .attachments = message->attachments});
  }
}

/// Whether default construction does nothing but set values, all of them known when this is compiled.
template <class T>
concept constant_default =
    std::is_default_constructible_v<T> && requires { typename std::bool_constant<(static_cast<void>(T{}), true)>; };

/// Makes an optional's value where it will stay.
template <class F>
struct made_by {
  F make;
  operator decltype(std::declval<const F&>()())() const { return make(); }  // NOLINT(google-explicit-constructor)
};

/// A T that may be made first and then overwritten as a whole: a constant member would keep what it was constructed
/// with, as the compiler sees it.
template <class T>
concept made_then_copied =
    std::is_trivially_copy_assignable_v<T> && (std::is_trivially_default_constructible_v<T> || constant_default<T>);

/// The bytes of a bitwise T as one. A function of its own: GCC 12 makes what is returned where it will stay only when
/// it is declared in the outermost block, and copies it else.
template <made_then_copied T>
T copied(std::span<const std::byte> bytes) {
  T value;  // one copy, no more: compilers drop what is overwritten whole
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
  return value;
}

template <class T>
T decode_message(std::span<const std::byte> bytes) {
  if constexpr (is_bitwise<T>()) {
    if (bytes.size() != sizeof(T)) throw bad_message("covey: a message has not the size of what is read from it");
    if constexpr (made_then_copied<T>) {
      return copied<T>(bytes);
    } else {
      std::array<std::byte, sizeof(T)> all;
      std::memcpy(all.data(), bytes.data(), all.size());
      return std::bit_cast<T>(all);
    }
  } else if constexpr (is_readable_in_place<T>) {
    const auto elements = elements_of<typename T::value_type>(bytes);
    return T(elements.begin(), elements.end());
  } else {
    decoder in{bytes};
    T value = decode<T>(in);
    expect_end(in);
    return value;
  }
}

}  // namespace covey::detail
