/// @file
/// Character sets of an office network: what bytes mean when nobody said, and how to write for old clients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pigeon::wire {

/// How a client writes and wants text.
enum class text_encoding : std::uint8_t {
  utf8,     ///< declared UTF-8, or proved it
  gb18030,  ///< a Chinese code page (FeiQ, old IP Messengers); written as GBK
  cp932,    ///< a Japanese code page
};

/// What bytes turned out to mean.
struct decoded {
  std::string text = {};                                ///< always valid UTF-8
  text_encoding encoding = text_encoding::utf8;    ///< which was used
  bool proved = false;  ///< the bytes were not plain ASCII and fit `encoding`: remember it for this peer
  bool lossy = false;   ///< something was replaced by U+FFFD
};

/// Whether `bytes` is UTF-8 by the letter: no overlong forms, no surrogates, nothing above U+10FFFF, nothing cut off.
[[nodiscard]] bool is_utf8(std::string_view bytes) noexcept;

/// `bytes` with each maximal ill-formed piece replaced by U+FFFD; unchanged if it is UTF-8.
[[nodiscard]] std::string repair_utf8(std::string_view bytes);

/// The longest beginning of `utf8` that is at most `size_max` bytes and cuts no character.
[[nodiscard]] std::string_view clip_utf8(std::string_view utf8, std::size_t size_max) noexcept;

/// Decodes bytes whose encoding is known. What does not fit becomes U+FFFD.
[[nodiscard]] decoded decode(std::string_view bytes, text_encoding declared);

/// Decodes bytes that declare nothing: strict UTF-8, else `preferred` (what the peer used before), else GB18030, else
/// CP932, else UTF-8 with U+FFFD. A last character that was cut off (old clients cut at 8 KiB) does not spoil the rest.
/// A single two-byte character that is UTF-8 and also right in a preferred code page is read in the code page: two such
/// bytes prove nothing.
[[nodiscard]] decoded decode_undeclared(std::string_view bytes, std::optional<text_encoding> preferred = {});

/// Writes `utf8` for a client; characters that its encoding lacks become '?'. Ill-formed UTF-8 is repaired first.
[[nodiscard]] std::string encode(std::string_view utf8, text_encoding encoding);

}  // namespace pigeon::wire
