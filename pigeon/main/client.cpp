#include <pigeon/main/client.hpp>

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <fstream>
#include <optional>
#include <pigeon/main/exit_codes.hpp>
#include <pigeon/serve/json.hpp>
#include <pigeon/serve/services.hpp>
#include <random>
#include <thread>

namespace pigeon {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using namespace std::chrono_literals;
using boost::system::error_code;
using clock = std::chrono::steady_clock;
using stream = asio::local::stream_protocol;

constexpr auto patience = 10s;      // with an office that starts its web service again
constexpr auto answer_timeout = 15s;
constexpr std::size_t answer_bytes_max = 64U << 20;

enum class trouble { no_socket, refused, broken_off, silent };

struct attempt {
  std::optional<http::response<http::string_body>> answer;
  trouble why = trouble::no_socket;
};

void limit_waiting(int fd) {
  const timeval limit{std::chrono::seconds(answer_timeout).count(), 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

attempt try_once(const std::string& path, const http::request<http::string_body>& request) {
  asio::io_context context;
  stream::socket socket(context);
  error_code failed;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) return {{}, trouble::no_socket};
  socket.connect(stream::endpoint(path), failed);
  if (failed) return {{}, failed == asio::error::connection_refused ? trouble::refused : trouble::no_socket};
  limit_waiting(socket.native_handle());
  http::write(socket, request, failed);
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(answer_bytes_max);
  if (!failed) http::read(socket, buffer, parser, failed);
  if (!failed) return {parser.release(), {}};
  return {
      {},
      failed == asio::error::would_block || failed == asio::error::try_again ? trouble::silent : trouble::broken_off};
}

nlohmann::json verdict_on(const http::response<http::string_body>& answer) {
  auto said = nlohmann::json::parse(answer.body(), nullptr, false);
  if (answer.result() == http::status::ok && !said.is_discarded()) return said;
  const bool late =
      answer.result() == http::status::gateway_timeout || answer.result() == http::status::service_unavailable;
  const std::string sentence = said.is_object() ? said.value("text", "") : answer.body();
  throw request_error(late ? exit_no_answer : exit_refused, sentence.empty() ? "the office gave no reason" : sentence);
}

}  // namespace

nlohmann::json office_client::post(const std::string& target, const nlohmann::json& body) const {
  return ask("POST", target, serve::text_of(body));
}

// Each life of web has a socket of its own; between two of them nobody answers for a moment.
nlohmann::json office_client::ask(const char* method, const std::string& target, const std::string& body) const {
  const std::string path = serve::control_socket(data_);
  http::request<http::string_body> request(http::string_to_verb(method), target, 11, body);
  request.set(http::field::host, "localhost");
  request.keep_alive(false);
  request.prepare_payload();
  const auto until = clock::now() + patience;
  for (;;) {
    const attempt made = try_once(path, request);
    if (made.answer) return verdict_on(*made.answer);
    if (made.why == trouble::silent) throw request_error(exit_no_answer, "the office did not answer in time");
    if (made.why != trouble::broken_off && !office_lives()) {
      throw request_error(exit_no_office, "no office is running on " + data_ + "; start one with `pigeon serve`");
    }
    if (clock::now() > until) throw request_error(exit_no_answer, "the office did not answer in time");
    std::this_thread::sleep_for(20ms);
  }
}

// By the process id that store leaves in the data folder: a hint, for what is only about waiting a little.
bool office_client::office_lives() const {
  std::ifstream file(data_ + "/lock");
  pid_t pid = 0;
  return file >> pid && pid > 0 && (::kill(pid, 0) == 0 || errno == EPERM);
}

std::string percent_encoded(std::string_view text) {
  static constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
    if (plain) {
      out += c;
    } else {
      out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out;
}

std::string random_name() {
  std::random_device source;
  std::array<std::uint32_t, 4> words{source(), source(), source(), source()};
  std::string name = "cli";
  for (const std::uint32_t word : words) name += "-" + std::to_string(word);
  return name;
}

}  // namespace pigeon
