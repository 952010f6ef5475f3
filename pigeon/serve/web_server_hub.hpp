/// @file
/// The hub of the web server: who is connected, what they asked, and who gets which answer. No sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <pigeon/office/messages.hpp>
#include <set>
#include <string>
#include <string_view>

#include <pigeon/serve/web_server.hpp>

namespace pigeon::serve::detail {

/// Text for a client, shared by all that get the same.
using frame = std::shared_ptr<const std::string>;

/// One connected WebSocket client.
class outlet {
 public:
  /// `client` is the name space of its refs: sessions of one browser share it.
  explicit outlet(std::string client) : client_(std::move(client)) {}
  outlet(const outlet&) = delete;
  outlet& operator=(const outlet&) = delete;
  virtual ~outlet() = default;

  /// Queues text for the client, or gives the client up if it is too slow.
  virtual void push(frame text) = 0;

 private:
  friend class hub;
  const std::string client_;
  std::set<std::string> pages_wanted_;  // refs of history requests that are not answered yet
};

/// Distributes. A client's `ref` goes to store as `client:ref`, and comes back without the prefix.
///
/// Safety:  loop-bound.
class hub {
 public:
  /// What to do with an answer to somebody who is not an outlet.
  using answer_sink = std::function<void(const office::to_web&)>;

  /// `on_request` receives what clients want from store.
  explicit hub(web_server::request_sink on_request) : on_request_(std::move(on_request)) {}

  /// Adds a client and greets it, now or as soon as store has told who is here.
  void join(outlet& client);

  /// Removes a client; its requests stay with store.
  void leave(outlet& client) noexcept;

  /// A client said something.
  void hear(outlet& from, std::string_view text);

  /// Store said something.
  void deliver(office::to_web news);

  /// Passes a request to store and calls `then` once with the answer. Returns a number for forget().
  std::uint64_t ask(office::to_store request, answer_sink then);

  /// Calls `then` once when the next snapshot has come.
  std::uint64_t await_snapshot(answer_sink then);

  /// No answer is wanted any more; harmless if it was given.
  void forget(std::uint64_t question) noexcept;

  /// The greeting, if store has told who is here.
  [[nodiscard]] std::optional<std::string> hello() const;

 private:
  struct question {
    std::string ref;
    answer_sink then;
  };

  void remember(const office::to_web& news);
  void spread(const office::to_web& news);
  void spread_message(const office::message_changed& news);
  void answer_pages(const office::history_page& news);
  void answer_failure(const office::request_failed& news);
  void answer_questions(const std::string& ref, const office::to_web& news);

  const web_server::request_sink on_request_;  // Constant after construction.
  bool known_ = false;                         // a snapshot has come
  office::own_profile self_;
  std::map<office::person_key, office::person_entry> people_;
  std::set<outlet*> outlets_;
  std::map<std::uint64_t, question> questions_;
  std::uint64_t last_question_ = 0;
};

/// A name space for the refs of a client that did not choose one, or chose a malformed one.
[[nodiscard]] std::string client_name_from(std::string_view chosen);

}  // namespace pigeon::serve::detail
