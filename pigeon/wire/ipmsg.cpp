#include <pigeon/wire/ipmsg.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace pigeon::wire {
namespace {

covey::error malformed(const char* what) {
  return {std::make_error_code(std::errc::bad_message), std::string("IP Messenger datagram: ") + what};
}

// Splits off what precedes `end`, and `end`; nothing if there is none.
std::optional<std::string_view> take_until(std::string_view& rest, char end) {
  const auto at = rest.find(end);
  if (at == rest.npos) return std::nullopt;
  const auto field = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  return field;
}

// All of `field` as a decimal number of 32 bits.
std::optional<std::uint32_t> decimal(std::string_view field) {
  std::uint32_t value = 0;
  const auto [end, why] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (why != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

// Whether the digits that a version begins with are the number one.
bool is_version_1(std::string_view version) {
  const auto digits = version.substr(0, std::min(version.find_first_not_of("0123456789"), version.size()));
  return decimal(digits) == 1;
}

bool is_name_field(std::string_view field) { return field.find('\0') == field.npos; }

// The command ends at ':', and where the body is missing at NUL or the end.
std::string_view take_command(std::string_view& rest) {
  const auto end = std::min(rest.find_first_of(std::string_view(":\0", 2)), rest.size());
  const auto field = rest.substr(0, end);
  rest.remove_prefix(end);
  if (rest.starts_with(':')) rest.remove_prefix(1);
  return field;
}

// Splits off one string and its NUL, if it has one.
std::string_view take_string(std::string_view& rest) {
  const auto end = std::min(rest.find('\0'), rest.size());
  const auto field = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return field;
}

void append_name_field(std::string& out, std::string_view field) {
  for (const char c : field) {
    const auto byte = static_cast<unsigned char>(c);
    out += c == ':' ? ';' : byte < 0x20 || byte == 0x7f ? '_' : c;
  }
  out += ':';
}

void append_string(std::string& out, std::string_view field) {
  const auto begin = static_cast<std::ptrdiff_t>(out.size());
  out += field;
  std::replace(out.begin() + begin, out.end(), '\0', ' ');
  out += '\0';
}

}  // namespace

result<packet> parse_packet(std::string_view bytes) {
  if (bytes.size() > datagram_size_max) {
    return covey::error{std::make_error_code(std::errc::message_size), "IP Messenger datagram"};
  }
  const auto version = take_until(bytes, ':');
  if (!version || !is_name_field(*version) || !is_version_1(*version)) return malformed("not version 1");
  const auto number_field = take_until(bytes, ':');
  const auto number = number_field ? decimal(*number_field) : std::nullopt;
  if (!number) return malformed("no packet number");
  const auto user = take_until(bytes, ':');
  if (!user || !is_name_field(*user)) return malformed("no user");
  const auto host = take_until(bytes, ':');
  if (!host || !is_name_field(*host)) return malformed("no host");
  const auto command = decimal(take_command(bytes));
  if (!command) return malformed("no command");

  packet made{.version = std::string(*version),
              .number = *number,
              .user = std::string(*user),
              .host = std::string(*host),
              .command = *command,
              .body = std::string(take_string(bytes)),
              .ext = {}};
  while (!bytes.empty() && made.ext.size() < packet::ext_count_max) made.ext.emplace_back(take_string(bytes));
  return made;
}

result<packet> parse_packet(std::span<const std::byte> bytes) {
  return parse_packet(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string format_packet(const packet& what) {
  std::string out;
  append_name_field(out, what.version);
  out += std::to_string(what.number) + ':';
  append_name_field(out, what.user);
  append_name_field(out, what.host);
  out += std::to_string(what.command) + ':';
  append_string(out, what.body);
  for (const auto& more : what.ext) append_string(out, more);
  return out;
}

}  // namespace pigeon::wire
