// What we send, byte for byte, and how each kind of client reads it.
#include <gtest/gtest.h>
#include <pigeon/wire/ipmsg.hpp>

namespace pigeon::wire {
namespace {

using namespace std::string_literals;
using enum text_encoding;

const identity ann{.user = "ann", .host = "pc1", .name = "安", .group = "研发"};

datagram heard_by_us(std::string_view bytes) { return read_datagram(std::as_bytes(std::span(bytes))).value(); }

TEST(IpmsgBroadcast, SaysInItsOldFieldsOnlyWhatAsciiHas) {
  const identity self{.user = "ann", .host = "büro", .name = "安", .group = "研发"};
  EXPECT_EQ(format_broadcast(self, 9, presence::arrival),
            std::string("1:9:ann:b?ro:16777217:ann\0\0\nUN:ann\nHN:büro\nNN:安\nGN:研发\n\0utf-8\0", 68));
  const auto read = understand(*parse_packet(format_broadcast(self, 9, presence::change)));
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<greeting>(read->what).name, "安");
  EXPECT_EQ(std::get<greeting>(read->what).group, "研发");
  EXPECT_EQ(read->from.host, "büro");
  const identity plain{.user = "ann", .host = "pc", .name = "Ann Lee", .group = "Dev", .away = true};
  EXPECT_EQ(format_broadcast(plain, 9, presence::leaving),
            format_greeting(plain, 9, presence::leaving, text_encoding::utf8));
}

TEST(FormatGreeting, BroadcastIsInTheCodePageWithUtf8LinesBehind) {
  EXPECT_EQ(format_greeting(ann, 9, presence::arrival, gb18030),
            "1:9:ann:pc1:16777217:\xb0\xb2\0\xd1\xd0\xb7\xa2\0\nUN:ann\nHN:pc1\nNN:安\nGN:研发\n\0utf-8\0"s);
}

TEST(FormatGreeting, WithoutGroupLeavesItsPlaceEmpty) {
  EXPECT_EQ(format_greeting({.user = "ann", .host = "pc1", .name = "Ann", .group = ""}, 9, presence::arrival, utf8),
            "1:9:ann:pc1:16777217:Ann\0\0\nUN:ann\nHN:pc1\nNN:Ann\nGN:\n\0utf-8\0"s);
}

TEST(FormatGreeting, DeclaresUtf8OnlyInAnAnswerWrittenInIt) {
  for (const auto what : {presence::arrival, presence::answer, presence::change, presence::leaving}) {
    for (const auto fields : {utf8, gb18030, cp932}) {
      const auto sent = parse_packet(format_greeting(ann, 9, what, fields)).value();
      EXPECT_EQ(sent.has(option::utf8), what == presence::answer && fields == utf8);
      EXPECT_TRUE(sent.has(option::can_utf8));
      EXPECT_FALSE(sent.has(option::encrypt));
    }
  }
}

TEST(FormatGreeting, IsReadBack) {
  for (const auto fields : {utf8, gb18030, cp932}) {
    const auto heard = heard_by_us(format_greeting(
        {.user = "安", .host = "机", .name = "小安", .group = "研", .away = true}, 9, presence::change, fields));
    const auto hello = std::get<greeting>(heard.what);
    EXPECT_EQ(hello.name, "小安");
    EXPECT_EQ(hello.group, "研");
    EXPECT_TRUE(hello.away);
    EXPECT_EQ(heard.from.key(), "安@机");
    EXPECT_EQ(heard.from.encoding, utf8);
  }
}

TEST(FormatGreeting, NamesCannotForgeLines) {
  const auto heard = heard_by_us(format_greeting(
      {.user = "a:b", .host = "h", .name = "x\nGN:forged\0y"s, .group = "real"}, 9, presence::arrival, utf8));
  EXPECT_EQ(std::get<greeting>(heard.what).name, "x GN:forged y");
  EXPECT_EQ(std::get<greeting>(heard.what).group, "real");
  EXPECT_EQ(heard.from.key(), "a;b@h");
}

TEST(FormatText, ForEachKindOfClient) {
  EXPECT_EQ(format_text(ann, 1700000001, "hi", utf8), "1:1700000001:ann:pc1:8388896:hi\0"s);
  EXPECT_EQ(format_text(ann, 5, "你好", utf8), "1:5:ann:pc1:8388896:你好\0"s);
  EXPECT_EQ(format_text(ann, 5, "你好", gb18030), "1:5:ann:pc1:288:\xc4\xe3\xba\xc3\0"s);
  EXPECT_EQ(format_text(ann, 5, "こん", cp932), "1:5:ann:pc1:288:\x82\xb1\x82\xf1\0"s);
}

TEST(FormatText, LinesEndInLf) {
  EXPECT_EQ(format_text(ann, 5, "a\r\nb\rc\n", gb18030), "1:5:ann:pc1:288:a\nb\nc\n\0"s);
}

TEST(FormatReceipt, IsTheWorkedExample) {
  EXPECT_EQ(format_receipt({.user = "bob", .host = "pc2", .name = "", .group = ""}, 1700000077, 1700000001, utf8),
            "1:1700000077:bob:pc2:33:1700000001\0"s);
}

TEST(FormatReceipt, DeclaresUtf8WhereANameNeedsIt) {
  const identity self{.user = "安", .host = "pc2", .name = "", .group = ""};
  EXPECT_EQ(format_receipt(self, 1, 2, utf8), "1:1:安:pc2:8388641:2\0"s);
  EXPECT_EQ(format_receipt(self, 1, 2, gb18030), "1:1:\xb0\xb2:pc2:33:2\0"s);
}

TEST(FormatAnswers, AreUnderstood) {
  EXPECT_EQ(std::get<receipt>(heard_by_us(format_opened(ann, 1, 2, utf8)).what).what, receipt::fate::opened);
  EXPECT_EQ(std::get<receipt>(heard_by_us(format_opened_known(ann, 1, 2, utf8)).what).what, receipt::fate::known);
  EXPECT_EQ(parse_packet(format_program(ann, 1, "pigeon 0.1", utf8)).value().body, "pigeon 0.1");
  EXPECT_EQ(parse_packet(format_absence(ann, 1, "lunch", utf8)).value().body, "Not absence mode");
  identity away = ann;
  away.away = true;
  EXPECT_EQ(parse_packet(format_absence(away, 1, "午饭", utf8)).value().body, "午饭");
}

TEST(Parts, OfAShortTextAreTheTextItself) {
  EXPECT_EQ(parts_of("hi"), std::vector<std::string_view>{"hi"});
  EXPECT_EQ(parts_of(""), std::vector<std::string_view>{""});
}

TEST(Parts, TogetherAreTheTextAndNoneCutsACharacter) {
  std::string text;
  for (int i = 0; i < 9000; ++i) text += i % 7 == 0 ? "😀" : "好";
  for (const std::size_t limit : {4u, 5u, 6u, 7u, 1000u, 8000u}) {
    std::string together;
    for (const auto part : parts_of(text, limit)) {
      ASSERT_TRUE(is_utf8(part));
      ASSERT_LE(part.size(), limit);
      together += part;
    }
    EXPECT_EQ(together, text);
  }
}

TEST(Parts, FitTheirDatagramInEveryEncoding) {
  std::string text, name;
  for (int i = 0; i < 5000; ++i) text += "é好\r\nア";
  for (int i = 0; i < 100; ++i) name += "安";
  const identity self{.user = name, .host = name + "\xff\xff", .name = name, .group = name};
  for (const std::size_t limit : {1024u, 8000u, 65507u}) {
    for (const auto part : parts_of(text, text_size_max(limit))) {
      for (const auto to : {utf8, gb18030, cp932}) {
        ASSERT_LE(format_text(self, 4294967295u, numbered(part, 99998, 99999), to).size(), limit);
      }
    }
  }
}

TEST(Parts, AreCutBetweenLinesOrWordsWhereTheyAreNear) {
  const std::string lines = std::string(600, 'a') + "\n" + std::string(600, 'b');
  EXPECT_EQ(parts_of(lines, 1000)[1], std::string(600, 'b'));
  const std::string words = std::string(600, 'a') + " " + std::string(600, 'b');
  EXPECT_EQ(parts_of(words, 1000)[0], std::string(600, 'a') + " ");
  EXPECT_EQ(parts_of("a " + std::string(998, 'b') + "c", 1000)[0].size(), 1000u);
}

TEST(Parts, AreNumberedForPeople) {
  EXPECT_EQ(numbered("x", 1, 3), "(2/3) x");
  EXPECT_EQ(numbered("x", 0, 1), "x");
}

}  // namespace
}  // namespace pigeon::wire
