/// @file
/// For fuzz targets: an input as a row of values, and messages that show whether they are whole.
#pragma once

#include <algorithm>
#include <covey/base/check.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace covey::testing {

/// Hands out an input, value by value; zeros once it is used up.
class fuzz_input {
 public:
  /// Borrows `bytes`.
  explicit fuzz_input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  /// Whether it is used up.
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  /// The next value; T is an integer.
  template <class T>
  T next() {
    T value{};
    const std::size_t n = std::min(sizeof value, bytes_.size());
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

/// A message each byte of which says what all must be, and how many they are: up to 10,000.
inline std::vector<std::byte> uniform_message(std::uint8_t size) {
  return std::vector<std::byte>(std::size_t{size} * (size % 7 == 0 ? 40U : 1U), std::byte{size});
}

/// Stops the process unless `got` is such a message.
inline void check_uniform(std::span<const std::byte> got) {
  if (got.empty()) return;
  const auto size = std::to_integer<std::uint8_t>(got[0]);
  COVEY_CHECK(got.size() == uniform_message(size).size(), "a message is as long as it was put");
  for (const std::byte b : got) COVEY_CHECK(b == got[0], "a message is what was put");
}

}  // namespace covey::testing
