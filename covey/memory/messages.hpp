/// @file
/// Datagrams with descriptors over Unix sockets.
#pragma once

#include <covey/base/result.hpp>
#include <covey/base/unique_fd.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace covey::detail {

inline constexpr std::size_t message_fds_max = 16;

/// `fd`, or a duplicate (close-on-exec) when it is 0, 1 or 2, which a program may have closed and others take for
/// stdio; -1 stays -1.
unique_fd above_stdio(int fd) noexcept;

/// What tells the open file behind `fd` from any other that may come to have its number; 0 when it is closed.
std::uint64_t identity_of(int fd) noexcept;

/// Sends one message with descriptors; never raises SIGPIPE, repeats after EINTR. Blocks while the peer's buffer is
/// full, unless `flags` (as for sendmsg) say otherwise.
result<void> send_message(int socket, const void* data, std::size_t bytes, std::span<const int> fds,
                          int flags = 0) noexcept;

/// Receives one message and its descriptors (close-on-exec). 0 bytes: the peer is gone. `flags` as for recvmsg.
result<std::size_t> receive_message(int socket, void* data, std::size_t bytes, std::vector<unique_fd>& fds, int flags);

}  // namespace covey::detail
