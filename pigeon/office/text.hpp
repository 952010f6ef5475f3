/// @file
/// Long texts go in several datagrams: where they are cut.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace pigeon::office {

/// The most bytes of UTF-8 in one piece: with the names around it and in every encoding that a person may want, it fits
/// into the 8,000 bytes that all clients take. It may grow, but never shrink: stored messages own only the packet
/// numbers that they needed when they were written.
inline constexpr std::size_t piece_bytes_max = 6000;

/// Cuts `text`, valid UTF-8, into pieces of at most piece_bytes_max bytes: after a line end or a space where one is
/// near the limit, and never inside a character. Joined they are `text` again. An empty text is one empty piece. The
/// pieces borrow from `text`.
std::vector<std::string_view> pieces_of(std::string_view text);

}  // namespace pigeon::office
