/// @file
/// The command line's side of the owner's door: HTTP over the Unix socket of a running office.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace pigeon {

/// The office could not be asked, or said no: an exit code, and one sentence for stderr.
class request_error : public std::runtime_error {
 public:
  request_error(int code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}  ///< says so
  /// The program's exit code.
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A running office, as docs/web-protocol.md describes its API.
///
/// Safety:  thread-compatible.
class office_client {
 public:
  /// The office whose data folder is `data`.
  explicit office_client(std::string data) : data_(std::move(data)) {}

  /// The answer to GET `target`, e.g. `/api/people`. Throws request_error. An office whose web service is just starting
  /// again is waited for.
  [[nodiscard]] nlohmann::json get(const std::string& target) const { return ask("GET", target, {}); }

  /// The answer to POST `body` to `target`. It may be sent twice, so `body` must have a `ref`.
  [[nodiscard]] nlohmann::json post(const std::string& target, const nlohmann::json& body) const;

 private:
  [[nodiscard]] nlohmann::json ask(const char* method, const std::string& target, const std::string& body) const;
  [[nodiscard]] bool office_lives() const;

  std::string data_;
};

/// `text` for the query of a URL.
[[nodiscard]] std::string percent_encoded(std::string_view text);

/// A new random name, for a `ref`.
[[nodiscard]] std::string random_name();

}  // namespace pigeon
