/// @file
/// Exceptions that cross processes: std's and registered types keep their type, others arrive as remote_error.
#pragma once

#include <covey/base/codec.hpp>
#include <covey/base/result.hpp>
#include <exception>
#include <string>
#include <typeinfo>

namespace covey {

/// An exception from another process whose type is neither of std's nor named in COVEY_EXCEPTION.
class remote_error : public std::runtime_error {
 public:
  /// `type` is the demangled name over there, `what` its text.
  remote_error(std::string type, const std::string& what)
      : std::runtime_error(type + ": " + what), type_(std::move(type)), text_(what) {}

  /// The type's name, as in `mylib::parse_failure`; `unknown` when it was no std::exception.
  [[nodiscard]] const std::string& type() const noexcept { return type_; }

  /// Its what() over there, without the type.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  std::string type_;
  std::string text_;
};

namespace detail {

/// Encodes the exception `e`: never throws anything but bad_alloc.
void encode_exception(encoder& out, const std::exception_ptr& e);

/// The exception that was encoded; bad_message, as an exception_ptr too, when the bytes make no sense.
std::exception_ptr decode_exception(decoder& in) noexcept;

/// How one registered type is recognised and rebuilt.
struct exception_kind {
  const char* type;
  bool (*matches)(const std::exception& e);
  std::exception_ptr (*rebuild)(const std::string& what);
  exception_kind* next;
};

bool register_exception(exception_kind& kind);

template <class E>
bool is_exactly(const std::exception& e) {
  return typeid(e) == typeid(E);
}

template <class E>
std::exception_ptr rebuild(const std::string& what) {
  return std::make_exception_ptr(E(what));
}

}  // namespace detail
}  // namespace covey

/// Lets `Type` (derived from std::exception, constructible from its what() as a std::string) keep its type across
/// processes. At namespace scope of one source file of the program.
#define COVEY_EXCEPTION(Type)                                                                           \
  namespace {                                                                                           \
  ::covey::detail::exception_kind COVEY_DETAIL_JOIN(covey_exception_kind_, __LINE__){                   \
      typeid(Type).name(), ::covey::detail::is_exactly<Type>, ::covey::detail::rebuild<Type>, nullptr}; \
  [[maybe_unused]] const bool COVEY_DETAIL_JOIN(covey_exception_registered_, __LINE__) =                \
      ::covey::detail::register_exception(COVEY_DETAIL_JOIN(covey_exception_kind_, __LINE__));          \
  }
