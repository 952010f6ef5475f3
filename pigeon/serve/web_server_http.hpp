/// @file
/// One connection of the web server, from its first request to its end.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <pigeon/serve/web_server.hpp>
#include <pigeon/serve/web_server_hub.hpp>

namespace pigeon::serve::detail {

/// What all connections share.
///
/// Safety:  loop-bound.
struct site {
  web_options options;            ///< constant after construction
  hub clients;                    ///< who is connected
  std::size_t connections = 0;    ///< open now
  std::uint64_t last_ref = 0;     ///< for requests of the API that bring no ref
};

/// Where a connection came in.
enum class door { browser, owner };

/// Answers requests until the client leaves, misbehaves or turns into a WebSocket session that ends. `shared` outlives
/// it.
boost::asio::awaitable<void> serve_connection(site* shared, boost::asio::generic::stream_protocol::socket socket,
                                              door came_by);

}  // namespace pigeon::serve::detail
