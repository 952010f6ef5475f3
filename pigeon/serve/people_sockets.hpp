/// @file
/// The UDP sockets of IP Messenger, and the networks that this host is on.
#pragma once

#include <covey/base/result.hpp>
#include <covey/base/unique_fd.hpp>
#include <cstdint>
#include <pigeon/serve/people_desk.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace pigeon::serve {

/// One IPv4 address of this host.
struct local_network {
  std::string address;        ///< of ours
  std::string broadcast = {}; ///< reaches all on that network; empty if none
  bool operator==(const local_network&) const = default;
};

/// The IPv4 addresses of the interfaces that are up.
[[nodiscard]] std::vector<local_network> local_networks();

/// Tells whether IP Messenger's port is free, by binding it and letting go.
[[nodiscard]] covey::result<void> try_udp(const std::string& address, std::uint16_t port);

/// Sockets that hear what is sent to `address` and to everybody, and speak from `address`.
///
/// Safety:  thread-compatible.
class people_sockets {
 public:
  /// Binds them. `address` is numeric; 0.0.0.0 is every address of this host.
  [[nodiscard]] static covey::result<people_sockets> open(const std::string& address, std::uint16_t port);

  /// Their descriptors, for poll.
  [[nodiscard]] const std::vector<covey::unique_fd>& all() const noexcept { return sockets_; }

  /// What waits on `socket`, into `buffer`: the size, or -1 if nothing waits.
  static std::ptrdiff_t receive(int socket, std::span<char> buffer, endpoint& from);

  /// Sends; to everybody if the letter names no address. What the network refuses is lost, as on the wire.
  void send(const letter& what);

  /// Looks which networks there are now. True: they are not those of the last time.
  bool look_around();

  /// Whether `address` is ours.
  [[nodiscard]] bool is_own(const std::string& address) const { return own_.contains(address); }

  /// Where others reach us.
  [[nodiscard]] std::vector<std::string> addresses() const;

  /// How many datagrams were sent.
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }

 private:
  people_sockets() = default;
  void send_to(const std::string& address, std::uint16_t port, const std::string& bytes);

  std::string address_;
  std::uint16_t port_ = 0;
  std::vector<covey::unique_fd> sockets_;  // the first one speaks
  std::vector<local_network> networks_;
  std::set<std::string> own_;
  std::uint64_t sent_ = 0;
};

}  // namespace pigeon::serve
