/// @file
/// IP Messenger (IPMSG): datagrams ⇄ packets ⇄ what an office understands. Source: IP Messenger protocol, draft; where
/// clients differ from it, docs/ipmsg.md says what is done.
///
///     socket ──bytes──▶ parse_packet ──packet──▶ understand ──datagram──▶ office
///     socket ◀──bytes── format_greeting, format_text, format_receipt, … ◀──────── office
///
/// Everything here is a pure function of its arguments.
/// Safety:  thread-safe.
#pragma once

#include <covey/base/result.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <pigeon/wire/charset.hpp>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace pigeon::wire {

using covey::result;

/// The UDP and TCP port of IP Messenger.
inline constexpr std::uint16_t ipmsg_port = 2425;

/// The largest datagram that IPv4 carries; a longer one is refused.
inline constexpr std::size_t datagram_size_max = 65507;

/// The largest datagram that every client takes: iptux and its elders cut at 8 KiB.
inline constexpr std::size_t safe_datagram_size = 8000;

/// Names are cut to so many bytes of UTF-8, at a character; coming and going.
inline constexpr std::size_t name_size_max = 128;

/// What a packet is: the low byte of its command.
enum class mode : std::uint8_t {
  no_operation = 0x00,       ///< keep-alive; no answer
  entry = 0x01,              ///< "I am here", to everybody; answered by answer_entry
  exit = 0x02,               ///< leaving, to everybody
  answer_entry = 0x03,       ///< "me too", to one
  absence = 0x04,            ///< name, absence or abilities changed; no answer
  ask_list_holder = 0x10,    ///< who can send a host list?
  list_holder = 0x11,        ///< I can
  get_list = 0x12,           ///< send the host list from this index
  answer_list = 0x13,        ///< a part of the host list
  ask_list_holder_2 = 0x18,  ///< ask_list_holder, newer
  send_message = 0x20,       ///< a message
  receive_message = 0x21,    ///< receipt; body = packet number
  read_message = 0x30,       ///< a sealed message was opened; body = packet number
  delete_message = 0x31,     ///< a sealed message was thrown away unread
  answer_read = 0x32,        ///< receipt of read_message
  get_info = 0x40,           ///< which program are you?
  send_info = 0x41,          ///< its name and version
  get_absence_info = 0x50,   ///< why are you away?
  send_absence_info = 0x51,  ///< the absence text
  get_file_data = 0x60,      ///< TCP: fetch a file
  release_files = 0x61,      ///< forget that offer of files
  get_dir_files = 0x62,      ///< TCP: fetch a tree of files
  get_public_key = 0x72,     ///< send your key
  answer_public_key = 0x73,  ///< the key
  feiq_opened = 0x77,        ///< FeiQ: the window was opened
  feiq_probe_answer = 0x78,  ///< FeiQ: answer to feiq_probe
  feiq_typing = 0x79,        ///< FeiQ: typing
  feiq_typed = 0x7a,         ///< FeiQ: no longer typing
  feiq_image = 0xc0,         ///< FeiQ: a part of a picture
  feiq_shake = 0xd1,         ///< FeiQ: shake the window
  feiq_shaken = 0xd2,        ///< FeiQ: answer to feiq_shake
  feiq_probe = 0xd8,         ///< FeiQ: are you there?
  iptux_group = 0xfb,        ///< iptux: a message to many
  iptux_signature = 0xfc,    ///< iptux: signature text
  iptux_sublayer = 0xfd,     ///< iptux: TCP, pictures
  iptux_icon = 0xfe,         ///< iptux: an icon
  iptux_ask_shared = 0xff,   ///< iptux: asks for the list of shared files
};

/// Options: the high 24 bits of a command. The same bit may mean different things in different modes.
namespace option {
// Of entry, answer_entry, absence and exit.
inline constexpr std::uint32_t absent = 0x100;           ///< away
inline constexpr std::uint32_t server = 0x200;           ///< a server, not a person
inline constexpr std::uint32_t dial_up = 0x10000;        ///< broadcasts do not reach me
inline constexpr std::uint32_t can_utf8 = 0x1000000;     ///< reads UTF-8 and the lines after the group
// Of send_message.
inline constexpr std::uint32_t send_check = 0x100;       ///< wants a receipt
inline constexpr std::uint32_t secret = 0x200;           ///< sealed: wants to know when it is opened
inline constexpr std::uint32_t broadcast = 0x400;        ///< to everybody; no receipt
inline constexpr std::uint32_t multicast = 0x800;        ///< to several
inline constexpr std::uint32_t auto_return = 0x2000;     ///< written by a program: never answer
inline constexpr std::uint32_t password = 0x8000;        ///< sealed with the receiver's password
inline constexpr std::uint32_t no_add_list = 0x80000;    ///< do not add me to your list
// Of both, where they mean the same.
inline constexpr std::uint32_t read_check = 0x100000;    ///< send_message, read_message: wants answer_read
inline constexpr std::uint32_t file_attach = 0x200000;   ///< files are offered, or can be
inline constexpr std::uint32_t encrypt = 0x400000;       ///< the body is encrypted, or can be
inline constexpr std::uint32_t utf8 = 0x800000;          ///< the whole datagram is UTF-8
}  // namespace option

