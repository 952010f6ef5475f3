#include <pigeon/serve/people_sockets.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace pigeon::serve {

namespace {

using covey::from_errno;
using covey::result;
using covey::unique_fd;

constexpr int receive_buffer_bytes = 4 << 20;  // a burst of thousands, as when a large office comes to work
constexpr auto everybody = "255.255.255.255";

std::string text_of(const in_addr& address) {
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

in_addr address_of(const sockaddr* any) { return reinterpret_cast<const sockaddr_in*>(any)->sin_addr; }

result<sockaddr_in> parse(const std::string& address, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &out.sin_addr) == 1) return out;
  return from_errno(EINVAL, "'" + address + "' is not a numeric IPv4 address for IP Messenger");
}

std::string shown(const std::string& address, std::uint16_t port) {
  return "listen on UDP " + address + ":" + std::to_string(port);
}

result<unique_fd> bound(const std::string& address, std::uint16_t port, bool share) {
  COVEY_TRY(const sockaddr_in where, parse(address, port));
  unique_fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return from_errno(shown(address, port));
  const int on = 1;
  if (share) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  const int size = receive_buffer_bytes;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0)
    return from_errno(shown(address, port));
  return fd;
}

}  // namespace

std::vector<local_network> local_networks() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> all(first, ::freeifaddrs);
  std::vector<local_network> found;
  for (const ifaddrs* each = first; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET || (each->ifa_flags & IFF_UP) == 0) continue;
    local_network network{text_of(address_of(each->ifa_addr))};
    if ((each->ifa_flags & IFF_BROADCAST) != 0 && each->ifa_broadaddr != nullptr)
      network.broadcast = text_of(address_of(each->ifa_broadaddr));
    found.push_back(std::move(network));
  }
  return found;
}

result<void> try_udp(const std::string& address, std::uint16_t port) {
  // Without SO_REUSEADDR, so that somebody else's socket is seen: the kernel would let us share the port, and give each
  // datagram to only one of us.
  COVEY_TRY(const unique_fd fd, bound(address, port, false));
  return {};
}

result<people_sockets> people_sockets::open(const std::string& address, std::uint16_t port) {
  people_sockets opened;
  opened.address_ = address;
  opened.port_ = port;
  COVEY_TRY(unique_fd main, bound(address, port, true));
  opened.sockets_.push_back(std::move(main));
  opened.look_around();
  if (address == "0.0.0.0") return opened;
  // A socket that is bound to one address does not hear what is sent to all.
  std::set<std::string> more;
  for (const auto& network : opened.networks_)
    if (!network.broadcast.empty()) more.insert({network.broadcast, everybody});
  for (const auto& each : more) {
    auto listener = bound(each, port, true);
    if (listener) opened.sockets_.push_back(*std::move(listener));
  }
  return opened;
}

std::ptrdiff_t people_sockets::receive(int socket, std::span<char> buffer, endpoint& from) {
  sockaddr_in source{};
  socklen_t length = sizeof source;
  ssize_t size = -1;
  do {
    size = ::recvfrom(socket, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&source), &length);
  } while (size < 0 && errno == EINTR);
  if (size >= 0) from = {text_of(source.sin_addr), ntohs(source.sin_port)};
  return size;
}

void people_sockets::send(const letter& what) {
  if (!what.to.address.empty()) return send_to(what.to.address, what.to.port, what.bytes);
  std::set<std::string> all{everybody};
  for (const auto& network : networks_)
    if (!network.broadcast.empty()) all.insert(network.broadcast);
  for (const auto& each : all) send_to(each, what.to.port, what.bytes);
}

void people_sockets::send_to(const std::string& address, std::uint16_t port, const std::string& bytes) {
  const auto where = parse(address, port);
  if (!where || port == 0) return;
  const ssize_t size = ::sendto(sockets_[0].get(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&*where), sizeof *where);
  if (size >= 0) ++sent_;
}

bool people_sockets::look_around() {
  auto now = local_networks();
  own_.clear();
  for (const auto& network : now) own_.insert(network.address);
  // Bound to one address we are on its network only.
  if (address_ != "0.0.0.0") std::erase_if(now, [&](const local_network& n) { return n.address != address_; });
  if (now == networks_) return false;
  networks_ = std::move(now);
  return true;
}

std::vector<std::string> people_sockets::addresses() const {
  std::vector<std::string> all;
  for (const auto& network : networks_)
    if (networks_.size() == 1 || !network.address.starts_with("127.")) {
      all.push_back(network.address + ":" + std::to_string(port_));
    }
  if (all.empty()) all.push_back(address_ + ":" + std::to_string(port_));
  return all;
}

}  // namespace pigeon::serve
