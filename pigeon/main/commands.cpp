#include <pigeon/main/commands.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <pigeon/main/exit_codes.hpp>
#include <pigeon/serve/json.hpp>
#include <string_view>

namespace pigeon {

namespace {

using nlohmann::json;

constexpr std::string_view bold = "1";
constexpr std::string_view dim = "2";
constexpr std::string_view red = "31";
constexpr std::string_view green = "32";

// `text` in a colour, where that is wanted.
std::string in(std::string_view colour, const std::string& text, output how) {
  return how.colour ? fmt::format("\x1b[{}m{}\x1b[0m", colour, text) : text;
}

int print_json(const json& what) {
  fmt::print("{}\n", serve::text_of(what));
  return exit_done;
}

std::string local_time(std::int64_t unix_ms) {
  return fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(static_cast<std::time_t>(unix_ms / 1000)));
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

// Counts characters, not bytes; wide ones count once, which misaligns and no more.
std::size_t width(std::string_view utf8) {
  std::size_t count = 0;
  for (const char c : utf8) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

std::string padded(std::string text, std::size_t columns) {
  const std::size_t has = width(text);
  if (has < columns) text.append(columns - has, ' ');
  return text;
}

std::string text_in(const json& object, const char* name) { return object.value(name, ""); }

std::string presence(const json& person) {
  if (!person.value("here", false)) return "gone";
  return person.value("away", false) ? "away" : "here";
}

void print_person(const json& person, output how) {
  const std::string where = presence(person);
  const auto unread = person.value("unread", 0U);
  fmt::print("{}  {}  {}  {}{}\n", in(where == "gone" ? dim : green, where, how),
             in(bold, padded(text_in(person, "name"), 20), how), padded(text_in(person, "who"), 24),
             text_in(person, "address"), unread > 0 ? fmt::format("  {} unread", unread) : "");
}

// Lines after the first are indented, so that nobody's text can look like somebody else's.
void print_message(const json& message, const std::string& name, output how) {
  const bool ours = message.value("outgoing", false);
  const std::string state = text_in(message, "state");
  std::string text = text_in(message, "text");
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 5) text.replace(at, 1, "\n    ");
  const std::string note =
      ours && state != "delivered" ? in(state == "failed" ? red : dim, " [" + state + "]", how) : "";
  fmt::print("{}  {}: {}{}\n", in(dim, local_time(message.value("time", std::int64_t{0})), how),
             in(bold, ours ? "me" : name, how), text, note);
}

}  // namespace

bool wants_colour() {
  const char* const no_colour = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && (no_colour == nullptr || *no_colour == '\0') && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

int people_command(const office_client& office, output how) {
  json people = office.get("/api/people").at("people");
  for (json& each : people) each["key"] = each["who"];
  if (how.json) return print_json(people);
  if (people.empty()) fmt::print("Nobody has been seen yet.\n");
  for (const json& each : people) print_person(each, how);
  return exit_done;
}

int send_command(const office_client& office, const std::string& who, const std::string& text, output how) {
  const json answer = office.post("/api/send", {{"to", who}, {"text", text}, {"ref", random_name()}});
  if (how.json) return print_json(answer.at("message"));
  const json& message = answer.at("message");
  fmt::print("Stored as message {} to {}; it is sent until it arrives.\n", message.value("id", std::int64_t{0}),
             text_in(message, "who"));
  return exit_done;
}

int history_command(const office_client& office, const std::string& who, std::uint32_t limit, output how) {
  const json page = office.get("/api/history?who=" + percent_encoded(who) + "&limit=" + std::to_string(limit));
  if (how.json) return print_json(page);
  const std::string name = text_in(page, "name");
  if (page.at("messages").empty()) fmt::print("Nothing has been said with {}.\n", name);
  if (page.value("more", false)) fmt::print("{}\n", in(dim, "(older messages exist; see --limit)", how));
  for (const json& each : page.at("messages")) print_message(each, name, how);
  return exit_done;
}

int status_command(const office_client& office, output how) {
  const json status = office.get("/api/status");
  if (how.json) return print_json(status);
  fmt::print("pigeon {}: page {}, data {}\n", text_in(status, "version"), text_in(status, "page"),
             text_in(status, "data"));
  for (const json& each : status.at("services")) {
    const std::string phase = text_in(each, "phase");
    const std::string last_end = text_in(each, "last_end");
    fmt::print("{}  {}  pid {:<8} up {:<14} restarts {}{}\n", in(bold, padded(text_in(each, "name"), 7), how),
               in(phase == "running" ? green : red, padded(phase, 10), how), each.value("pid", 0),
               duration(each.value("uptime_s", 0.0)), each.value("restarts", 0U),
               last_end.empty() ? "" : "; last " + last_end);
  }
  for (const json& each : status.at("queues")) {
    fmt::print("queue to {}  {} of {} waiting\n", padded(text_in(each, "to"), 7), each.value("waiting", 0U),
               each.value("capacity", 0U));
  }
  const json& network = status.at("network");
  std::string addresses;
  for (const json& each : network.at("addresses"))
    addresses += (addresses.empty() ? "" : ", ") + each.get<std::string>();
  fmt::print("network  UDP {}; {} here; {} received, {} malformed, {} refused, {} sent; {} messages in hand\n",
             addresses, network.value("here", 0U), network.value("received", 0U), network.value("malformed", 0U),
             network.value("refused", 0U), network.value("sent", 0U), network.value("in_hand", 0U));
  return exit_done;
}

}  // namespace pigeon
