// Known bytes on one side, known text on the other; and every cut of them.
#include <pigeon/wire/charset.hpp>
#include <gtest/gtest.h>

#include <random>

namespace pigeon::wire {
namespace {

using enum text_encoding;

constexpr std::string_view hello_gbk = "\xc4\xe3\xba\xc3\xa3\xac\xca\xc0\xbd\xe7";  // 你好，世界
constexpr std::string_view hello_cp932 = "\x82\xb1\x82\xf1\x82\xc9\x82\xbf\x82\xcd";  // こんにちは

std::string utf8_of(char32_t c) {
  std::string out;
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c), out;
  if (c < 0x800) return put(0xc0 | c >> 6), put(0x80 | (c & 63)), out;
  if (c < 0x10000) return put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), out;
  return put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), out;
}

TEST(Utf8, AcceptsExactlyTheScalarValues) {
  for (char32_t c = 0; c < 0x110400; ++c) {
    const bool scalar = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
    ASSERT_EQ(is_utf8(utf8_of(c)), scalar) << std::hex << static_cast<unsigned>(c);
  }
}

TEST(Utf8, RefusesOverlongAndCutForms) {
  for (const auto* bytes :
       {"\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf", "\x80", "\xbf",
        "\xfe", "\xff", "\xf5\x80\x80\x80", "\xe4\xbd", "\xf0\x9f\x98", "\xe4z\xbd"}) {
    EXPECT_FALSE(is_utf8(bytes));
    EXPECT_TRUE(is_utf8(repair_utf8(bytes)));
  }
}

TEST(Utf8, RepairReplacesEachIllFormedPieceOnce) {
  EXPECT_EQ(repair_utf8("a\xe4\xbdz"), "a\uFFFDz");
  EXPECT_EQ(repair_utf8("\xff\xff"), "\uFFFD\uFFFD");
  EXPECT_EQ(repair_utf8("你好"), "你好");
}

TEST(Utf8, ClipCutsNoCharacter) {
  const std::string text = "aé你😀";
  for (std::size_t size = 0; size <= text.size() + 1; ++size) {
    const auto clipped = clip_utf8(text, size);
    EXPECT_TRUE(is_utf8(clipped));
    EXPECT_LE(clipped.size(), size);
    EXPECT_GT(clipped.size() + 4, std::min(size, text.size()));
  }
}

TEST(Undeclared, Utf8IsRecognized) {
  const auto made = decode_undeclared("你好");
  EXPECT_EQ(made.text, "你好");
  EXPECT_EQ(made.encoding, utf8);
  EXPECT_TRUE(made.proved);
  EXPECT_FALSE(made.lossy);
}

TEST(Undeclared, ChineseCodePageIsRecognized) {
  const auto made = decode_undeclared(hello_gbk);
  EXPECT_EQ(made.text, "你好，世界");
  EXPECT_EQ(made.encoding, gb18030);
  EXPECT_TRUE(made.proved);
}

TEST(Undeclared, FourByteCharactersOfGb18030AreRead) {
  EXPECT_EQ(decode_undeclared("\xc4\xe3\x94\x39\xfc\x36").text, "你😀");
}

TEST(Undeclared, EuroSignOfWindowsIsRead) {
  const auto made = decode_undeclared("\x80\x35\xc4\xe3");
  EXPECT_EQ(made.text, "€5你");
  EXPECT_EQ(made.encoding, gb18030);
}

TEST(Undeclared, JapaneseCodePageIsReadWhereChineseDoesNotFit) {
  const auto made =
      decode_undeclared("\x83\x65\x83\x58\x83\x67\xb1");  // "テストｱ": the last byte is half a Chinese character
  EXPECT_EQ(made.text, "テストｱ");
  EXPECT_EQ(made.encoding, cp932);
}

TEST(Undeclared, TheEncodingOfThePeerWins) {
  EXPECT_EQ(decode_undeclared(hello_cp932, cp932).text, "こんにちは");
  EXPECT_EQ(decode_undeclared(hello_gbk, gb18030).text, "你好，世界");
  EXPECT_EQ(decode_undeclared(hello_cp932, cp932).encoding, cp932);
}

