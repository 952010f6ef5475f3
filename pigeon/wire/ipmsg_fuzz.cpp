// Any datagram is refused without harm or understood, and what is accepted survives format → parse.
#include <covey/base/check.hpp>
#include <pigeon/wire/ipmsg.hpp>

#include <cstdint>

namespace wire = pigeon::wire;

namespace {

void check_text(const std::string& text) { COVEY_CHECK(wire::is_utf8(text), "what people read is UTF-8"); }

void check_line(const std::string& line) {
  check_text(line);
  COVEY_CHECK(line.size() <= wire::name_size_max, "names are bounded");
  for (const char c : line) COVEY_CHECK(static_cast<unsigned char>(c) >= 0x20, "names hold no control characters");
}

void check_meaning(const wire::packet& heard, std::optional<wire::text_encoding> known) {
  const auto meant = wire::understand(heard, known);
  if (!meant) return;
  check_line(meant->from.user);
  check_line(meant->from.host);
  if (const auto* hello = std::get_if<wire::greeting>(&meant->what)) {
    check_line(hello->name);
    check_line(hello->group);
  }
  if (const auto* message = std::get_if<wire::text_message>(&meant->what)) {
    check_text(message->text);
    for (const auto& file : message->files) check_line(file);
    for (const auto& piece : wire::parts_of(message->text, wire::text_size_max(1024))) {
      const wire::identity self{.user = meant->from.user, .host = meant->from.host, .name = "n", .group = "g"};
      const auto sent = wire::format_text(self, meant->number, piece, meant->from.encoding);
      COVEY_CHECK(sent.size() <= 1024, "a piece fits");
      COVEY_CHECK(wire::parse_packet(sent).has_value(), "what we say can be read");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto heard = wire::parse_packet(std::as_bytes(std::span(data, size)));
  if (!heard) return 0;
  const auto again = wire::parse_packet(wire::format_packet(*heard));
  // Control characters in names are replaced once; what then goes out is stable.
  COVEY_CHECK(again.has_value() && wire::format_packet(*again) == wire::format_packet(*heard), "round trip");
  COVEY_CHECK(again->body == heard->body && again->ext == heard->ext && again->number == heard->number &&
                  again->command == heard->command,
              "no text or number is changed by a round trip");
  for (const auto known : {std::optional<wire::text_encoding>(), std::optional(wire::text_encoding::utf8),
                           std::optional(wire::text_encoding::gb18030), std::optional(wire::text_encoding::cp932)}) {
    check_meaning(*heard, known);
  }
  return 0;
}
