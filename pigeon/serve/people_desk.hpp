/// @file
/// people_desk: what the people service says to whom, without sockets or clocks.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <pigeon/office/courier.hpp>
#include <pigeon/office/messages.hpp>
#include <pigeon/office/roster.hpp>
#include <pigeon/wire/ipmsg.hpp>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace pigeon::serve {

/// Where a datagram comes from or goes to.
struct endpoint {
  std::string address = {};   ///< numeric IPv4; empty: everybody on every network
  std::uint16_t port = wire::ipmsg_port;  ///< UDP
  bool operator==(const endpoint&) const = default;
};

/// A datagram to send.
struct letter {
  endpoint to;
  std::string bytes;
};

/// What is to be done after the desk was told something.
struct desk_outbox {
  std::vector<letter> letters = {};            ///< to the network, in this order
  std::vector<office::to_store> news = {};     ///< to store, in this order
};

/// How the desk presents itself.
struct desk_options {
  std::string user = {};           ///< log-on name
  std::string host = {};           ///< host name
  std::string program = "pigeon";  ///< name and version, for those who ask
  std::uint16_t port = wire::ipmsg_port;  ///< of the other clients: those who speak from another are answered at both
  office::roster_options roster = {};  ///< when to ask whether somebody is still there
};

/// The moment at which the desk is told something.
struct moment {
  std::chrono::steady_clock::time_point steady;  ///< for waiting
  office::unix_ms unix_time = 0;  ///< for people, and for packet numbers
};

/// Speaks IP Messenger: answers greetings, hands messages to store and confirms them once store has them, and sends
/// what store gives until it is confirmed. It keeps nothing that its next life needs: store tells it all again.
///
///     socket ──hear()──▶ people_desk ──letters──▶ socket
///     store ──take()──▶              ──news────▶ store
///
/// Safety:  thread-compatible.
class people_desk {
 public:
  using time_point = std::chrono::steady_clock::time_point;  ///< of the clock that the caller passes in

  /// Knows nobody, and says nothing before store has told who is known.
  explicit people_desk(desk_options options);

  /// Whether store has told who is known: before that, datagrams should wait.
  [[nodiscard]] bool ready() const noexcept { return ready_; }

  /// A datagram came. False: it is not IP Messenger's. `own`: it comes from an address of this host.
  bool hear(std::string_view bytes, const endpoint& from, bool own, moment now, desk_outbox& out);

  /// Store said something.
  void take(const office::to_people& said, moment now, desk_outbox& out);

  /// Does what is due.
  void due(moment now, desk_outbox& out);

  /// When due() has something to do next.
  [[nodiscard]] std::optional<time_point> next_due() const;

  /// Says to everybody that we are here, as at the start.
  void announce(moment now, desk_outbox& out);

  /// Says to everybody that we leave.
  void leave(moment now, desk_outbox& out);

  /// How many people are here.
  [[nodiscard]] std::size_t here_count() const noexcept { return roster_.here_count(); }

  /// How many messages have no receipt yet.
  [[nodiscard]] std::size_t in_hand() const noexcept { return courier_.size(); }

 private:
  struct heard;
  struct delayed_answer {
    time_point due;
    office::person to;
  };

  void on(const heard& h, const wire::greeting& what, desk_outbox& out);
  void on(const heard& h, const wire::farewell& what, desk_outbox& out);
  void on(const heard& h, const wire::text_message& what, desk_outbox& out);
  void on(const heard& h, const wire::receipt& what, desk_outbox& out);
  void on(const heard& h, const wire::question& what, desk_outbox& out);
  void on(const heard& h, const wire::ignored& what, desk_outbox& out);

  void on(const office::own_profile& self, moment now, desk_outbox& out);
  void on(const office::message_out& message, moment now, desk_outbox& out);
  void on(const office::receipt_due& receipt, moment now, desk_outbox& out);
  void on(const office::person_known& known, moment now, desk_outbox& out);
  void on(const office::everybody_known& all, moment now, desk_outbox& out);

  bool is_own(const heard& h, bool own_address) const;
  office::person person_of(const heard& h) const;
  void refresh(const office::person& who, bool arrived, moment now, desk_outbox& out);
  void refresh_if_known(const heard& h, desk_outbox& out);
  void answer(const office::person& to, moment now, desk_outbox& out);
  void introduce(const office::person& to, wire::presence what, moment now, desk_outbox& out);
  void confirm(const office::person& to, std::uint32_t packet, moment now, desk_outbox& out);
  void finish(const std::optional<office::message_outcome>& outcome, desk_outbox& out);
  void reply(const office::person& to, std::string bytes, desk_outbox& out) const;
  [[nodiscard]] bool broadcasts_say_all() const;
  std::uint32_t number(moment now);

  const desk_options options_;
  wire::identity self_;
  bool ready_ = false;
  std::uint32_t last_number_ = 0;
  std::minstd_rand random_{std::random_device{}()};
  office::roster roster_;
  office::courier courier_;
  office::confirmations confirmations_;
  office::lives lives_;
  std::map<office::person_key, delayed_answer> answers_;  // arrivals not answered yet, in a large office
  std::map<std::int64_t, office::message_outcome> finished_;  // by message id; store may not know of them yet
};

}  // namespace pigeon::serve
