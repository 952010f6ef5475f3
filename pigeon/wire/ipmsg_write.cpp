// From what an office says to bytes.
#include <covey/base/check.hpp>
#include <pigeon/wire/ipmsg.hpp>

#include <algorithm>

namespace pigeon::wire {
namespace {

// What of a name of ours goes on the wire.
std::string presentable(std::string_view name) {
  const std::string whole = repair_utf8(name);
  std::string clean(clip_utf8(whole, name_size_max));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return clean;
}

packet begin_packet(const identity& self, std::uint32_t number, mode what, text_encoding to) {
  packet made{.number = number, .command = static_cast<std::uint32_t>(what)};
  made.user = encode(presentable(self.user), to);
  made.host = encode(presentable(self.host), to);
  return made;
}

bool is_ascii(std::string_view bytes) {
  return std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// `utf8` with a '?' for each other character.
std::string only_ascii(std::string_view utf8) {
  std::string plain;
  for (const char c : utf8) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) plain += c;
    if (byte >= 0xc0) plain += '?';
  }
  return plain;
}

// A packet to one client whose body is all there is. Declares UTF-8 where that says something.
std::string format_body(const identity& self, std::uint32_t number, mode what, std::string_view body,
                        text_encoding to) {
  packet made = begin_packet(self, number, what, to);
  made.body = encode(body, to);
  const bool says_something = !is_ascii(made.user) || !is_ascii(made.host) || !is_ascii(made.body);
  if (to == text_encoding::utf8 && says_something) made.command |= option::utf8;
  return format_packet(made);
}

mode mode_of(presence what) {
  switch (what) {
    case presence::arrival: return mode::entry;
    case presence::answer: return mode::answer_entry;
    case presence::change: return mode::absence;
    case presence::leaving: break;
  }
  return mode::exit;
}

// A line of our own names would end the block early or begin a false one: presentable() leaves no line ends.
std::string utf8_lines_of(const identity& self) {
  return "\nUN:" + presentable(self.user) + "\nHN:" + presentable(self.host) + "\nNN:" + presentable(self.name) +
         "\nGN:" + presentable(self.group) + "\n";
}

// Lines end in LF on the wire.
std::string with_lf(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      out += '\n';
    }
  }
  return out;
}

// The longest beginning of `text` that fits, up to the last line or word end in its second half if there is one.
std::string_view first_part(std::string_view text, std::size_t size_max) {
  if (text.size() <= size_max) return text;
  const auto part = clip_utf8(text, size_max);
  for (const char end : {'\n', ' '}) {
    const auto at = part.rfind(end);
    if (at != part.npos && at >= part.size() / 2) return part.substr(0, at + 1);
  }
  return part;
}

}  // namespace

std::string format_broadcast(const identity& self, std::uint32_t number, presence what) {
  identity plain = self;
  plain.user = only_ascii(presentable(self.user));
  plain.host = only_ascii(presentable(self.host));
  plain.name = is_ascii(self.name) ? self.name : plain.user;
  if (!is_ascii(self.group)) plain.group.clear();
  packet made = begin_packet(plain, number, mode_of(what), text_encoding::utf8);
  made.command |= option::can_utf8;
  if (self.away) made.command |= option::absent;
  made.body = presentable(plain.name);
  made.ext = {presentable(plain.group), utf8_lines_of(self), "utf-8"};
  return format_packet(made);
}

std::string format_greeting(const identity& self, std::uint32_t number, presence what, text_encoding old_fields) {
  packet made = begin_packet(self, number, mode_of(what), old_fields);
  made.command |= option::can_utf8;
  if (self.away) made.command |= option::absent;
  // Not where it may be broadcast: elders would take the whole for their code page, or drop it.
  if (what == presence::answer && old_fields == text_encoding::utf8) made.command |= option::utf8;
  made.body = encode(presentable(self.name), old_fields);
  made.ext = {encode(presentable(self.group), old_fields), utf8_lines_of(self), "utf-8"};
  return format_packet(made);
}

std::string format_text(const identity& self, std::uint32_t number, std::string_view text, text_encoding to) {
  packet made = begin_packet(self, number, mode::send_message, to);
  made.command |= option::send_check;
  if (to == text_encoding::utf8) made.command |= option::utf8;
  made.body = encode(with_lf(text), to);
  return format_packet(made);
}

std::string format_receipt(const identity& self, std::uint32_t number, std::uint32_t of, text_encoding to) {
  return format_body(self, number, mode::receive_message, std::to_string(of), to);
}

std::string format_opened(const identity& self, std::uint32_t number, std::uint32_t of, text_encoding to) {
  return format_body(self, number, mode::read_message, std::to_string(of), to);
}

std::string format_opened_known(const identity& self, std::uint32_t number, std::uint32_t of, text_encoding to) {
  return format_body(self, number, mode::answer_read, std::to_string(of), to);
}

std::string format_program(const identity& self, std::uint32_t number, std::string_view program, text_encoding to) {
  return format_body(self, number, mode::send_info, program, to);
}

std::string format_absence(const identity& self, std::uint32_t number, std::string_view reason, text_encoding to) {
  return format_body(self, number, mode::send_absence_info, self.away ? reason : "Not absence mode", to);
}

std::vector<std::string_view> parts_of(std::string_view utf8, std::size_t size_max) {
  COVEY_CHECK(size_max >= 4, "a part must hold a character");
  std::vector<std::string_view> parts;
  do {
    parts.push_back(first_part(utf8, size_max));
    utf8.remove_prefix(parts.back().size());
  } while (!utf8.empty());
  return parts;
}

std::string numbered(std::string_view part, std::size_t index, std::size_t count) {
  if (count == 1) return std::string(part);
  return "(" + std::to_string(index + 1) + "/" + std::to_string(count) + ") " + std::string(part);
}

}  // namespace pigeon::wire
