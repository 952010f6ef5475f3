/// @file
/// The office's messages as JSON, as browsers and the command line see them: docs/web-protocol.md is the reference.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <pigeon/office/messages.hpp>
#include <string>
#include <string_view>
#include <variant>

namespace pigeon::serve {

/// A person with the number of unread messages, flat: `{"who": key, "name": …, "unread": 2}`.
[[nodiscard]] nlohmann::json as_json(const office::person_entry& entry);

/// One message of a conversation.
[[nodiscard]] nlohmann::json as_json(const office::message& what);

/// The own name and group.
[[nodiscard]] nlohmann::json as_json(const office::own_profile& self);

/// What store tells, with its `type`. The `ref` is written as it stands in the message.
[[nodiscard]] nlohmann::json as_json(const office::to_web& news);

/// The JSON as UTF-8 on one line. Bytes that are not UTF-8 become U+FFFD, so that one bad name cannot silence a page.
[[nodiscard]] std::string text_of(const nlohmann::json& value);

/// A client's sign of life, answered with `{"type":"pong"}`; it never reaches store.
struct client_ping {};

/// What a client's message means: something for store, a ping, or a refusal in one sentence with the `ref` it belongs
/// to.
using client_request = std::variant<office::to_store, client_ping, office::request_failed>;

/// Reads one client message: an object whose `type` is send, history, read, rename or ping. Never throws.
[[nodiscard]] client_request parse_client(std::string_view text);

/// The most messages that one history request may ask for.
inline constexpr std::uint32_t history_limit_max = 500;

/// The longest `ref` that a client may choose, in bytes.
inline constexpr std::size_t ref_bytes_max = 128;

}  // namespace pigeon::serve
