/// @file
/// How messages are sent until they arrive, and how those that arrive twice are told apart: policy without sockets or
/// clocks of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <pigeon/office/messages.hpp>
#include <set>
#include <string>
#include <vector>

namespace pigeon::office {

/// Sends each message until its receipt comes: at once, then after 0.75, 1.5, 3, 3 and 3 seconds; then the messages for
/// that person rest until it is heard of again. For each person one datagram at a time, in the order of the packet
/// numbers: some clients drop a number that is lower than one they saw, and lose what comes in a burst.
///
///     submit ──▶ waiting in line ──▶ first in line: due ──due()──▶ sent, due again later ──acknowledged()──▶ delivered
///                                         ▲                            │ unanswered six times
///                                         └── heard(), returned() ── resting
///
/// Somebody who talks but never sends receipts must not get the same message for ever: the first rest ends with the
/// next word from there, the second lasts at least 30 s, then 1, 2 and 4 minutes, and after that only returned() ends
/// it.
///
/// Safety:  thread-compatible.
class courier {
 public:
  /// A moment of the clock that the caller passes in.
  using time_point = std::chrono::steady_clock::time_point;

  /// One datagram to send now.
  struct parcel {
    person to;
    std::uint32_t packet = 0;
    std::string text;  ///< a whole message, or a piece of a long one
    bool again = false;  ///< sent before (IP Messenger's RETRYOPT)
  };

  /// What is to be sent, and who should be asked whether they are still there.
  struct round {
    std::vector<parcel> parcels;
    std::vector<person_key> silent;  ///< gave no receipt for so long that their messages rest from now on
  };

  /// Takes a message; one that it has already is only addressed anew. `now` is when it may first leave.
  void submit(message_out message, time_point now);

  /// A datagram of `who` came: what is not yet sent goes to its address, and its rest ends as soon as it may.
  void heard(const person& who, time_point now);

  /// `who` came back: it sent an entry packet, or was not here before. Its rest ends now.
  void returned(const person& who, time_point now);

  /// A receipt for `packet` came from `who`. The outcome, once the whole message is acknowledged.
  std::optional<message_outcome> acknowledged(const person_key& who, std::uint32_t packet, time_point now);

  /// The message of `packet` cannot be sent at all, for a reason that is one sentence; the outcome to report.
  std::optional<message_outcome> refused(const person_key& who, std::uint32_t packet, std::string reason,
                                         time_point now);

  /// When due() has something to say next; nothing if all messages rest or there are none.
  [[nodiscard]] std::optional<time_point> next_due() const;

  /// What is due at `now`.
  [[nodiscard]] round due(time_point now);

  /// How many messages have not been acknowledged.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  struct item {
    message_out message;
    std::vector<std::string> pieces;
    std::size_t next = 0;  // The piece that has no receipt yet.
  };
  struct line {
    std::map<std::uint32_t, item> items;  // By packet number of the first piece.
    std::size_t sent = 0;  // How often the piece in front was sent since it came to the front or was woken.
    bool again = false;  // Whether it was sent before.
    std::optional<time_point> due;  // None: it rests.
    std::size_t rests = 0;  // In a row.
    time_point rest_end{};  // Before it only returned() ends the rest.
  };

  static void advance(line& in_line, time_point now);
  static void wake(line& in_line, time_point when);
  static std::map<std::uint32_t, item>::iterator find(line& in_line, std::uint32_t packet);

  std::map<person_key, line> lines_;  // Never an empty one.
};

/// Remembers which messages are confirmed, so that the receipt of one that comes again can leave at once. Only that: a
/// message that it does not know may still be stored already, and store knows.
///
/// An entry lives for ten minutes, exactly as long as the store takes the same number for the same message whatever it
/// says; after that an old client may use the number for something new. At most 2,048 entries for each of the 256
/// people who were confirmed last.
///
/// Safety:  thread-compatible.
class confirmations {
 public:
  /// A moment of the clock that the caller passes in.
  using time_point = courier::time_point;

  /// A message arrived. True: it is stored, so repeat the receipt and forget the message. False: store must see it.
  [[nodiscard]] bool is_confirmed(const person_key& from, std::uint32_t packet, time_point now);

  /// The store says that it has the message: its receipt_due came.
  void confirm(const person_key& from, std::uint32_t packet, time_point now);

  /// The client of `from` counts from the beginning again: its numbers mean other messages from now on.
  void forget(const person_key& from);

 private:
  struct sender {
    std::set<std::uint32_t> packets;
    std::deque<std::pair<time_point, std::uint32_t>> order;  // Oldest first.
  };

  static void expire(sender& from, time_point now);
  void make_room();

  std::map<person_key, sender> senders_;
};

/// Tells when a client has started anew and counts its packets from the beginning again, as iptux does: then an entry
/// packet has a number that is not above that of a message which came before. Only messages count, because only their
/// numbers are remembered; so the second of two equal greetings begins no second life.
///
/// At most 8,192 clients; beyond that the one with the lowest key is forgotten, and its next message makes it known
/// again.
///
/// Safety:  thread-compatible.
class lives {
 public:
  /// A message with this number came from `who`, or is stored from an earlier time.
  void message(const person_key& who, std::uint32_t number);

  /// An entry packet with this number came from `who`. True: a new life begins.
  [[nodiscard]] bool begins(const person_key& who, std::uint32_t number);

 private:
  std::map<person_key, std::uint32_t> last_message_;
};

}  // namespace pigeon::office
