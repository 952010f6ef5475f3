// What a stranger may send: a message, a Host header, a query. Each is refused without harm or means the same when said
// again in our words.
#include <pigeon/serve/json.hpp>
#include <pigeon/serve/web_server_guard.hpp>

#include <covey/base/check.hpp>
#include <nlohmann/json.hpp>

namespace serve = pigeon::serve;
namespace office = pigeon::office;

namespace {

void check_send(const office::send_text& send) {
  COVEY_CHECK(!send.ref.empty() && send.ref.size() <= serve::ref_bytes_max, "a ref is bounded");
  const nlohmann::json same = {{"type", "send"}, {"ref", send.ref}, {"to", send.to}, {"text", send.text}};
  const auto again = serve::parse_client(serve::text_of(same));
  const auto* wanted = std::get_if<office::to_store>(&again);
  COVEY_CHECK(wanted != nullptr && std::get<office::send_text>(*wanted).text == send.text, "format, then parse");
}

void check_message(std::string_view text) {
  const auto request = serve::parse_client(text);
  if (const auto* refusal = std::get_if<office::request_failed>(&request))
    COVEY_CHECK(!refusal->text.empty(), "a refusal says why");
  const auto* wanted = std::get_if<office::to_store>(&request);
  if (wanted == nullptr) return;
  if (const auto* send = std::get_if<office::send_text>(wanted)) check_send(*send);
  if (const auto* history = std::get_if<office::history_wanted>(wanted))
    COVEY_CHECK(history->limit > 0 && history->limit <= serve::history_limit_max, "a page is bounded");
}

void check_headers(std::string_view text) {
  if (serve::detail::host_allowed(text, "127.0.0.1", {}))
    COVEY_CHECK(text.find_first_of("/@\\") == std::string_view::npos, "a name, not an address");
  const auto value = serve::detail::query_value(text, "who");
  COVEY_CHECK(value.text.find('\0') == std::string::npos || text.find('\0') != std::string_view::npos,
              "no NUL appears");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_message(text);
  check_headers(text);
  return 0;
}
