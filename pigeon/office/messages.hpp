/// @file
/// What the services of an office say to each other: plain values that travel through covey queues.
///
/// `store` is the hub and the only one that remembers. `people` speaks IP Messenger, `web` speaks to browsers and to
/// the command line; both may die at any time and ask `store` again when they are back. Every message may be delivered
/// twice (a queue redelivers what a dead consumer had in hand), so each is written to change nothing the second time.
///
///     people ──person_seen, message_in, message_outcome──▶ store ──person_changed, message_changed──▶ web
///     people ◀──own_profile, message_out, receipt_due────── store ◀──send_text, history_wanted, …──── web
#pragma once

#include <cstdint>
#include <pigeon/wire/charset.hpp>
#include <string>
#include <variant>
#include <vector>

namespace pigeon::office {

/// Milliseconds since 1970, UTC.
using unix_ms = std::int64_t;

/// Who a person is, however often the address changes: `user@host`, lower case, without ':' or control characters.
using person_key = std::string;

/// How a person's client wants text.
using wire::text_encoding;

/// Somebody on the network.
struct person {
  person_key key;       ///< identity
  std::string name;     ///< what to show: the nickname, else the user name
  std::string group;    ///< the group announced, or empty
  std::string user;     ///< log-on name as announced
  std::string host;     ///< host name as announced
  std::string address;  ///< numeric address where last seen, e.g. `192.0.2.7`
  std::uint16_t port = 2425;                       ///< UDP port of that client
  text_encoding encoding = text_encoding::utf8;    ///< how to write to it
  bool here = false;    ///< present now
  bool away = false;    ///< present, but announced absence
  unix_ms seen = 0;     ///< when last heard of
  /// When its client was first seen to have started anew and to count its packets from the beginning again (see
  /// lives); 0: never, or not known. Packet numbers are compared within one life only.
  unix_ms life = 0;
};

/// How far an outgoing message got; incoming ones are `received`.
enum class message_state : std::uint8_t {
  received,   ///< incoming: stored here
  waiting,    ///< outgoing: stored here, not yet acknowledged by the other side (sent again when it is seen)
  delivered,  ///< outgoing: the other side acknowledged it
  failed,     ///< outgoing: refused for good, see the reason
};

/// One message of a conversation, as stored.
struct message {
  std::int64_t id = 0;          ///< ours; rises with time
  person_key who;               ///< the other side
  bool outgoing = false;        ///< written here
  std::uint32_t packet = 0;     ///< IP Messenger packet number: the sender's
  std::string text;             ///< UTF-8
  unix_ms time = 0;             ///< when stored
  message_state state = message_state::received;  ///< how far it got
  bool read = false;            ///< incoming: seen by a person at the page
  std::string reason = {};      ///< failed: why, one sentence for a person
};

/// A person and how many of their messages nobody has read yet.
struct person_entry {
  person who;
  std::uint32_t unread = 0;
};

// ---- people → store ------------------------------------------------------------------------------------------------

/// `people` has started and knows nobody: store answers with own_profile, every known person, everybody_known, and
/// every message_out that waits.
struct people_started {};

/// Somebody was heard of (came, changed name, went away or left: see person.here).
struct person_seen {
  person who;
};

/// A message arrived. Stored once for each (sender, life of its client, packet); answered by receipt_due each time if
/// it wants a receipt.
struct message_in {
  person from;
  std::uint32_t packet = 0;
  std::string text;
  bool wants_receipt = false;
};

/// What became of a message_out.
struct message_outcome {
  std::int64_t id = 0;
  message_state state = message_state::delivered;  ///< delivered, or failed; once delivered, always delivered
  std::string reason = {};                         ///< failed: why, one sentence for a person
};

// ---- web → store ---------------------------------------------------------------------------------------------------

/// `web` has started: store answers with office_snapshot.
struct web_started {};

/// Somebody at the page or the command line writes. Answered by message_changed or by request_failed.
struct send_text {
  std::string ref;  ///< the asker's own, echoed. Unique for ever (a UUID, say), because it makes a repeated request
                    ///< harmless: the second gets the first one's answer. Empty: no such protection.
  std::string to;  ///< a person key, or a name that only one person has
  std::string text;
};

/// Wants the `limit` newest messages with `who` that are older than `before` (0: the newest). Answered by history_page.
struct history_wanted {
  std::string ref;
  std::string who;  ///< as in send_text::to
  std::int64_t before = 0;
  std::uint32_t limit = 50;
};

/// Everything from `who` up to message `up_to` has been seen.
struct mark_read {
  person_key who;
  std::int64_t up_to = 0;
};

/// The own name changes.
struct rename_self {
  std::string name;
};

// ---- store → people ------------------------------------------------------------------------------------------------

/// How this office calls itself.
struct own_profile {
  std::string name;
  std::string group;
};

/// Send this, again and again until a receipt comes. Packet numbers rise for ever, also across restarts. A long text
/// goes in several datagrams, see pieces_of(): piece i has the number packet + i, and all these numbers are this
/// message's own.
struct message_out {
  std::int64_t id = 0;
  std::uint32_t packet = 0;  ///< of the first piece
  person to;
  std::string text;
};

/// The message is committed: now its receipt may leave.
struct receipt_due {
  person to;
  std::uint32_t packet = 0;
};

/// A person known from earlier, to be looked for.
struct person_known {
  person who;
  std::uint32_t last_packet = 0;  ///< the highest number of a message in its present life; 0: none came
};

/// Every person_known has been said.
struct everybody_known {
  std::uint32_t last_own_packet = 0;  ///< the highest number that was ever given to a message of ours
};

// ---- store → web ---------------------------------------------------------------------------------------------------

/// All that a page needs to begin. Also sent unasked when store itself is back after a crash.
struct office_snapshot {
  own_profile self;
  std::vector<person_entry> people;
};

/// Somebody came, left or changed, or the unread count did.
struct person_changed {
  person_entry entry;
};

/// A message is new or got further. `ref` is that of the send_text that made it, or empty.
struct message_changed {
  message what;
  std::string ref;
  std::uint32_t unread = 0;  ///< of that person, after the change
};

/// A piece of a conversation, oldest first.
struct history_page {
  std::string ref;
  person who;
  std::vector<message> messages;
  bool more = false;  ///< older ones exist
};

/// A request could not be done; `text` is one sentence for a person.
struct request_failed {
  std::string ref;
  std::string text;
};

/// What store reads.
using to_store = std::variant<people_started, person_seen, message_in, message_outcome, web_started, send_text,
                              history_wanted, mark_read, rename_self>;
/// What people reads.
using to_people = std::variant<own_profile, message_out, receipt_due, person_known, everybody_known>;
/// What web reads.
using to_web =
    std::variant<office_snapshot, own_profile, person_changed, message_changed, history_page, request_failed>;

}  // namespace pigeon::office
