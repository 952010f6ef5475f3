/// @file
/// The web server's two doors: a TCP socket for browsers, a Unix socket for the owner's command line.
#pragma once

#include <covey/base/result.hpp>
#include <covey/base/unique_fd.hpp>
#include <cstdint>
#include <string>

namespace pigeon::serve::detail {

/// A listening TCP socket, non-blocking, on a numeric address; port 0 takes any free one.
[[nodiscard]] covey::result<covey::unique_fd> listen_tcp(const std::string& address, std::uint16_t port);

/// The port of a bound TCP socket.
[[nodiscard]] covey::result<std::uint16_t> port_of(int tcp_socket);

/// A listening Unix socket of mode 0600 that unlinks its name when it goes, in the process that made it.
///
/// Safety:  thread-compatible.
class unix_listener {
 public:
  /// Listens nowhere.
  unix_listener() = default;

  /// Makes the folder (0700) if it is missing; replaces a socket that a killed office left; refuses one that answers,
  /// a folder that others may write to, and anything at `path` that is not a socket.
  [[nodiscard]] static covey::result<unix_listener> open(const std::string& path);

  unix_listener(unix_listener&&) noexcept = default;
  unix_listener& operator=(unix_listener&&) = delete;
  ~unix_listener();

  /// The socket, or -1.
  [[nodiscard]] int get() const noexcept { return fd_.get(); }

 private:
  covey::unique_fd fd_;
  std::string path_;
  int owner_ = 0;  // the process that may unlink
};

/// Whether the other end of a Unix socket belongs to our own user, or to root.
[[nodiscard]] bool peer_is_owner(int unix_socket) noexcept;

}  // namespace pigeon::serve::detail