/// A datagram taken apart, its strings as they came: in any encoding, with anything but ':' and NUL where those end it.
struct packet {
  std::string version = "1";  ///< decimal 1, and whatever a client decorates it with
  std::uint32_t number = 0;  ///< the sender's packet number
  std::string user = {};  ///< log-on name; no ':' or NUL
  std::string host = {};  ///< host name; no ':' or NUL
  std::uint32_t command = 0;  ///< mode and options
  std::string body = {};  ///< up to the first NUL
  std::vector<std::string> ext = {};  ///< the strings after it, each up to a NUL or the end; at most ext_count_max

  /// Strings beyond these are dropped: only pictures have more.
  static constexpr std::size_t ext_count_max = 16;

  /// What it is.
  [[nodiscard]] wire::mode mode() const noexcept { return static_cast<wire::mode>(command & 0xff); }
  /// The command without its mode.
  [[nodiscard]] std::uint32_t options() const noexcept { return command & 0xffffff00; }
  /// Whether all bits of `wanted` are set.
  [[nodiscard]] bool has(std::uint32_t wanted) const noexcept { return (command & wanted) == wanted; }
  /// The `i`th string after the body, or nothing.
  [[nodiscard]] std::string_view ext_at(std::size_t i) const noexcept {
    return i < ext.size() ? std::string_view(ext[i]) : std::string_view();
  }

  bool operator==(const packet&) const = default;
};

/// Takes a datagram apart. Tolerates a decorated version, ':' in the body, a missing last NUL and a missing body.
/// Error: bad_message, with the field that is wrong; message_size if it is longer than datagram_size_max.
[[nodiscard]] result<packet> parse_packet(std::string_view bytes);

/// The same, from what a socket reads.
[[nodiscard]] result<packet> parse_packet(std::span<const std::byte> bytes);

/// The bytes of a packet, always with a NUL after each string. What would be mistaken for structure is replaced: in
/// version, user and host ':' becomes ';' and control characters become '_'; in body and ext NUL becomes a space.
[[nodiscard]] std::string format_packet(const packet& what);

// ---- What an office understands ------------------------------------------------------------------------------------

/// Which kind of client speaks, as its version tells.
enum class client_kind : std::uint8_t {
  plain,  ///< undecorated, or decorated in a way we do not know
  iptux,  ///< iptux
  feiq,  ///< FeiQ
};

/// Who sent a datagram. All text is clean: UTF-8, without control characters, at most name_size_max bytes.
struct sender {
  std::string user = {};  ///< log-on name, without the key fingerprint
  std::string host = {};  ///< host name
  std::string fingerprint = {};  ///< 16 hex digits if the user name ended in one, else empty; nothing vouches for it
  client_kind client = client_kind::plain;  ///< what it runs
  text_encoding encoding = text_encoding::gb18030;  ///< how to write to it, by this datagram and what was known

  /// Identity: `user@host`, A–Z in lower case, ':' as ';'.
  [[nodiscard]] std::string key() const;
};

/// Somebody is here.
struct greeting {
  /// On what occasion.
  enum class occasion : std::uint8_t {
    arrival,  ///< answer with format_greeting(presence::answer)
    answer,  ///< of somebody to our arrival; no answer
    change,  ///< of name or absence; no answer
  };
  occasion why = occasion::arrival;
  std::string name = {};  ///< nickname, else the user name; clean
  std::string group = {};  ///< group or empty; clean
  bool away = false;  ///< announces absence
  bool can_utf8 = false;  ///< announces UTF-8
  bool needs_unicast = false;  ///< broadcasts do not reach it
};

/// Somebody leaves.
struct farewell {};

/// Somebody writes.
struct text_message {
  std::string text = {};  ///< UTF-8, LF line ends, no other control characters but TAB; may be empty with files
  bool wants_receipt = false;  ///< answer with format_receipt, each time it comes
  bool sealed = false;  ///< wants format_opened when a person opens it
  bool needs_password = false;  ///< sealed, and to be opened with the local password only
  bool automatic = false;  ///< written by a program: never answer with a message
  bool to_many = false;  ///< others got it too
  bool no_add_list = false;  ///< the sender does not want to be listed
  bool lossy = false;  ///< parts of the text could not be read
  std::vector<std::string> files = {};  ///< names of files offered, clean; at most 64
};

