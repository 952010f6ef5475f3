/// @file
/// backtrace: the frames of a crash, with names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace covey {

/// One call of a stack.
struct stack_frame {
  std::uint64_t address = 0;  ///< of the instruction
  std::string function{};     ///< demangled; empty when the file has no symbol there
  std::uint64_t offset = 0;   ///< bytes into the function
  std::string module{};       ///< the file that holds the code
};

/// The frames of a crash, innermost first.
using backtrace = std::vector<stack_frame>;

/// Names the functions at `addresses` of this program, from the symbol tables of its files (static functions too,
/// unless stripped). Reads files; takes milliseconds for large ones.
backtrace symbolize(std::span<const std::uint64_t> addresses);

/// One line per frame, `#0 render(scene const&)+0x1c in ./program`.
std::string to_string(const backtrace& frames);

}  // namespace covey
