// Pure functions: a text is cut and joined again.
#include <pigeon/office/text.hpp>

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace pigeon::office {
namespace {

TEST(PiecesOf, LeavesAShortTextWhole) {
  EXPECT_EQ(pieces_of("").size(), 1U);
  EXPECT_EQ(pieces_of(std::string(piece_bytes_max, 'x')).size(), 1U);
  EXPECT_EQ(pieces_of(std::string(piece_bytes_max + 1, 'x')).size(), 2U);
}

TEST(PiecesOf, CutsAfterALineEndOrElseASpace) {
  const std::string text = std::string(4000, 'x') + "\n" + std::string(1000, 'y') + " " + std::string(2000, 'z');
  EXPECT_EQ(pieces_of(text)[0].size(), 4001U);
  const std::string words = std::string(5000, 'x') + " " + std::string(2000, 'z');
  EXPECT_EQ(pieces_of(words)[0].size(), 5001U);
}

TEST(PiecesOf, CutsNoCharacterAndLosesNothing) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    while (text.size() < 20'000) {
      constexpr const char* characters[] = {"x", "é", "好", "🕊", " ", "\n"};
      text += characters[random() % (round % 2 == 0 ? 6 : 4)];
    }
    std::string joined;
    for (const auto piece : pieces_of(text)) {
      EXPECT_LE(piece.size(), piece_bytes_max);
      EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xc0, 0x80);
      joined += piece;
    }
    EXPECT_EQ(joined, text);
  }
}

TEST(PiecesOf, EndsOnBytesThatAreNoText) { EXPECT_EQ(pieces_of(std::string(3 * piece_bytes_max, '\x80')).size(), 4U); }

}  // namespace
}  // namespace pigeon::office
