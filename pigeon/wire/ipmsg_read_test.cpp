// What datagrams of each kind of client say: real captures where we have them, else as their sources write them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pigeon/wire/ipmsg.hpp>

namespace pigeon::wire {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using enum text_encoding;

datagram read(std::string_view bytes, std::optional<text_encoding> known = {}) {
  return read_datagram(std::as_bytes(std::span(bytes)), known).value();
}

template <class Event>
Event read_as(std::string_view bytes, std::optional<text_encoding> known = {}) {
  return std::get<Event>(read(bytes, known).what);
}

TEST(Greeting, OfIptux) {
  const auto heard = read("1_iptux 0.8.3:1:root:vm:257:IptuxOne\0Dev\0icon-tux.png\0utf-8\0"s);
  const auto hello = std::get<greeting>(heard.what);
  EXPECT_EQ(hello.why, greeting::occasion::arrival);
  EXPECT_EQ(hello.name, "IptuxOne");
  EXPECT_EQ(hello.group, "Dev");
  EXPECT_FALSE(hello.away) << "iptux sets that bit always";
  EXPECT_EQ(heard.from.client, client_kind::iptux);
  EXPECT_EQ(heard.from.encoding, utf8);
  EXPECT_EQ(heard.from.key(), "root@vm");
}

TEST(Greeting, OfIptuxThatPrefersGbkIsJudgedByItsBytesAndWrittenToByItsLabel) {
  const auto heard = read("1_iptux 0.8.3:1:root:vm:257:\xc0\xcf\xcd\xf5\0\xd1\xd0\xb7\xa2\0icon-tux.png\0utf-8\0"s);
  EXPECT_EQ(std::get<greeting>(heard.what).name, "老王");
  EXPECT_EQ(std::get<greeting>(heard.what).group, "研发");
  EXPECT_EQ(heard.from.encoding, utf8);
}

TEST(Greeting, OfFeiqInChinese) {
  const auto heard =
      read("1_lbt6_0#128#001122334455#0#0#0#4001#9:5:wang:PC-9:6291459:\xc0\xcf\xcd\xf5\0\xd1\xd0\xb7\xa2\0"s);
  const auto hello = std::get<greeting>(heard.what);
  EXPECT_EQ(hello.why, greeting::occasion::answer);
  EXPECT_EQ(hello.name, "老王");
  EXPECT_EQ(hello.group, "研发");
  EXPECT_EQ(heard.from.client, client_kind::feiq);
  EXPECT_EQ(heard.from.encoding, gb18030);
  EXPECT_EQ(heard.from.key(), "wang@pc-9");
}

TEST(Greeting, Utf8LinesWinOverTheOldFields) {
  const auto heard =
      read("1:7:zhang:old:16777217:\xd5\xc5\0old group\0\nUN:张三\nHN:机器\nNN:小张\nGN:研发\nVS:00010305\n\0"s);
  const auto hello = std::get<greeting>(heard.what);
  EXPECT_EQ(hello.name, "小张");
  EXPECT_EQ(hello.group, "研发");
  EXPECT_EQ(heard.from.user, "张三");
  EXPECT_EQ(heard.from.host, "机器");
  EXPECT_EQ(heard.from.encoding, utf8);
  EXPECT_TRUE(hello.can_utf8);
}

TEST(Greeting, Utf8LinesOfAClientThatDoesNotAnnounceThemAreNotRead) {
  EXPECT_EQ(read_as<greeting>("1:7:u:h:1:old\0\0\nNN:new\n\0"s).name, "old");
}

TEST(Greeting, WithoutNicknameShowsTheUser) {
  EXPECT_EQ(read_as<greeting>("1:7:ann:pc:1:\0"s).name, "ann");
  EXPECT_EQ(read_as<greeting>("1:7::pc:1:\0"s).name, "pc");
}

TEST(Greeting, FingerprintIsTakenOffTheUser) {
  const auto heard = read("1:7:ann-0123456789ABCDEF:pc:1:n\0"s);
  EXPECT_EQ(heard.from.user, "ann");
  EXPECT_EQ(heard.from.fingerprint, "0123456789abcdef");
  EXPECT_EQ(heard.from.key(), "ann@pc");
  EXPECT_EQ(read("1:7:ann-0123456789abcdeg:pc:1:n\0"s).from.user, "ann-0123456789abcdeg");
  EXPECT_EQ(read("1:7:-0123456789abcdef:pc:1:n\0"s).from.user, "-0123456789abcdef");
}

TEST(Greeting, OptionsAreRead) {
  const auto hello = read_as<greeting>("1:7:u:h:65796:n\0"s);  // 0x10104
  EXPECT_EQ(hello.why, greeting::occasion::change);
  EXPECT_TRUE(hello.away);
  EXPECT_TRUE(hello.needs_unicast);
}

TEST(Greeting, ThatProvesNothingKeepsWhatWasKnown) {
  EXPECT_EQ(read("1:7:u:h:1:n\0"s).from.encoding, gb18030);
  EXPECT_EQ(read("1:7:u:h:1:n\0"s, cp932).from.encoding, cp932);
  EXPECT_EQ(read("1:7:u:h:1:n\0"s, utf8).from.encoding, utf8);
}

TEST(Greeting, NamesAreCleanAndBounded) {
  const auto hello = read_as<greeting>("1:7:u:h:1: a\x1b[31m\nb\xc2\x9b \0"s + std::string(300, 'g'));
  EXPECT_EQ(hello.name, "a [31m b");
  EXPECT_EQ(hello.group.size(), name_size_max);
  std::string wide = "1:7:u:h:1:";
  for (int i = 0; i < 100; ++i) wide += "你";
  EXPECT_EQ(read_as<greeting>(wide).name.size(), 126u);
}

TEST(Greeting, WithoutUserAndHostIsRefused) { EXPECT_FALSE(understand(parse_packet("1:7:::1:n").value())); }

TEST(Farewell, IsUnderstood) { EXPECT_TRUE(std::holds_alternative<farewell>(read("1:7:u:h:2:n\0"s).what)); }

TEST(Message, DeclaredUtf8) {
  const auto heard = read("1:1700000001:ann:pc1:8388896:hi 你\0"s, gb18030);
  const auto said = std::get<text_message>(heard.what);
  EXPECT_EQ(heard.number, 1700000001u);
  EXPECT_EQ(said.text, "hi 你");
  EXPECT_TRUE(said.wants_receipt);
  EXPECT_EQ(heard.from.encoding, utf8);
}

TEST(Message, FalselyDeclaredUtf8IsReadAsItIs) {
  EXPECT_EQ(read_as<text_message>("1:1:a:b:8388896:\xc4\xe3\xba\xc3\0"s).text, "你好");
}

TEST(Message, UndeclaredChinese) {
  const auto heard = read("1:1:a:b:288:\xc4\xe3\xba\xc3\0"s);
  EXPECT_EQ(std::get<text_message>(heard.what).text, "你好");
  EXPECT_EQ(heard.from.encoding, gb18030);
}

TEST(Message, UndeclaredUtf8OfIptux) {
  const auto heard = read("1_iptux 0.8.3:1:a:b:288:你好\0"s);
  EXPECT_EQ(std::get<text_message>(heard.what).text, "你好");
  EXPECT_EQ(heard.from.encoding, utf8);
}

TEST(Message, InACodePageDoesNotUnlearnUtf8) {
  const auto heard = read("1:1:a:b:288:\xc4\xe3\xba\xc3\0"s, utf8);
  EXPECT_EQ(std::get<text_message>(heard.what).text, "你好");
  EXPECT_EQ(heard.from.encoding, utf8);
}

TEST(Message, JapaneseOfAPeerKnownAsSuch) {
  EXPECT_EQ(read_as<text_message>("1:1:a:b:288:\x82\xb1\x82\xf1\0"s, cp932).text, "こん");
}

TEST(Message, ThatNobodyMayAnswerWantsNoReceipt) {
  EXPECT_FALSE(read_as<text_message>("1:1:a:b:1312:x"s).wants_receipt);  // SENDCHECK | BROADCAST
  EXPECT_TRUE(read_as<text_message>("1:1:a:b:1312:x"s).to_many);
  const auto automatic = read_as<text_message>("1:1:a:b:8480:x"s);  // SENDCHECK | AUTORET
  EXPECT_FALSE(automatic.wants_receipt);
  EXPECT_TRUE(automatic.automatic);
  EXPECT_TRUE(read_as<text_message>("1:1:a:b:2336:x"s).wants_receipt);  // SENDCHECK | MULTICAST
}

TEST(Message, SealedIsSurfacedWithItsOptions) {
  const auto said = read_as<text_message>("1:1:a:b:33568:secret\0"s);  // SENDCHECK | SECRET | PASSWORD
  EXPECT_EQ(said.text, "secret");
  EXPECT_TRUE(said.sealed);
  EXPECT_TRUE(said.needs_password);
}

TEST(Message, FilesOfferedAreNamed) {
  const auto said = read_as<text_message>(
      "1:1:a:b:2097184:see\0"
      "7:a::b.txt:12c:65000000:1:\a\0"s);
  EXPECT_EQ(said.text, "see");
  EXPECT_THAT(said.files, ElementsAre("a:b.txt"));
  EXPECT_THAT(read_as<text_message>("1:1:a:b:2097184:\0"
                                    "0:x:1:1:1:\a:1:y:1:1:2:14=65:\a2:z:1:1:1\a3"s)
                  .files,
              ElementsAre("x", "y", "z"));
}

TEST(Message, FilesAreBounded) {
  std::string bytes = "1:1:a:b:2097184:\0"s;
  for (int i = 0; i < 1000; ++i) bytes += "0:x:1:1:1:\a";
  EXPECT_EQ(read_as<text_message>(bytes).files.size(), 64u);
}

TEST(Message, FontOfFeiqIsRemoved) {
  EXPECT_EQ(read_as<text_message>("1_lbt6_0#128#0#0#0#0#4001#9:1:a:b:288:hi{/font;-13 0 0;}"s).text, "hi");
  EXPECT_EQ(read_as<text_message>("1:1:a:b:288:hi{/font;-13 0 0;}"s).text, "hi{/font;-13 0 0;}");
  EXPECT_EQ(read_as<text_message>("1_lbt6_0#1:1:a:b:288:/:wx {/font; is no font"s).text, "/:wx {/font; is no font");
}

TEST(Message, LinesEndInLfAndControlsAreDropped) {
  EXPECT_EQ(read_as<text_message>("1:1:a:b:32:a\r\nb\rc\n\td\x1b[0m\x7f\xc2\x9b!\xc2\x9b"s).text, "a\nb\nc\n\td[0m!");
}

TEST(Message, CiphertextIsIgnoredAndFalseCiphertextRead) {
  EXPECT_TRUE(std::holds_alternative<ignored>(read("1:1:a:b:4194592:3100006:9af0:77ab\0"s).what));
  EXPECT_EQ(read_as<text_message>("1:1:a:b:4194592:hello: you\0"s).text, "hello: you");
}

TEST(Message, ToAGroupOfIptux) {
  const auto said = read_as<text_message>("1_iptux 0.8.3:1:a:b:1019:all\0"s);  // 0x3fb
  EXPECT_EQ(said.text, "all");
  EXPECT_TRUE(said.to_many);
  EXPECT_FALSE(said.sealed);
  EXPECT_FALSE(said.wants_receipt);
}

TEST(Receipt, NamesOurPacket) {
  EXPECT_EQ(read_as<receipt>("1:1700000077:bob:pc2:33:1700000001\0"s).packet, 1700000001u);
  EXPECT_EQ(read_as<receipt>("1:1:bob:pc2:33: 12 \0"s).packet, 12u);
  EXPECT_EQ(read_as<receipt>("1:1:bob:pc2:49:12\0"s).what, receipt::fate::deleted);
  EXPECT_EQ(read_as<receipt>("1:1:bob:pc2:50:12\0"s).what, receipt::fate::known);
  const auto opened = read_as<receipt>("1:1:bob:pc2:1048624:12\0"s);
  EXPECT_EQ(opened.what, receipt::fate::opened);
  EXPECT_TRUE(opened.wants_answer);
}

TEST(Receipt, ForNoPacketIsRefused) {
  for (const auto* bytes : {"1:1:b:p:33:", "1:1:b:p:33:x", "1:1:b:p:33:-1", "1:1:b:p:33:4294967296"}) {
    EXPECT_FALSE(understand(parse_packet(bytes).value())) << bytes;
  }
}

TEST(Question, IsUnderstood) {
  EXPECT_EQ(read_as<question>("1:1:b:p:64:"s).about, question::subject::program);
  EXPECT_EQ(read_as<question>("1:1:b:p:80:"s).about, question::subject::absence);
}

TEST(Other, PicturesDoNotMisleadTheReadingOfNames) {
  EXPECT_EQ(read("1:1:\xd5\xc5\xc8\xfd:pc:192:\x89PNG\r\n\xff\xff\0\xff\0"s).from.key(), "张三@pc");
}

TEST(Other, IsIgnoredWithAReason) {
  for (int mode = 0; mode < 256; ++mode) {
    const auto heard = understand(parse_packet("1:1:b:p:" + std::to_string(mode) + ":1").value()).value();
    const auto* other = std::get_if<ignored>(&heard.what);
    EXPECT_TRUE(!other || !other->why.empty()) << mode;
  }
  EXPECT_EQ(read_as<ignored>("1:1:b:p:0:"s).why, "keep-alive");
}

}  // namespace
}  // namespace pigeon::wire
