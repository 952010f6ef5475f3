/// @file
/// Who may talk to the web server: checks of the Host and Origin headers. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pigeon::serve::detail {

/// Whether a request with this Host header may be answered by a server bound to `bind`. A name that is not ours means
/// that a foreign page had its own name resolve to this machine (DNS rebinding). Numeric addresses cannot be rebound,
/// so a server on all interfaces answers to any of them.
[[nodiscard]] bool host_allowed(std::string_view host_header, std::string_view bind,
                                const std::vector<std::string>& hosts);

/// Whether a page of this origin may open a WebSocket or post: our own page, or a listed one. An empty origin is a
/// program, not a browser, and is allowed.
[[nodiscard]] bool origin_allowed(std::string_view origin, std::string_view host_header,
                                  const std::vector<std::string>& origins);

/// Undoes percent encoding, once; '+' stays '+'. False in `ok` if it is malformed or yields a NUL.
struct decoded {
  std::string text;
  bool ok = true;
};
[[nodiscard]] decoded percent_decode(std::string_view text);

/// The value of `name` in a query string such as `who=a%40b&limit=20`; empty if it is missing.
[[nodiscard]] decoded query_value(std::string_view query, std::string_view name);

}  // namespace pigeon::serve::detail
