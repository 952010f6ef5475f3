/// @file
/// Errors as values inside the library: result<T>, and the one error type that all layers share.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <system_error>
#include <utility>

namespace covey {

/// What went wrong: a code, and what was tried on what, as in `open inbox/photo.png`.
///
/// Safety:  thread-compatible.
struct error {
  std::error_code code;  ///< the reason, in the words of whoever refused
  std::string context;   ///< what was tried, on what; added once, where it is known

  /// One sentence: `open inbox/photo.png: Permission denied`.
  [[nodiscard]] std::string message() const;
};

/// Throws `e` as the std::system_error that users of the surface see. Found by boost::system::result::value().
[[noreturn]] void throw_exception_from_error(const error& e, const boost::source_location& where);

/// A value, or the error that prevented it. Inside the library, because there the caller decides; at the surface the
/// same is an exception, which `.value()` throws.
template <class T>
using result = boost::system::result<T, error>;

/// The error for errno as it is now, with what was tried.
[[nodiscard]] error from_errno(std::string context);

/// The error for a given errno value, with what was tried.
[[nodiscard]] error from_errno(int code, std::string context);

}  // namespace covey

#define COVEY_DETAIL_JOIN2(a, b) a##b
#define COVEY_DETAIL_JOIN(a, b) COVEY_DETAIL_JOIN2(a, b)

/// Declares `declaration` from the value of `expression`, a result<T>, or returns its error from the function.
#define COVEY_TRY(declaration, ...) \
  COVEY_DETAIL_TRY(COVEY_DETAIL_JOIN(covey_try_, __COUNTER__), declaration, __VA_ARGS__)
#define COVEY_DETAIL_TRY(name, declaration, ...) \
  auto name = (__VA_ARGS__);                     \
  if (!name) return std::move(name).error();     \
  declaration = *std::move(name)

/// Returns the error of `…`, a result<void>, from the enclosing function; goes on if there is none.
#define COVEY_TRY_VOID(...)                                                                    \
  do {                                                                                         \
    if (auto covey_tried = (__VA_ARGS__); !covey_tried) return std::move(covey_tried).error(); \
  } while (false)
