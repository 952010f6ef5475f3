// From a packet to what it says.
#include <pigeon/wire/ipmsg.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace pigeon::wire {
namespace {

constexpr std::size_t files_max = 64;
constexpr std::size_t fingerprint_size = 16;

covey::error malformed(const char* what) {
  return {std::make_error_code(std::errc::bad_message), std::string("IP Messenger packet: ") + what};
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return lower(c); });
  return out;
}

// ---- clean text

// The size of the control character at the beginning of `utf8`, or 0: C0 and DEL are one byte, C1 are two.
std::size_t control_size(std::string_view utf8) {
  const auto first = static_cast<unsigned char>(utf8[0]);
  if (first < 0x20 || first == 0x7f) return 1;
  const bool c1 = first == 0xc2 && utf8.size() > 1 && static_cast<unsigned char>(utf8[1]) < 0xa0;
  return c1 ? 2 : 0;
}

// One line for people to read: control characters become spaces, none at either end, not too long.
std::string clean_line(std::string_view utf8) {
  std::string out;
  while (!utf8.empty()) {
    const std::size_t control = control_size(utf8);
    out += control > 0 ? ' ' : utf8[0];
    utf8.remove_prefix(std::max<std::size_t>(control, 1));
  }
  const auto begin = std::min(out.find_first_not_of(' '), out.size());
  const auto clipped = clip_utf8(std::string_view(out).substr(begin), name_size_max);
  return std::string(clipped.substr(0, clipped.find_last_not_of(' ') + 1));
}

// Text for people to read: lines end in LF, and of the control characters only TAB is left.
std::string clean_text(std::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  while (!utf8.empty()) {
    const bool line_end = utf8[0] == '\n' || utf8[0] == '\r';
    const std::size_t control = utf8.starts_with("\r\n") ? 2 : control_size(utf8);
    if (line_end) {
      out += '\n';
    } else if (control == 0 || utf8[0] == '\t') {
      out += utf8[0];
    }
    utf8.remove_prefix(std::max<std::size_t>(control, 1));
  }
  return out;
}

// ---- encodings

client_kind client_of(std::string_view version) {
  if (version.find("iptux") != version.npos) return client_kind::iptux;
  if (version.find("_lbt") != version.npos) return client_kind::feiq;
  return client_kind::plain;
}

// The strings of a packet that people read, in UTF-8.
struct strings {
  std::string user, host, body, more;         // more: the first string after the body
  text_encoding encoding = text_encoding::utf8;  // of them all
  bool proved = false;                        // they are not plain ASCII and fit it
  bool lossy = false;                         // something was replaced
};

bool is_greeting(mode what) { return what == mode::entry || what == mode::answer_entry || what == mode::absence; }

bool is_message(mode what) { return what == mode::send_message || what == mode::iptux_group; }

// The strings that people read, each ended by NUL. Elsewhere body and ext may hold pictures, which would mislead.
std::string join_strings(const packet& heard) {
  const bool has_text = is_greeting(heard.mode()) || is_message(heard.mode());
  const std::string_view body = has_text ? std::string_view(heard.body) : std::string_view();
  const std::string_view more = has_text ? heard.ext_at(0) : std::string_view();
  std::string joined;
  for (const std::string_view part : {std::string_view(heard.user), std::string_view(heard.host), body, more}) {
    (joined += part) += '\0';
  }
  return joined;
}

// All strings together, because one datagram has one encoding and a long text tells it better than a short name.
strings decode_strings(const packet& heard, std::optional<text_encoding> known) {
  const std::string joined = join_strings(heard);
  const bool declared = heard.has(option::utf8) && is_utf8(joined);
  auto made = declared ? decode(joined, text_encoding::utf8) : decode_undeclared(joined, known);
  std::string_view rest = made.text;
  const auto next = [&rest] {
    const auto end = std::min(rest.find('\0'), rest.size());
    const auto field = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return std::string(field);
  };
  strings out{.user = next(), .host = next(), .body = next(), .more = next()};
  out.encoding = made.encoding;
  out.proved = declared || made.proved;
  out.lossy = made.lossy;
  return out;
}

// How to write to a client that greets: what it announces, else what it proves, else what was known.
text_encoding encoding_to_greet(const packet& heard, const strings& said, std::optional<text_encoding> known) {
  if (heard.has(option::can_utf8) || heard.has(option::utf8)) return text_encoding::utf8;
  // iptux names an encoding in the fourth string, and takes UTF-8 from whoever names that, as we do.
  const auto named = lower(heard.ext_at(2));
  if (named == "utf-8" || (!named.empty() && client_of(heard.version) == client_kind::iptux))
    return text_encoding::utf8;
  if (said.proved) return said.encoding;
  return known.value_or(text_encoding::gb18030);
}

