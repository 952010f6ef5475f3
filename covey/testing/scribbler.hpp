/// @file
/// For tests: a participant that writes over all of covey's shared memory that it may write.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>

namespace covey::testing {

/// With what.
enum class filling : std::uint8_t {
  random,   ///< anything
  zeros,    ///< 0
  ones,     ///< all bits
  pattern,  ///< every second bit
  shifted,  ///< what stands 128 bytes further
};
/// All of them.
inline constexpr filling fillings[] = {filling::random, filling::zeros, filling::ones, filling::pattern,
                                       filling::shifted};

/// [begin, end), word by word.
inline void fill(std::uint64_t begin, std::uint64_t end, filling how, std::mt19937_64& random) {
  auto* const first = reinterpret_cast<std::uint64_t*>(begin);
  const std::size_t words = (end - begin) / sizeof(std::uint64_t);
  constexpr std::size_t slot_words = 16;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint64_t word = 0;
    switch (how) {
      case filling::random: word = random(); break;
      case filling::zeros: break;
      case filling::ones: word = ~0ULL; break;
      case filling::pattern: word = 0x5555555555555555; break;
      case filling::shifted: word = i + slot_words < words ? first[i + slot_words] : 0; break;
    }
    static_cast<volatile std::uint64_t*>(first)[i] = word;
  }
}

/// Over each writable mapping of the arena: whole when it has at most 8 MiB, as what lies in small queues, broadcasts
/// and locks has, which is filled also where no memory has been reserved yet.
///
/// Not filled: of what is larger (a heap, which has 1 GiB of addresses; a queue for 64 MiB) all but the first 256 KiB;
/// what is mapped read-only; this process's cells, which only it writes; memory with a name.
inline void scribble(filling how, unsigned seed) {
  constexpr std::uint64_t whole = 8 << 20;
  constexpr std::uint64_t first_of_larger = 256 << 10;
  std::mt19937_64 random(seed);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    char rights[5] = {};
    if (line.find("memfd:covey:arena") == std::string::npos) continue;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) == 3 && rights[1] == 'w')
      fill(begin, end - begin <= whole ? end : begin + first_of_larger, how, random);
  }
}

/// A message that shows whether it is whole.
struct sealed {
  std::uint64_t number = 0;             ///< which
  std::uint64_t check = 0;              ///< of `number`
  std::array<std::uint64_t, 6> rest{};  ///< `number`, again and again

  /// A whole one.
  static sealed with(std::uint64_t n) { return {n, n * 0x9e3779b97f4a7c15ULL, {n, n, n, n, n, n}}; }
  /// Whether it is as with() made it.
  [[nodiscard]] bool whole() const { return check == number * 0x9e3779b97f4a7c15ULL && rest[5] == number; }
};

}  // namespace covey::testing
