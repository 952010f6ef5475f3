/// @file
/// Small help for subjects that move bytes by system calls.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <system_error>

namespace bench {

/// What the system call returned; throws when that is an error.
inline std::size_t check(std::int64_t returned, const char* what) {
  if (returned < 0) throw std::system_error(errno, std::system_category(), what);
  return static_cast<std::size_t>(returned);
}

inline std::uint64_t word_at(const void* p) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, p, sizeof word);
  return word;
}

/// Where a message of `Bytes` is received.
template <std::size_t Bytes>
class buffer {
 public:
  [[nodiscard]] std::byte* data() noexcept { return bytes_.get(); }
  [[nodiscard]] std::uint64_t first() const noexcept { return word_at(bytes_.get()); }
  [[nodiscard]] std::uint64_t last() const noexcept { return word_at(bytes_.get() + Bytes - 8); }

 private:
  std::unique_ptr<std::byte[]> bytes_ = std::make_unique<std::byte[]>(Bytes);
};

}  // namespace bench