/// Somebody got, opened or threw away what we sent.
struct receipt {
  /// What became of the message.
  enum class fate : std::uint8_t {
    delivered,  ///< arrived
    opened,  ///< sealed, and now read
    deleted,  ///< sealed, and thrown away unread
    known,  ///< our format_opened arrived
  };
  std::uint32_t packet = 0;  ///< our packet number
  fate what = fate::delivered;
  bool wants_answer = false;  ///< opened: answer with format_opened_known
};

/// Somebody asks.
struct question {
  /// For what.
  enum class subject : std::uint8_t {
    program,  ///< name and version; answer with format_program
    absence,  ///< why we are away; answer with format_absence
  };
  subject about = subject::program;
};

/// Right, but not for us.
struct ignored {
  std::string_view why;  ///< static text, for a log
};

/// What a datagram says.
using event = std::variant<greeting, farewell, text_message, receipt, question, ignored>;

/// A datagram that was understood.
struct datagram {
  std::uint32_t number = 0;  ///< the sender's packet number; to be given to format_receipt
  sender from;
  event what;
};

/// What a packet says. `known` is the encoding remembered for that client, if any: it helps where the packet declares
/// none. Afterwards remember `from.encoding`. Error: bad_message, if a part that matters is missing.
[[nodiscard]] result<datagram> understand(const packet& heard, std::optional<text_encoding> known = {});

/// parse_packet and understand in one.
[[nodiscard]] result<datagram> read_datagram(std::span<const std::byte> bytes, std::optional<text_encoding> known = {});

// ---- What an office says -------------------------------------------------------------------------------------------

/// How we present ourselves; UTF-8. Longer names than name_size_max are cut.
struct identity {
  std::string user = {};  ///< log-on name
  std::string host = {};  ///< host name
  std::string name = {};  ///< nickname
  std::string group = {};  ///< group or empty
  bool away = false;  ///< absent
};

/// Which greeting to send.
enum class presence : std::uint8_t {
  arrival,  ///< to everybody, or to one address that broadcasts do not reach
  answer,  ///< to one that arrived
  change,  ///< to everybody, or to one whose encoding differs from that of our arrival
  leaving,  ///< to everybody
};

/// A greeting to everybody. In the old fields, whose encoding nobody can know, is only what ASCII has: the log-on name
/// for a nickname, and no group. UTF-8 lines follow for clients that know them, and `utf-8` where iptux looks for it;
/// others learn our names by a greeting of their own. (A code page there and UTF-8 in the lines make iptux 0.8.3 take
/// the whole for UTF-16.)
[[nodiscard]] std::string format_broadcast(const identity& self, std::uint32_t number, presence what);

/// A greeting to one. The old fields are written in `old_fields`, the receiver's encoding; the rest is as in a
/// broadcast.
[[nodiscard]] std::string format_greeting(const identity& self, std::uint32_t number, presence what,
                                          text_encoding old_fields);

/// A message that wants a receipt, for a client that reads `to`. `text` is short: see parts_of(). To send it again,
/// send the same bytes.
[[nodiscard]] std::string format_text(const identity& self, std::uint32_t number, std::string_view text,
                                      text_encoding to);

/// The receipt for a message numbered `of`.
[[nodiscard]] std::string format_receipt(const identity& self, std::uint32_t number, std::uint32_t of,
                                         text_encoding to);

/// Says that the sealed message numbered `of` was opened.
[[nodiscard]] std::string format_opened(const identity& self, std::uint32_t number, std::uint32_t of, text_encoding to);

/// The answer to a receipt of fate::opened that wants one.
[[nodiscard]] std::string format_opened_known(const identity& self, std::uint32_t number, std::uint32_t of,
                                              text_encoding to);

/// The answer to a question for our program's name and version.
[[nodiscard]] std::string format_program(const identity& self, std::uint32_t number, std::string_view program,
                                         text_encoding to);

/// The answer to a question for our absence; `reason` is used if we are away.
[[nodiscard]] std::string format_absence(const identity& self, std::uint32_t number, std::string_view reason,
                                         text_encoding to);

/// How much text surely fits a datagram of `datagram_size` bytes (at least 1024), in every encoding and with a number.
[[nodiscard]] constexpr std::size_t text_size_max(std::size_t datagram_size = safe_datagram_size) noexcept {
  constexpr std::size_t header = 2 * name_size_max + 64;  // version, numbers, both names, separators
  constexpr std::size_t number = 24;  // `(12/34) `, and room for more
  return datagram_size - header - number;
}

/// Cuts `utf8`, valid UTF-8, into parts of at most `size_max` bytes (at least 4): after a line or word in the second
/// half of a part if there is one, never inside a character. The parts borrow from `utf8` and joined are it; no text is
/// one empty part.
[[nodiscard]] std::vector<std::string_view> parts_of(std::string_view utf8, std::size_t size_max = text_size_max());

/// Part `index`, counted from 0, of `count`, for people to put in order: `(2/3) …`. A single part is left as it is.
[[nodiscard]] std::string numbered(std::string_view part, std::size_t index, std::size_t count);

}  // namespace pigeon::wire
