/// @file
/// The three services of an office: functions that each run in a process of their own, joined by queues only.
/// docs/design/pigeon.md tells what happens when one of them dies.
#pragma once

#include <covey/ipc/queue.hpp>
#include <covey/service/supervisor_view.hpp>
#include <cstdint>
#include <pigeon/office/messages.hpp>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

namespace pigeon::serve {

/// A service cannot do its work, and starting it again would not help: a port is taken, the data folder is full. what()
/// is one sentence for a person. Thrown out of a service it stops the office.
class cannot_serve : public std::runtime_error {
 public:
  explicit cannot_serve(const std::string& sentence);  ///< says so
};

/// web → people: say what you count.
struct report_wanted {};

/// people → web: what happened on the network since people started.
struct network_report {
  std::uint64_t received = 0;  ///< datagrams of others
  std::uint64_t malformed = 0;  ///< of these, not IP Messenger: dropped
  std::uint64_t refused = 0;  ///< messages dropped without a receipt because store was behind; they are sent again
  std::uint64_t sent = 0;  ///< datagrams
  std::uint32_t here = 0;  ///< people who are here
  std::uint32_t in_hand = 0;  ///< messages that have no receipt yet
  std::vector<std::string> addresses = {};  ///< where others reach us: `192.0.2.7:2425`

  bool operator==(const network_report&) const = default;
};

/// What people reads: nearly all of it from store.
using people_inbox = std::variant<office::to_people, report_wanted>;
/// What web reads: nearly all of it from store.
using web_inbox = std::variant<office::to_web, network_report>;

/// The queues between the services. A service that dies leaves what it had in hand to its next life.
struct office_queues {
  covey::queue<office::to_store> store;  ///< from people and web
  covey::queue<people_inbox> people;  ///< from store
  covey::queue<web_inbox> web;  ///< from store
};

/// What the user chose.
struct office_options {
  std::string data;  ///< folder of the database and of the command line's socket
  std::string name = {};  ///< own name; empty: as last time, at first the user's
  std::string group = {};  ///< own group; empty: as last time
  std::string http_address = "127.0.0.1";  ///< numeric, for browsers
  std::uint16_t http_port = 8080;  ///< 0: any free one
  std::string ipmsg_address = "0.0.0.0";  ///< numeric IPv4, for IP Messenger
  std::uint16_t ipmsg_port = 2425;  ///< UDP; of the other clients too
};

/// The Unix socket of the command line in data folder `data`.
[[nodiscard]] std::string control_socket(const std::string& data);

/// Keeps the database. Takes what waits in one transaction; says what it has to say once that is on the disk.
void run_store(std::stop_token stop, office_options options, office_queues queues);

/// Speaks IP Messenger.
void run_people(std::stop_token stop, office_options options, office_queues queues);

/// Serves browsers and the command line.
void run_web(std::stop_token stop, office_options options, office_queues queues, covey::supervisor_view services);

}  // namespace pigeon::serve
