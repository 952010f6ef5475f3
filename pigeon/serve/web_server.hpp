/// @file
/// web_server: browsers and the command line reach the office through it.
#pragma once

#include <chrono>
#include <covey/base/result.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <pigeon/office/messages.hpp>
#include <string>
#include <vector>

namespace pigeon::serve {

/// What a client may cost. The defaults are for an office; tests use smaller ones.
struct web_limits {
  std::size_t header_bytes = 16 << 10;    ///< request line and headers: more is answered 431
  std::size_t body_bytes = 2 << 20;       ///< request body: more is answered 413
  std::size_t message_bytes = 2 << 20;    ///< one WebSocket message: more closes the session
  std::size_t sessions = 256;             ///< open connections: more are answered 503
  std::size_t outgoing_bytes = 8 << 20;   ///< waiting for one session: a slower one is closed and comes back
  std::chrono::milliseconds request_timeout = std::chrono::seconds(10);     ///< to send one request or handshake
  std::chrono::milliseconds keep_alive_timeout = std::chrono::seconds(60);  ///< silence between two requests
  std::chrono::milliseconds ping_every = std::chrono::seconds(25);    ///< silence until a WebSocket client is asked
  std::chrono::milliseconds answer_timeout = std::chrono::seconds(10);  ///< what the API waits for store
};

/// Where to listen and what to allow.
struct web_options {
  std::string bind = "127.0.0.1";    ///< numeric address; `0.0.0.0` or `::` for all
  std::uint16_t port = 8080;         ///< 0: any free one
  std::vector<std::string> hosts = {};    ///< further names by which browsers may call us, without port
  std::vector<std::string> origins = {};  ///< further pages that may open a WebSocket, e.g. `https://office.example`
  std::string socket_path = {};           ///< Unix socket for the command line, owner only; empty: none
  std::function<nlohmann::json()> status = {};  ///< answers GET /api/status; called on the loop's thread
  web_limits limits = {};                     ///< what a client may cost
};

/// The page, the WebSocket and the command line's API: one loop, run by whoever calls run().
///
/// It knows nothing of covey: what clients want leaves through a callback, and what store says enters by deliver(). It
/// remembers the people and the own name, so that a new page is greeted without asking store. A `ref` that a client
/// chose is made unique among all clients before store sees it, and is given back in the client's own spelling.
///
/// Handle:  move-only owner of the listening sockets; they close, and the Unix socket's name goes, with it.
/// Safety:  thread-compatible, except that deliver() and stop() are thread-safe.
/// Fork:    do not use in a forked child.
class web_server {
 public:
  /// Receives what clients want, on the thread in run(); must not block for long, for all clients wait meanwhile.
  using request_sink = std::function<void(office::to_store)>;

  /// Opens both listeners; connections are answered once run() is called. The error is one sentence for a person:
  /// `listen on 127.0.0.1:8080: Address already in use`.
  [[nodiscard]] static covey::result<web_server> open(web_options options, request_sink on_request);

  web_server(web_server&&) noexcept;
  web_server& operator=(web_server&&) noexcept;
  ~web_server();

  /// The TCP port that is listened on.
  [[nodiscard]] std::uint16_t port() const noexcept;

  /// Answers clients until stop(). Call it once.
  void run();

  /// Makes run() return soon. Connections are closed when the server is destroyed.
  void stop() noexcept;

  /// Passes store's news to the clients that it concerns. Never blocks; keeps the order of the calls of one thread.
  void deliver(office::to_web news);

 private:
  class state;
  explicit web_server(std::unique_ptr<state> opened);
  std::unique_ptr<state> state_;
};

}  // namespace pigeon::serve
