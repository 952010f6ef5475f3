/// @file
/// unique_fd: a file descriptor with one owner.
#pragma once

#include <unistd.h>

#include <utility>

namespace covey {

/// A file descriptor that is closed when its owner goes. Move-only.
///
/// Safety:  thread-compatible.
/// Fork:    a forked copy holds its own descriptor; each closes its own.
class unique_fd {
 public:
  /// Holds nothing.
  unique_fd() noexcept = default;

  /// Takes ownership of `fd`; -1 is nothing.
  explicit unique_fd(int fd) noexcept : fd_(fd) {}

  unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~unique_fd() { reset(); }

  /// The descriptor, or -1.
  [[nodiscard]] int get() const noexcept { return fd_; }

  /// Whether a descriptor is held.
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Gives the descriptor away; the caller closes it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  /// Closes what is held and takes `fd`.
  void reset(int fd = -1) noexcept {
    if (const int old = std::exchange(fd_, fd); old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace covey
