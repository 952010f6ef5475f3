#include <covey/base/check.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace covey::detail {

void check_failed(const char* expression, const char* file, int line, const char* why) noexcept {
  char text[512];
  const int n = std::snprintf(text, sizeof text, "covey: %s:%d: %s does not hold: %s\n", file, line, expression, why);
  if (n > 0) [[maybe_unused]]
    const auto ignored = ::write(STDERR_FILENO, text, static_cast<std::size_t>(n) < sizeof text ? n : sizeof text - 1);
  std::abort();
}

}  // namespace covey::detail
