#include <pigeon/serve/web_server_guard.hpp>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <optional>

namespace pigeon::serve::detail {

namespace {

namespace ip = boost::asio::ip;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

bool all_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What names and addresses are made of (in lower case): a / or @ before .localhost makes somebody else's name of it.
bool is_name(std::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_:") == std::string_view::npos;
}

// `name:port`, `name`, `[v6]:port` or `[v6]` without the port; nothing if it is none of these.
std::optional<std::string> name_in(std::string_view host_header) {
  if (host_header.starts_with('[')) {
    const auto end = host_header.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    const auto rest = host_header.substr(end + 1);
    if (!rest.empty() && (rest.front() != ':' || !all_digits(rest.substr(1)))) return std::nullopt;
    return lower(host_header.substr(1, end - 1));
  }
  const auto colon = host_header.find(':');
  if (colon != std::string_view::npos && !all_digits(host_header.substr(colon + 1))) return std::nullopt;
  return lower(host_header.substr(0, colon));
}

bool numeric_allowed(const ip::address& asked, std::string_view bind) {
  boost::system::error_code bad;
  const auto bound = ip::make_address(std::string(bind), bad);
  return asked.is_loopback() || (!bad && (bound.is_unspecified() || bound == asked));
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool host_allowed(std::string_view host_header, std::string_view bind, const std::vector<std::string>& hosts) {
  const auto name = name_in(host_header);
  if (!name || !is_name(*name)) return false;
  if (*name == "localhost" || name->ends_with(".localhost")) return true;
  boost::system::error_code not_numeric;
  const auto address = ip::make_address(*name, not_numeric);
  if (!not_numeric) return numeric_allowed(address, bind);
  return std::any_of(hosts.begin(), hosts.end(), [&](const std::string& ours) { return lower(ours) == *name; });
}

bool origin_allowed(std::string_view origin, std::string_view host_header, const std::vector<std::string>& origins) {
  if (origin.empty()) return true;
  const std::string asked = lower(origin);
  if (asked == "http://" + lower(host_header)) return true;
  return std::any_of(origins.begin(), origins.end(), [&](const std::string& ours) { return lower(ours) == asked; });
}

decoded percent_decode(std::string_view text) {
  decoded out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.text += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return {"", false};
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return {"", false};
    out.text += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

decoded query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const auto end = query.find('&');
    const auto pair = query.substr(0, end);
    const auto equals = pair.find('=');
    if (pair.substr(0, equals) == name)
      return percent_decode(equals == std::string_view::npos ? "" : pair.substr(equals + 1));
    query = end == std::string_view::npos ? "" : query.substr(end + 1);
  }
  return {};
}

}  // namespace pigeon::serve::detail
