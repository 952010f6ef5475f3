#include <covey/memory/messages.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace covey::detail {

unique_fd above_stdio(int fd) noexcept {
  unique_fd given(fd);
  if (fd < 0 || fd > STDERR_FILENO) return given;
  return unique_fd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

std::uint64_t identity_of(int fd) noexcept {
  struct stat s{};
  return ::fstat(fd, &s) == 0 ? s.st_ino : 0;
}

result<void> send_message(int socket, const void* data, std::size_t bytes, std::span<const int> fds,
                          int flags) noexcept {
  iovec part{const_cast<void*>(data), bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(message_fds_max * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    if (fds.size() > message_fds_max) return from_errno(EINVAL, "sendmsg: too many descriptors");
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(socket, &message, flags | MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return from_errno("sendmsg");
  return {};
}

result<std::size_t> receive_message(int socket, void* data, std::size_t bytes, std::vector<unique_fd>& fds, int flags) {
  iovec part{data, bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(message_fds_max * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  while ((n = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC)) < 0)
    if (errno != EINTR) return from_errno("recvmsg");
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds.push_back(above_stdio(fd));
    }
  }
  return static_cast<std::size_t>(n);
}

}  // namespace covey::detail
