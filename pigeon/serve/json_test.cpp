// Pure functions: text in, messages out, and back.
#include <pigeon/serve/json.hpp>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pigeon::serve {
namespace {

template <class Wanted>
Wanted accepted(std::string_view text) {
  const client_request request = parse_client(text);
  const auto* wanted = std::get_if<office::to_store>(&request);
  if (wanted == nullptr || !std::holds_alternative<Wanted>(*wanted)) {
    ADD_FAILURE() << "not accepted: " << text;
    return {};
  }
  return std::get<Wanted>(*wanted);
}

office::request_failed refused(std::string_view text) {
  const client_request request = parse_client(text);
  const auto* refusal = std::get_if<office::request_failed>(&request);
  if (refusal == nullptr) {
    ADD_FAILURE() << "not refused: " << text;
    return {};
  }
  return *refusal;
}

TEST(ClientJson, SendCarriesRefReceiverAndText) {
  const auto send = accepted<office::send_text>(R"({"type":"send","ref":"r1","to":"ana@desk","text":"你好 \"x\"\n"})");
  EXPECT_EQ(send.ref, "r1");
  EXPECT_EQ(send.to, "ana@desk");
  EXPECT_EQ(send.text, "你好 \"x\"\n");
}

TEST(ClientJson, HistoryHasDefaultsAndALimit) {
  const auto plain = accepted<office::history_wanted>(R"({"type":"history","ref":"r","who":"ana@desk"})");
  EXPECT_EQ(plain.before, 0);
  EXPECT_EQ(plain.limit, 50u);
  const auto greedy =
      accepted<office::history_wanted>(R"({"type":"history","ref":"r","who":"a","limit":4000000000000})");
  EXPECT_EQ(greedy.limit, history_limit_max);
}

TEST(ClientJson, MarkRenameAndPingAreUnderstood) {
  EXPECT_EQ(accepted<office::mark_read>(R"({"type":"read","who":"ana@desk","up_to":7})").up_to, 7);
  EXPECT_EQ(accepted<office::rename_self>(R"({"type":"rename","name":"Mira"})").name, "Mira");
  EXPECT_TRUE(std::holds_alternative<client_ping>(parse_client(R"({"type":"ping"})")));
}

TEST(ClientJson, RefusalsNameTheRefAndTheReason) {
  const auto empty = refused(R"({"type":"send","ref":"r9","to":"ana@desk","text":" \n"})");
  EXPECT_EQ(empty.ref, "r9");
  EXPECT_EQ(empty.text, "The message is empty.");
  for (const char* const text :
       {"", "{", "[]", "7", "null", R"({"type":7})", R"({"type":"explode"})", R"({"type":"send"})",
        R"({"type":"send","to":"a","text":"no ref"})", R"({"type":"send","ref":"r","to":"a","text":"\u0000"})",
        R"({"type":"history","who":"a","before":-1})", R"({"type":"history","who":"a","limit":1.5})",
        R"({"type":"read","who":"a","up_to":18446744073709551615})", R"({"type":"rename","name":"a\nb"})",
        "{\"type\":\"rename\",\"name\":\"\xff\"}"})
    EXPECT_FALSE(refused(text).text.empty());
  EXPECT_FALSE(refused(R"({"type":"ping","ref":")" + std::string(ref_bytes_max + 1, 'x') + "\"}").text.empty());
  EXPECT_FALSE(refused(std::string(200'000, '[')).text.empty());
}

TEST(OfficeJson, EveryNewsHasItsTypeAndItsRef) {
  const office::message what{.id = 5,
                             .who = "ana@desk",
                             .outgoing = true,
                             .packet = 3,
                             .text = "hi",
                             .time = 9,
                             .state = office::message_state::delivered};
  const auto message = as_json(office::to_web(office::message_changed{what, "r", 2}));
  EXPECT_EQ(message["type"], "message");
  EXPECT_EQ(message["ref"], "r");
  EXPECT_EQ(message["unread"], 2);
  EXPECT_EQ(message["message"]["state"], "delivered");
  EXPECT_FALSE(as_json(office::to_web(office::message_changed{what, "", 2})).contains("ref"));
  EXPECT_EQ(as_json(office::to_web(office::own_profile{"Mira", "Design"}))["self"]["name"], "Mira");
  EXPECT_EQ(as_json(office::to_web(office::request_failed{"r", "No."}))["text"], "No.");
  EXPECT_EQ(as_json(office::to_web(office::office_snapshot{}))["people"], nlohmann::json::array());
}

TEST(OfficeJson, BytesThatAreNotUtf8BecomeReplacements) {
  office::person_entry entry;
  entry.who.name = "a\xffz";
  EXPECT_NE(text_of(as_json(entry)).find("a\xef\xbf\xbdz"), std::string::npos);
}

}  // namespace
}  // namespace pigeon::serve
