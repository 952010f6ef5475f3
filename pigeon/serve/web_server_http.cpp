// Every connection is one coroutine, serve_connection. A WebSocket session adds a second one while it has something to
// write. All run on the one thread of the loop, so nothing here is locked.
#include <pigeon/serve/web_server_http.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <charconv>
#include <deque>
#include <nlohmann/json.hpp>

#include <pigeon/serve/json.hpp>
#include <pigeon/serve/page.hpp>
#include <pigeon/serve/web_server_guard.hpp>

namespace pigeon::serve::detail {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace websocket = boost::beast::websocket;
using asio::awaitable;
using boost::system::error_code;
using request = http::request<http::string_body>;
using response = http::response<http::string_body>;
using nlohmann::json;
using namespace std::chrono_literals;

// TCP and Unix sockets in one type, so that Beast is instantiated once.
class stream : public beast::basic_stream<asio::generic::stream_protocol> {
 public:
  using basic_stream::basic_stream;
};

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

auto into(error_code& failed) { return asio::redirect_error(asio::use_awaitable, failed); }

void hang_up(stream& connection) {
  error_code ignored;
  connection.socket().shutdown(asio::socket_base::shutdown_both, ignored);
}

// What Beast calls when a WebSocket session ends; it knows only its own stream types.
[[maybe_unused]] void teardown(beast::role_type, stream& connection, error_code& failed) {
  hang_up(connection);
  failed = {};
}

template <class Handler>
void async_teardown(beast::role_type, stream& connection, Handler&& handler) {
  hang_up(connection);
  asio::post(connection.get_executor(), beast::bind_front_handler(std::forward<Handler>(handler), error_code{}));
}

// ---- responses
// -------------------------------------------------------------------------------------------------------

response answer(const request& asked, http::status status, std::string_view type, std::string body) {
  response out(status, asked.version());
  out.set(http::field::server, "pigeon");
  out.set(http::field::content_type, type);
  out.set(http::field::cache_control, "no-store");
  out.set("X-Content-Type-Options", "nosniff");
  out.set("Referrer-Policy", "no-referrer");
  out.set("X-Frame-Options", "DENY");
  out.set("Cross-Origin-Opener-Policy", "same-origin");
  out.set("Cross-Origin-Resource-Policy", "same-origin");
  out.set("Content-Security-Policy",
          "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  out.keep_alive(asked.keep_alive());
  out.body() = std::move(body);
  out.prepare_payload();
  return out;
}

response json_answer(const request& asked, http::status status, const json& value) {
  return answer(asked, status, "application/json; charset=utf-8", text_of(value) + "\n");
}

// One sentence: as JSON where JSON is spoken.
response refusal(const request& asked, http::status status, const std::string& sentence) {
  if (asked.target().starts_with("/api/")) return json_answer(asked, status, {{"type", "error"}, {"text", sentence}});
  return answer(asked, status, "text/plain; charset=utf-8", sentence + "\n");
}

response only(const request& asked, std::string_view allowed) {
  response out =
      refusal(asked, http::status::method_not_allowed, "This address understands only " + std::string(allowed) + ".");
  out.set(http::field::allow, allowed);
  return out;
}

bool reads(const request& asked) { return asked.method() == http::verb::get || asked.method() == http::verb::head; }

// Our tags are strong and short, so finding one anywhere in the list is finding it.
bool has_tag(std::string_view if_none_match, std::string_view etag) {
  return if_none_match == "*" || if_none_match.find(etag) != std::string_view::npos;
}

response page_answer(const request& asked, const page_file& file) {
  if (!reads(asked)) return only(asked, "GET, HEAD");
  const bool known = has_tag(view(asked[http::field::if_none_match]), file.etag);
  response out = answer(asked, known ? http::status::not_modified : http::status::ok, file.content_type,
                        known ? "" : std::string(file.content));
  if (known) out.content_length(boost::none);
  out.set(http::field::etag, file.etag);
  out.set(http::field::cache_control, "no-cache");  // keep it, but ask
  return out;
}

// ---- the command line's API
// --------------------------------------------------------------------------------------------

// A question to store whose answer a coroutine waits for. Forgets the question when it goes.
class pending {
 public:
  explicit pending(site* shared, asio::any_io_executor executor) : shared_(shared), timer_(executor) {}
  pending(const pending&) = delete;
  pending& operator=(const pending&) = delete;
  ~pending() { shared_->clients.forget(number_); }

  void ask(office::to_store wanted) { number_ = shared_->clients.ask(std::move(wanted), taker()); }
  void await_snapshot() { number_ = shared_->clients.await_snapshot(taker()); }

  awaitable<void> wait() {
    error_code cancelled;
    timer_.expires_after(shared_->options.limits.answer_timeout);
    if (!answer_) co_await timer_.async_wait(into(cancelled));
  }
  const std::optional<office::to_web>& answer() const { return answer_; }

 private:
  hub::answer_sink taker() {
    return [this](const office::to_web& news) {
      answer_ = news;
      timer_.cancel();
    };
  }

  site* shared_;
  asio::steady_timer timer_;
  std::optional<office::to_web> answer_;
  std::uint64_t number_ = 0;
};

const char* const no_answer = "The store does not answer; it may be starting again. Try once more.";

awaitable<response> ask_store(site* shared, const request* asked, json wanted) {
  if (!wanted.contains("ref")) wanted["ref"] = "api-" + client_name_from("") + std::to_string(++shared->last_ref);
  client_request parsed = parse_client(text_of(wanted));
  if (const auto* wrong = std::get_if<office::request_failed>(&parsed))
    co_return refusal(*asked, http::status::bad_request, wrong->text);
  pending question(shared, co_await asio::this_coro::executor);
  question.ask(std::move(std::get<office::to_store>(parsed)));
  co_await question.wait();
  if (!question.answer()) co_return refusal(*asked, http::status::gateway_timeout, no_answer);
  if (const auto* failure = std::get_if<office::request_failed>(&*question.answer()))
    co_return refusal(*asked, http::status::unprocessable_entity, failure->text);
  co_return json_answer(*asked, http::status::ok, as_json(*question.answer()));
}

awaitable<response> people_answer(site* shared, const request* asked) {
  pending question(shared, co_await asio::this_coro::executor);
  if (!shared->clients.hello()) {
    question.await_snapshot();
    co_await question.wait();
  }
  const auto greeting = shared->clients.hello();
  if (!greeting) co_return refusal(*asked, http::status::gateway_timeout, no_answer);
  co_return answer(*asked, http::status::ok, "application/json; charset=utf-8", *greeting + "\n");
}

// A number if it is one; otherwise the text, which parse_client refuses with its own sentence.
json number_or_text(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return text;
  return number;
}

awaitable<response> history_answer(site* shared, const request* asked, std::string_view query) {
  json wanted = {{"type", "history"}};
  for (const char* const name : {"who", "before", "limit"}) {
    const decoded value = query_value(query, name);
    if (!value.ok) co_return refusal(*asked, http::status::bad_request, "The address is not properly encoded.");
    const bool text = std::string_view(name) == "who";
    if (!value.text.empty()) wanted[name] = text ? json(value.text) : number_or_text(value.text);
  }
  co_return co_await ask_store(shared, asked, std::move(wanted));
}

awaitable<response> send_answer(site* shared, const request* asked) {
  json wanted = json::parse(asked->body(), nullptr, false);
  if (!wanted.is_object())
    co_return refusal(*asked, http::status::bad_request, R"(Send a JSON object: {"to": WHO, "text": TEXT}.)");
  wanted["type"] = "send";
  co_return co_await ask_store(shared, asked, std::move(wanted));
}

awaitable<response> api_answer(site* shared, const request* asked, std::string_view path, std::string_view query) {
  const bool send = path == "/api/send";
  if (!send && path != "/api/people" && path != "/api/history" && path != "/api/status")
    co_return refusal(*asked, http::status::not_found, "There is nothing at this address.");
  if (send && asked->method() != http::verb::post) co_return only(*asked, "POST");
  if (!send && !reads(*asked)) co_return only(*asked, "GET, HEAD");
  if (send) co_return co_await send_answer(shared, asked);
  if (path == "/api/people") co_return co_await people_answer(shared, asked);
  if (path == "/api/history") co_return co_await history_answer(shared, asked, query);
  const auto& status = shared->options.status;
  co_return json_answer(*asked, http::status::ok, status ? status() : json::object());
}

// ---- requests
// --------------------------------------------------------------------------------------------------------

struct target {
  std::string_view path;
  std::string_view query;
};

target split_target(const request& asked) {
  const std::string_view whole = view(asked.target());
  const auto mark = whole.find('?');
  if (mark == std::string_view::npos) return {whole, ""};
  return {whole.substr(0, mark), whole.substr(mark + 1)};
}

// Why the request may not be answered at all, if so. The owner's door needs no such checks: no browser comes there.
std::optional<response> turned_away(const site& shared, const request& asked, door came_by) {
  if (came_by == door::owner) return std::nullopt;
  const auto host = view(asked[http::field::host]);
  if (asked.count(http::field::host) != 1)
    return refusal(asked, http::status::bad_request, "The request must name one Host.");
  if (!host_allowed(host, shared.options.bind, shared.options.hosts))
    return refusal(
        asked, http::status::forbidden,
        "This office does not go by that name; open it by its address, or allow the name when starting pigeon.");
  return std::nullopt;
}

awaitable<response> route(site* shared, const request* asked, door came_by) {
  if (auto no = turned_away(*shared, *asked, came_by)) co_return *std::move(no);
  const target where = split_target(*asked);
  for (const page_file& file : page_files())
    if (file.path == where.path) co_return page_answer(*asked, file);
  if (where.path == "/ws")
    co_return refusal(*asked, http::status::upgrade_required, "This address is for WebSocket clients.");
  if (came_by == door::owner && where.path.starts_with("/api/"))
    co_return co_await api_answer(shared, asked, where.path, where.query);
  co_return refusal(*asked, http::status::not_found, "There is nothing at this address.");
}

// Beast's reasons in our words; nothing if the client is simply gone.
std::optional<response> complaint(const request& asked, const error_code& failed) {
  if (failed == http::error::header_limit || failed == http::error::buffer_overflow)
    return refusal(asked, http::status::request_header_fields_too_large, "The request's headers are too long.");
  if (failed == http::error::body_limit)
    return refusal(asked, http::status::payload_too_large, "The request is too long.");
  const bool gone = failed == http::error::end_of_stream || failed == http::error::partial_message;
  if (gone || failed.category() != make_error_code(http::error::bad_method).category()) return std::nullopt;
  return refusal(asked, http::status::bad_request, "This is not a proper HTTP request.");
}

// Closing with unread input would make the kernel send a reset that overtakes our answer.
awaitable<void> linger(stream* connection) {
  error_code failed;
  connection->socket().shutdown(asio::socket_base::shutdown_send, failed);
  connection->expires_after(2s);
  std::array<char, 16384> waste{};
  for (std::size_t left = 8 << 20; left > 0 && !failed;) {
    const std::size_t n = co_await connection->async_read_some(asio::buffer(waste), into(failed));
    left -= std::min(left, n);
  }
}

awaitable<void> write(stream* connection, response* out, bool head, error_code* failed) {
  http::response_serializer<http::string_body> writer(*out);
  writer.split(head);
  if (head)
    co_await http::async_write_header(*connection, writer, into(*failed));
  else
    co_await http::async_write(*connection, writer, into(*failed));
}

awaitable<void> write_continue(stream* connection, const request* asked, error_code* failed) {
  if (!beast::iequals((*asked)[http::field::expect], "100-continue")) co_return;
  http::response<http::empty_body> go_on(http::status::continue_, asked->version());
  co_await http::async_write(*connection, go_on, into(*failed));
}

// ---- WebSocket sessions --------------------------------------------------------------------------------------------

class session final : public outlet, public std::enable_shared_from_this<session> {
 public:
  session(site* shared, std::string client, stream connection)
      : outlet(std::move(client)), shared_(shared), socket_(std::move(connection)) {
    const web_limits& limits = shared_->options.limits;
    socket_.set_option(websocket::stream_base::timeout{limits.request_timeout, limits.ping_every * 2, true});
    socket_.read_message_max(limits.message_bytes);
    socket_.auto_fragment(false);  // messages are in memory whole; pieces would only cost system calls
  }

  void push(frame text) override {
    if (closed_) return;
    if (waiting_bytes_ > shared_->options.limits.outgoing_bytes) return close();
    waiting_bytes_ += text->size();
    waiting_.push_back(std::move(text));
    if (!std::exchange(writing_, true))
      asio::co_spawn(socket_.get_executor(), write_all(shared_from_this()), asio::detached);
  }

  static awaitable<void> run(std::shared_ptr<session> self, const request* upgrade) {
    error_code failed;
    beast::get_lowest_layer(self->socket_).expires_never();  // from here on the WebSocket layer has its own clock
    co_await self->socket_.async_accept(*upgrade, into(failed));
    if (failed) co_return;
    const joined here(*self);
    beast::flat_buffer buffer;
    while (!self->closed_) {
      co_await self->socket_.async_read(buffer, into(failed));
      if (failed) co_return;
      if (self->socket_.got_binary()) {
        co_await self->socket_.async_close(websocket::close_code::unknown_data, into(failed));
        co_return;
      }
      const auto text = buffer.cdata();
      self->shared_->clients.hear(*self, {static_cast<const char*>(text.data()), text.size()});
      buffer.consume(buffer.size());
    }
  }

 private:
  // A member of the hub as long as it reads.
  class joined {
   public:
    explicit joined(session& self) : self_(self) { self_.shared_->clients.join(self_); }
    joined(const joined&) = delete;
    joined& operator=(const joined&) = delete;
    ~joined() {
      self_.shared_->clients.leave(self_);
      self_.closed_ = true;
    }

   private:
    session& self_;
  };

  static awaitable<void> write_all(std::shared_ptr<session> self) {
    error_code failed;
    while (!self->waiting_.empty() && !failed) {
      const frame text = self->waiting_.front();
      co_await self->socket_.async_write(asio::buffer(*text), into(failed));
      self->waiting_bytes_ -= text->size();
      self->waiting_.pop_front();
    }
    self->writing_ = false;
  }

  // At once and without a farewell, which would have to wait behind what the client does not read.
  void close() {
    closed_ = true;
    beast::get_lowest_layer(socket_).close();
  }

  site* shared_;
  websocket::stream<stream> socket_;
  std::deque<frame> waiting_;
  std::size_t waiting_bytes_ = 0;
  bool writing_ = false;
  bool closed_ = false;
};

bool wants_session(const request& asked) { return websocket::is_upgrade(asked) && split_target(asked).path == "/ws"; }

std::optional<response> session_refusal(const site& shared, const request& asked, door came_by) {
  if (auto no = turned_away(shared, asked, came_by)) return no;
  const bool ours =
      origin_allowed(view(asked[http::field::origin]), view(asked[http::field::host]), shared.options.origins);
  if (ours || came_by == door::owner) return std::nullopt;
  return refusal(asked, http::status::forbidden, "Pages of other sites may not talk to this office.");
}

awaitable<void> run_session(site* shared, stream connection, const request* upgrade) {
  const decoded client = query_value(split_target(*upgrade).query, "client");
  auto opened = std::make_shared<session>(shared, client_name_from(client.text), std::move(connection));
  co_await session::run(std::move(opened), upgrade);
}

// Counts a connection while it is open.
class seat {
 public:
  explicit seat(site* shared) : shared_(shared) { ++shared_->connections; }
  seat(const seat&) = delete;
  seat& operator=(const seat&) = delete;
  ~seat() { --shared_->connections; }

 private:
  site* shared_;
};

}  // namespace

awaitable<void> serve_connection(site* shared, asio::generic::stream_protocol::socket socket, door came_by) {
  const seat taken(shared);
  const web_limits& limits = shared->options.limits;
  stream connection(std::move(socket));
  beast::flat_buffer buffer;
  connection.expires_after(limits.request_timeout);
  for (bool more = true; more; connection.expires_after(limits.keep_alive_timeout)) {
    error_code failed;
    http::request_parser<http::string_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.body_bytes);
    co_await http::async_read_header(connection, buffer, parser, into(failed));
    connection.expires_after(limits.request_timeout);
    if (!failed) co_await write_continue(&connection, &parser.get(), &failed);
    if (!failed) co_await http::async_read(connection, buffer, parser, into(failed));
    const request& asked = parser.get();
    std::optional<response> out;
    if (failed) {
      out = complaint(asked, failed);
    } else if (wants_session(asked)) {
      out = session_refusal(*shared, asked, came_by);
      if (!out) co_return co_await run_session(shared, std::move(connection), &asked);
    } else {
      connection.expires_never();  // the answer may take its own time
      out = co_await route(shared, &asked, came_by);
      connection.expires_after(limits.request_timeout);
    }
    if (!out) co_return;
    if (failed) out->keep_alive(false);
    more = !failed && asked.keep_alive();
    failed = {};
    co_await write(&connection, &*out, asked.method() == http::verb::head, &failed);
    if (failed) co_return;
  }
  co_await linger(&connection);
}

}  // namespace pigeon::serve::detail
