#include <pigeon/office/text.hpp>

namespace pigeon::office {
namespace {

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// Where to cut `text`, which is too long for one piece.
std::size_t cut(std::string_view text) {
  const std::string_view head = text.substr(0, piece_bytes_max);
  for (const char end : {'\n', ' '}) {
    const std::size_t at = head.rfind(end);
    if (at != std::string_view::npos && at >= piece_bytes_max / 2) return at + 1;
  }
  std::size_t at = piece_bytes_max;
  while (at > piece_bytes_max - 4 && continues_character(text[at])) --at;  // No character has more than four bytes.
  return at;
}

}  // namespace

std::vector<std::string_view> pieces_of(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (text.size() > piece_bytes_max) {
    const std::size_t at = cut(text);
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at);
  }
  if (!text.empty() || pieces.empty()) pieces.push_back(text);
  return pieces;
}

}  // namespace pigeon::office