// How to write to a client that says anything else. Once UTF-8, always UTF-8: one that reads it may still write its
// code page before it has heard what we can.
text_encoding encoding_to_write(const packet& heard, const strings& said, std::optional<text_encoding> known) {
  if (heard.has(option::utf8) || known == text_encoding::utf8) return text_encoding::utf8;
  return said.proved ? said.encoding : known.value_or(text_encoding::gb18030);
}

// ---- who

// Moves a key fingerprint, `-` and 16 hex digits at the end of a user name, to where it belongs.
void split_fingerprint(sender& who) {
  if (who.user.size() <= fingerprint_size + 1) return;
  const auto begin = who.user.size() - fingerprint_size;
  const std::string_view tail = std::string_view(who.user).substr(begin);
  if (who.user[begin - 1] != '-' || !std::all_of(tail.begin(), tail.end(), is_hex)) return;
  who.fingerprint = lower(tail);
  who.user.resize(begin - 1);
}

sender sender_of(std::string_view version, std::string_view user, std::string_view host, text_encoding encoding) {
  sender made{.user = clean_line(user),
              .host = clean_line(host),
              .fingerprint = {},
              .client = client_of(version),
              .encoding = encoding};
  split_fingerprint(made);
  return made;
}

// ---- greetings

// The lines after the group, `\nUN:user\nHN:host\n…`; those of clients that know them are UTF-8 and win.
struct utf8_lines {
  std::optional<std::string> user, host, name, group;
};

utf8_lines read_utf8_lines(const packet& heard) {
  utf8_lines made;
  if (!heard.has(option::can_utf8) || !heard.ext_at(1).starts_with('\n')) return made;
  const std::string block = repair_utf8(heard.ext_at(1));
  std::string_view rest = block;
  while (!rest.empty()) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const auto value = line.substr(std::min<std::size_t>(3, line.size()));
    if (line.starts_with("UN:")) made.user = value;
    if (line.starts_with("HN:")) made.host = value;
    if (line.starts_with("NN:")) made.name = value;
    if (line.starts_with("GN:")) made.group = value;
  }
  return made;
}

greeting::occasion occasion_of(mode what) {
  if (what == mode::entry) return greeting::occasion::arrival;
  return what == mode::answer_entry ? greeting::occasion::answer : greeting::occasion::change;
}

datagram read_greeting(const packet& heard, strings said, std::optional<text_encoding> known) {
  const auto lines = read_utf8_lines(heard);
  datagram made{.number = heard.number,
                .from = sender_of(heard.version, lines.user.value_or(said.user), lines.host.value_or(said.host),
                                  encoding_to_greet(heard, said, known)),
                .what = ignored{}};
  greeting hello{.why = occasion_of(heard.mode()),
                 .name = clean_line(lines.name.value_or(said.body)),
                 .group = clean_line(lines.group.value_or(said.more)),
                 .away = heard.has(option::absent),
                 .can_utf8 = made.from.encoding == text_encoding::utf8,
                 .needs_unicast = heard.has(option::dial_up)};
  // iptux sets the bit of absence in every greeting and has no absence.
  if (made.from.client == client_kind::iptux) hello.away = false;
  if (hello.name.empty()) hello.name = made.from.user.empty() ? made.from.host : made.from.user;
  made.what = std::move(hello);
  return made;
}

// ---- messages

// Removes the font that FeiQ writes at the end: `{/font;…}`.
void strip_font(std::string& text) {
  if (!text.ends_with('}')) return;
  if (const auto begin = text.find("{/font;"); begin != text.npos) text.resize(begin);
}

// The name in one record `id:name:size:…`, with its "::" as ':'; empty if there is none.
std::string file_name_of(std::string_view record) {
  while (record.starts_with(':') || record.starts_with('\n')) record.remove_prefix(1);
  record.remove_prefix(std::min(record.find(':'), record.size()));
  std::string name;
  for (std::size_t i = 1; i < record.size(); ++i) {
    const bool colon = record[i] == ':';
    if (colon && !record.substr(i).starts_with("::")) return name;
    name += record[i];
    if (colon) ++i;
  }
  return {};
}

// The names in a list of records that each end in BEL.
std::vector<std::string> file_names_of(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty() && names.size() < files_max) {
    const auto end = std::min(list.find('\a'), list.size());
    if (auto name = clean_line(file_name_of(list.substr(0, end))); !name.empty()) names.push_back(std::move(name));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return names;
}

