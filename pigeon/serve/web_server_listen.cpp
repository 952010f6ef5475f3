#include <pigeon/serve/web_server_listen.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace pigeon::serve::detail {

namespace {

using covey::from_errno;
using covey::result;
using covey::unique_fd;

constexpr int backlog = 128;

union any_address {
  sockaddr base;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

result<any_address> parse_address(const std::string& text, std::uint16_t port) {
  any_address out{};
  if (::inet_pton(AF_INET, text.c_str(), &out.v4.sin_addr) == 1) {
    out.v4.sin_family = AF_INET;
    out.v4.sin_port = htons(port);
    return out;
  }
  if (::inet_pton(AF_INET6, text.c_str(), &out.v6.sin6_addr) == 1) {
    out.v6.sin6_family = AF_INET6;
    out.v6.sin6_port = htons(port);
    return out;
  }
  return from_errno(EINVAL, "'" + text + "' is not a numeric address to listen on");
}

socklen_t length_of(const any_address& address) {
  return address.base.sa_family == AF_INET ? sizeof address.v4 : sizeof address.v6;
}

std::string shown(const std::string& address, std::uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  return "listen on " + (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  if (path.size() >= sizeof out.sun_path) return from_errno(ENAMETOOLONG, "listen on " + path);
  std::memcpy(out.sun_path, path.c_str(), path.size() + 1);
  return out;
}

result<unique_fd> new_socket(int family, const std::string& context) {
  unique_fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return from_errno(context);
  return fd;
}

result<void> private_folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (::mkdir(folder.c_str(), 0700) < 0 && errno != EEXIST) return from_errno("make folder " + folder);
  struct stat st{};
  if (::stat(folder.c_str(), &st) < 0) return from_errno("look at folder " + folder);
  if (st.st_uid != ::geteuid() || (st.st_mode & 077) != 0)
    return from_errno(EPERM, "folder " + folder + " of the command line's socket must be yours alone (chmod 700)");
  return {};
}

// Two offices that start in the same instant could both find the stale name; the data folder's lock is what decides
// between them.
result<void> remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) < 0) return errno == ENOENT ? result<void>() : from_errno("look at " + path);
  if (!S_ISSOCK(st.st_mode)) return from_errno(EEXIST, path + " is not a socket; move it away");
  COVEY_TRY(const unique_fd probe, new_socket(AF_UNIX, "socket"));
  const bool answered = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (answered || errno == EAGAIN)  // EAGAIN: alive, its backlog is full
    return from_errno(EADDRINUSE, "another pigeon answers at " + path);
  if (errno != ECONNREFUSED) return from_errno("look at " + path);
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) return from_errno("remove stale " + path);
  return {};
}

}  // namespace

result<unique_fd> listen_tcp(const std::string& address, std::uint16_t port) {
  COVEY_TRY(const any_address where, parse_address(address, port));
  const std::string context = shown(address, port);
  COVEY_TRY(unique_fd fd, new_socket(where.base.sa_family, context));
  const int on = 1;
  const int off = 0;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) return from_errno(context);
  if (where.base.sa_family == AF_INET6)  // `::` means IPv4 too; where the kernel cannot, IPv6 alone will do
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(fd.get(), &where.base, length_of(where)) < 0) return from_errno(context);
  if (::listen(fd.get(), backlog) < 0) return from_errno(context);
  return fd;
}

result<std::uint16_t> port_of(int tcp_socket) {
  any_address bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(tcp_socket, &bound.base, &length) < 0) return from_errno("getsockname");
  return ntohs(bound.base.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
}

result<unix_listener> unix_listener::open(const std::string& path) {
  COVEY_TRY(const sockaddr_un address, unix_address(path));
  COVEY_TRY_VOID(private_folder_of(path));
  COVEY_TRY_VOID(remove_stale(path, address));
  const std::string context = "listen on " + path;
  COVEY_TRY(unique_fd fd, new_socket(AF_UNIX, context));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) return from_errno(context);
  unix_listener opened;  // from here on the name is ours to remove
  opened.fd_ = std::move(fd);
  opened.path_ = path;
  opened.owner_ = ::getpid();
  // Nobody can connect before listen(), so the mode is never wider than this to anyone.
  if (::chmod(path.c_str(), 0600) < 0) return from_errno(context);
  if (::listen(opened.get(), backlog) < 0) return from_errno(context);
  return opened;
}

unix_listener::~unix_listener() {
  if (fd_ && owner_ == ::getpid()) ::unlink(path_.c_str());
}

bool peer_is_owner(int unix_socket) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(unix_socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

}  // namespace pigeon::serve::detail
