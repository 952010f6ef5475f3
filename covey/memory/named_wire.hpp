/// @file
/// The two messages by which a program asks for a named segment and is answered. docs/design/named.md shows them.
#pragma once

#include <array>
#include <covey/base/codec.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <typeinfo>
#include <vector>

namespace covey {

/// Who may attach to a named segment, besides root's power to do anything. Whoever may attach may also write, and is
/// trusted by the others with everything in the segment and with answering for its name.
enum class sharing : std::uint32_t {
  owner,  ///< processes of the user who made it; the default
  group,  ///< also processes whose effective group is the maker's
  anyone  ///< every process on this machine
};

namespace detail {

/// Of the messages and of the segment's first page. Both sides must have the same.
inline constexpr std::uint32_t named_version = 1;

inline constexpr std::size_t named_message_bytes_max = 1024;
inline constexpr std::size_t type_name_bytes_max = 200;
inline constexpr std::uint64_t named_bytes_max = std::uint64_t{1} << 40;

/// What a program takes the segment's object for.
struct named_shape {
  std::uint64_t bytes = 0;
  std::uint64_t align = 0;
  std::uint64_t layout = 0;
  std::string type;  // for people; the layout knows it too

  [[nodiscard]] bool fits(const named_shape& other) const {
    return bytes == other.bytes && align == other.align && layout == other.layout;
  }
  /// "game::board (48 bytes, layout 1f2e…)".
  [[nodiscard]] std::string text() const;
};

/// `layout` and the name of `type` in one number, and the name for people.
named_shape make_shape(std::size_t bytes, std::size_t align, std::uint64_t layout, const std::type_info& type);

enum class named_verdict : std::uint32_t { welcome, other_version, other_type, not_allowed, other_pid_namespace };

using named_id = std::array<std::uint64_t, 2>;

/// Asks.
struct named_hello {
  named_shape wanted;
  std::uint64_t pid_namespace = 0;  // 0: unknown
};

/// Answers. With welcome come two descriptors: the memory, the socket that listens for the name.
struct named_answer {
  named_verdict verdict = named_verdict::welcome;
  sharing with = sharing::owner;
  std::uint64_t pid = 0;  // of whoever answers
  std::uint64_t pid_namespace = 0;
  named_id id{};
  std::uint64_t bytes = 0;  // of the whole segment
  named_shape holds;
};

/// Begins each message of this and every later version.
struct named_prefix {
  std::uint64_t magic;
  std::uint32_t version;
};
inline constexpr std::uint64_t named_magic = 0x6465'6d61'6e79'6576ULL;

/// The version that a message says it has; 0 when it is no message of ours.
std::uint32_t version_of(std::span<const std::byte> message) noexcept;

std::vector<std::byte> format_hello(const named_hello& hello);
std::vector<std::byte> format_answer(const named_answer& answer);

/// Throw bad_message. What they return keeps every bound named above.
named_hello parse_hello(std::span<const std::byte> message);
named_answer parse_answer(std::span<const std::byte> message);

}  // namespace detail
}  // namespace covey