// Encrypted bodies are hex or base64 in fields; what claims to be and is not was sent in plain text.
bool is_ciphertext(const packet& heard) {
  const auto part_of_code = [](char c) {
    return is_hex(c) || (lower(c) >= 'g' && lower(c) <= 'z') || c == '+' || c == '/' || c == '=' || c == ':' ||
           c == '-';
  };
  const auto first = heard.body.find(':');
  return heard.has(option::encrypt) && first != heard.body.npos && first > 0 &&
         std::all_of(heard.body.begin(), heard.body.begin() + static_cast<std::ptrdiff_t>(first), is_hex) &&
         std::all_of(heard.body.begin(), heard.body.end(), part_of_code);
}

event read_message(const packet& heard, const strings& said, client_kind client) {
  if (is_ciphertext(heard)) return ignored{"encrypted, and we announced no key"};
  const bool to_all = heard.has(option::broadcast) || heard.mode() == mode::iptux_group;
  text_message made{.text = clean_text(said.body)};
  if (client == client_kind::feiq) strip_font(made.text);
  made.to_many = to_all || heard.has(option::multicast);
  made.lossy = said.lossy;
  if (heard.mode() == mode::iptux_group) return made;  // its options mean something else
  made.automatic = heard.has(option::auto_return);
  made.wants_receipt = heard.has(option::send_check) && !to_all && !made.automatic;
  made.sealed = heard.has(option::secret);
  made.needs_password = made.sealed && heard.has(option::password);
  made.no_add_list = heard.has(option::no_add_list);
  if (heard.has(option::file_attach)) made.files = file_names_of(said.more);
  return made;
}

result<event> read_receipt(const packet& heard, receipt::fate what) {
  receipt made{.what = what, .wants_answer = what == receipt::fate::opened && heard.has(option::read_check)};
  const char* const end = heard.body.data() + heard.body.size();
  const char* const begin = std::find_if(heard.body.data(), end, [](char c) { return c != ' '; });
  if (std::from_chars(begin, end, made.packet).ec != std::errc()) return malformed("a receipt for no packet");
  return event(made);
}

// ---- all else

ignored read_other(mode what) {
  switch (what) {
    case mode::no_operation: return {"keep-alive"};
    case mode::ask_list_holder:
    case mode::ask_list_holder_2:
    case mode::list_holder:
    case mode::get_list:
    case mode::answer_list: return {"host lists are not served"};
    case mode::get_public_key:
    case mode::answer_public_key: return {"keys are not used"};
    case mode::get_file_data:
    case mode::get_dir_files:
    case mode::release_files: return {"no files are offered"};
    case mode::send_info:
    case mode::send_absence_info: return {"answer to a question we do not ask"};
    case mode::feiq_opened:
    case mode::feiq_probe:
    case mode::feiq_probe_answer:
    case mode::feiq_typing:
    case mode::feiq_typed:
    case mode::feiq_image:
    case mode::feiq_shake:
    case mode::feiq_shaken: return {"only FeiQ knows what to do with it"};
    case mode::iptux_signature:
    case mode::iptux_sublayer:
    case mode::iptux_icon:
    case mode::iptux_ask_shared: return {"only iptux knows what to do with it"};
    default: return {"unknown command"};
  }
}

result<event> read_event(const packet& heard, const strings& said, client_kind client) {
  switch (heard.mode()) {
    case mode::exit: return event(farewell{});
    case mode::send_message:
    case mode::iptux_group: return read_message(heard, said, client);
    case mode::receive_message: return read_receipt(heard, receipt::fate::delivered);
    case mode::read_message: return read_receipt(heard, receipt::fate::opened);
    case mode::delete_message: return read_receipt(heard, receipt::fate::deleted);
    case mode::answer_read: return read_receipt(heard, receipt::fate::known);
    case mode::get_info: return event(question{question::subject::program});
    case mode::get_absence_info: return event(question{question::subject::absence});
    default: return event(read_other(heard.mode()));
  }
}

}  // namespace

std::string sender::key() const {
  std::string made = lower(user) + '@' + lower(host);
  std::replace(made.begin(), made.end(), ':', ';');
  return made;
}

result<datagram> understand(const packet& heard, std::optional<text_encoding> known) {
  auto said = decode_strings(heard, known);
  datagram made;
  if (is_greeting(heard.mode())) {
    made = read_greeting(heard, std::move(said), known);
  } else {
    made.number = heard.number;
    made.from = sender_of(heard.version, said.user, said.host, encoding_to_write(heard, said, known));
    COVEY_TRY(made.what, read_event(heard, said, made.from.client));
  }
  if (made.from.user.empty() && made.from.host.empty()) return malformed("neither user nor host");
  return made;
}

result<datagram> read_datagram(std::span<const std::byte> bytes, std::optional<text_encoding> known) {
  COVEY_TRY(const packet heard, parse_packet(bytes));
  return understand(heard, known);
}

}  // namespace pigeon::wire
