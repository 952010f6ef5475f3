#include <pigeon/serve/json.hpp>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

namespace pigeon::serve {

namespace {

using nlohmann::json;

constexpr std::size_t name_bytes_max = 256;

const char* word_for(office::message_state state) {
  switch (state) {
    case office::message_state::received: return "received";
    case office::message_state::waiting: return "waiting";
    case office::message_state::delivered: return "delivered";
    case office::message_state::failed: return "failed";
  }
  return "failed";
}

const char* word_for(office::text_encoding encoding) {
  switch (encoding) {
    case office::text_encoding::utf8: return "utf-8";
    case office::text_encoding::gb18030: return "gb18030";
    case office::text_encoding::cp932: return "cp932";
  }
  return "utf-8";
}

json list_of(const auto& items) {
  json list = json::array();
  for (const auto& item : items) list.push_back(as_json(item));
  return list;
}

json with_ref(json object, const std::string& ref) {
  if (!ref.empty()) object["ref"] = ref;
  return object;
}

struct news_writer {
  json operator()(const office::office_snapshot& all) const {
    return {{"type", "hello"}, {"self", as_json(all.self)}, {"people", list_of(all.people)}};
  }
  json operator()(const office::own_profile& self) const { return {{"type", "self"}, {"self", as_json(self)}}; }
  json operator()(const office::person_changed& news) const {
    return {{"type", "person"}, {"person", as_json(news.entry)}};
  }
  json operator()(const office::message_changed& news) const {
    return with_ref({{"type", "message"}, {"message", as_json(news.what)}, {"unread", news.unread}}, news.ref);
  }
  json operator()(const office::history_page& page) const {
    return with_ref({{"type", "history"},
                     {"who", page.who.key},
                     {"name", page.who.name},
                     {"messages", list_of(page.messages)},
                     {"more", page.more}},
                    page.ref);
  }
  json operator()(const office::request_failed& news) const {
    return with_ref({{"type", "error"}, {"text", news.text}}, news.ref);
  }
};

std::optional<std::string> string_in(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

// Missing counts as `otherwise`; a number that is not a whole one, or negative, as nothing.
std::optional<std::int64_t> count_in(const json& object, const char* name, std::int64_t otherwise) {
  const auto found = object.find(name);
  if (found == object.end()) return otherwise;
  if (!found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX) return std::nullopt;
  const auto value = found->get<std::int64_t>();
  return value < 0 ? std::nullopt : std::optional(value);
}

bool blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

client_request refuse(std::string ref, std::string sentence) {
  return office::request_failed{std::move(ref), std::move(sentence)};
}

client_request read_send(const json& object, std::string ref) {
  auto to = string_in(object, "to");
  auto text = string_in(object, "text");
  if (!to || to->empty()) return refuse(std::move(ref), "Say in `to` who shall get the message.");
  if (!text || blank(*text)) return refuse(std::move(ref), "The message is empty.");
  if (text->find('\0') != std::string::npos)
    return refuse(std::move(ref), "The message contains a NUL character, which IP Messenger cannot carry.");
  if (ref.empty()) return refuse(std::move(ref), "Give the message a `ref`, so that a repetition is recognised.");
  return office::to_store(office::send_text{std::move(ref), *std::move(to), *std::move(text)});
}

client_request read_history(const json& object, std::string ref) {
  auto who = string_in(object, "who");
  const auto before = count_in(object, "before", 0);
  const auto limit = count_in(object, "limit", 50);
  if (!who || who->empty()) return refuse(std::move(ref), "Say in `who` whose history is wanted.");
  if (!before || !limit) return refuse(std::move(ref), "`before` and `limit` are whole numbers, not negative.");
  const auto bounded = std::clamp<std::int64_t>(*limit, 1, history_limit_max);
  return office::to_store(
      office::history_wanted{std::move(ref), *std::move(who), *before, static_cast<std::uint32_t>(bounded)});
}

client_request read_mark(const json& object, std::string ref) {
  auto who = string_in(object, "who");
  const auto up_to = count_in(object, "up_to", 0);
  if (!who || who->empty() || !up_to) return refuse(std::move(ref), "Say in `who` and `up_to` what was read.");
  return office::to_store(office::mark_read{*std::move(who), *up_to});
}

client_request read_rename(const json& object, std::string ref) {
  auto name = string_in(object, "name");
  if (!name || blank(*name)) return refuse(std::move(ref), "The name is empty.");
  if (name->size() > name_bytes_max) return refuse(std::move(ref), "The name is too long.");
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(name->begin(), name->end(), control))
    return refuse(std::move(ref), "The name contains a control character.");
  return office::to_store(office::rename_self{*std::move(name)});
}

client_request read_ping(const json&, std::string) { return client_ping{}; }

struct verb {
  std::string_view type;
  client_request (*read)(const json&, std::string);
};

constexpr std::array verbs{verb{"send", read_send}, verb{"history", read_history}, verb{"read", read_mark},
                           verb{"rename", read_rename}, verb{"ping", read_ping}};

}  // namespace

json as_json(const office::person_entry& entry) {
  const office::person& who = entry.who;
  return {{"who", who.key},   {"name", who.name},       {"group", who.group}, {"user", who.user},
          {"host", who.host}, {"address", who.address}, {"port", who.port},   {"encoding", word_for(who.encoding)},
          {"here", who.here}, {"away", who.away},       {"seen", who.seen},   {"unread", entry.unread}};
}

json as_json(const office::message& what) {
  return {{"id", what.id},     {"who", what.who},   {"outgoing", what.outgoing},     {"packet", what.packet},
          {"text", what.text}, {"time", what.time}, {"state", word_for(what.state)}, {"read", what.read}};
}

json as_json(const office::own_profile& self) { return {{"name", self.name}, {"group", self.group}}; }

json as_json(const office::to_web& news) { return std::visit(news_writer{}, news); }

std::string text_of(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

client_request parse_client(std::string_view text) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) return refuse("", "A message is one JSON object.");
  std::string ref = string_in(object, "ref").value_or("");
  if (ref.size() > ref_bytes_max) return refuse("", "The `ref` is longer than 128 bytes.");
  const auto type = string_in(object, "type").value_or("");
  const auto found = std::find_if(verbs.begin(), verbs.end(), [&](const verb& v) { return v.type == type; });
  if (found == verbs.end()) return refuse(std::move(ref), "`type` must be send, history, read, rename or ping.");
  return found->read(object, std::move(ref));
}

}  // namespace pigeon::serve