TEST(Undeclared, Utf8WinsOverThePeersCodePageWhereItIsDecisive) {
  EXPECT_EQ(decode_undeclared("你好", gb18030).encoding, utf8);
  EXPECT_EQ(decode_undeclared("你", gb18030).text, "你");
}

TEST(Undeclared, OneTwoByteCharacterIsReadAsThePeerWrites) {
  EXPECT_EQ(decode_undeclared("\xc2\xb7").text, "·");
  EXPECT_EQ(decode_undeclared("\xc2\xb7", gb18030).text, "路");
}

TEST(Undeclared, AsciiProvesNothing) {
  const auto made = decode_undeclared("hello", cp932);
  EXPECT_EQ(made.text, "hello");
  EXPECT_EQ(made.encoding, cp932);
  EXPECT_FALSE(made.proved);
}

TEST(Undeclared, TextCutInsideItsLastCharacterKeepsTheRest) {
  const std::string_view text = "你好吗";
  EXPECT_EQ(decode_undeclared(text.substr(0, 8)).text, "你好\uFFFD");
  EXPECT_EQ(decode_undeclared(text.substr(0, 8)).encoding, utf8);
  const auto made = decode_undeclared(hello_gbk.substr(0, 9), gb18030);
  EXPECT_EQ(made.text, "你好，世\uFFFD");
  EXPECT_EQ(made.encoding, gb18030);
  EXPECT_TRUE(made.lossy);
}

TEST(Undeclared, WhatFitsNothingBecomesReplacements) {
  const auto made = decode_undeclared("a\xff\xff z");
  EXPECT_EQ(made.text, "a\uFFFD\uFFFD z");
  EXPECT_TRUE(made.lossy);
  EXPECT_FALSE(made.proved);
}

TEST(Undeclared, AnyBytesBecomeUtf8) {
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    for (const auto known :
         {std::optional<text_encoding>(), std::optional(utf8), std::optional(gb18030), std::optional(cp932)}) {
      ASSERT_TRUE(is_utf8(decode_undeclared(bytes, known).text)) << i;
      ASSERT_TRUE(is_utf8(decode(bytes, known.value_or(utf8)).text)) << i;
    }
  }
}

TEST(Declared, WhatDoesNotFitIsReplacedAndTheRestKept) {
  const auto made = decode("\xc4\xe3\xff\xba\xc3", gb18030);
  EXPECT_EQ(made.text, "你\uFFFD好");
  EXPECT_TRUE(made.lossy);
  EXPECT_EQ(decode("\xff你", utf8).text, "\uFFFD你");
}

TEST(Encode, WritesTheCodePages) {
  EXPECT_EQ(encode("你好，世界", gb18030), hello_gbk);
  EXPECT_EQ(encode("こんにちは", cp932), hello_cp932);
  EXPECT_EQ(encode("你好", utf8), "你好");
}

TEST(Encode, WhatTheCodePageLacksBecomesAQuestionMark) {
  EXPECT_EQ(encode("a😀b", gb18030), "a?b");
  EXPECT_EQ(encode("😀😀", cp932), "??");
  EXPECT_EQ(encode("a\xff", gb18030), "a?");
}

TEST(Encode, NeverGrows) {  // parts_of() relies on it.
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c == 0xd800) c = 0xe000;
    if (c == 0x10000) c = 0x1f000;  // of the planes above, one with emoji is enough
    if (c == 0x20000) break;
    const auto text = utf8_of(c);
    ASSERT_LE(encode(text, gb18030).size(), text.size()) << std::hex << static_cast<unsigned>(c);
    ASSERT_LE(encode(text, cp932).size(), text.size()) << std::hex << static_cast<unsigned>(c);
  }
}

TEST(Encode, WhatTheChineseCodePageHoldsComesBack) {
  for (char32_t c = 0x80; c < 0xffff; ++c) {
    if (c == 0xd800) c = 0xe000;
    const auto text = utf8_of(c), bytes = encode(text, gb18030);
    ASSERT_TRUE(bytes == "?" || decode(bytes, gb18030).text == text) << std::hex << static_cast<unsigned>(c);
  }
}

}  // namespace
}  // namespace pigeon::wire
