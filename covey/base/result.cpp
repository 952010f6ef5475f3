#include <covey/base/result.hpp>

#include <cerrno>

namespace covey {

std::string error::message() const { return context.empty() ? code.message() : context + ": " + code.message(); }

void throw_exception_from_error(const error& e, const boost::source_location&) {
  throw std::system_error(e.code, e.context);
}

error from_errno(std::string context) { return from_errno(errno, std::move(context)); }

error from_errno(int code, std::string context) {
  return {std::error_code(code, std::system_category()), std::move(context)};
}

}  // namespace covey
