// One thread, the caller of run(), does everything here: accepts, reads, writes, and calls on_request. deliver() and
// stop() may come from other threads and only post to that thread's loop.
#include <pigeon/serve/web_server.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <pigeon/serve/web_server_http.hpp>
#include <pigeon/serve/web_server_hub.hpp>
#include <pigeon/serve/web_server_listen.hpp>

namespace pigeon::serve {

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using protocol = asio::generic::stream_protocol;
using acceptor = asio::basic_socket_acceptor<protocol>;
using detail::door;

int family_of(int fd) {
  int family = AF_UNSPEC;
  socklen_t length = sizeof family;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
  return family;
}

// Said before a connection costs anything; whether it arrives does not matter.
void turn_away(protocol::socket& socket) {
  static constexpr std::string_view words =
      "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
      "Content-Length: 27\r\n\r\nToo many open connections.\n";
  ::send(socket.native_handle(), words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool welcome(detail::site& shared, protocol::socket& socket, door came_by) {
  if (came_by == door::owner && !detail::peer_is_owner(socket.native_handle())) return false;
  if (shared.connections >= shared.options.limits.sessions) {
    turn_away(socket);
    return false;
  }
  const int on = 1;
  if (came_by == door::browser) ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return true;
}

asio::awaitable<void> accept_all(detail::site* shared, acceptor* listener, door came_by) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer rest(executor);
  for (;;) {
    boost::system::error_code failed;
    protocol::socket socket(executor);
    co_await listener->async_accept(socket, asio::redirect_error(asio::use_awaitable, failed));
    if (!listener->is_open()) co_return;
    if (failed) {  // out of descriptors, most likely: others must close first
      rest.expires_after(100ms);
      co_await rest.async_wait(asio::redirect_error(asio::use_awaitable, failed));
      continue;
    }
    if (welcome(*shared, socket, came_by))
      asio::co_spawn(executor, detail::serve_connection(shared, std::move(socket), came_by), asio::detached);
  }
}

}  // namespace

// The loop is declared last: with it go the connections, whose frames still use the rest.
class web_server::state {
 public:
  state(web_options options, request_sink on_request)
      : shared_{std::move(options), detail::hub(std::move(on_request))} {}

  covey::result<void> open() {
    const web_options& options = shared_.options;
    COVEY_TRY(covey::unique_fd tcp, detail::listen_tcp(options.bind, options.port));
    COVEY_TRY(port_, detail::port_of(tcp.get()));
    start(tcp.release(), browsers_, door::browser);
    if (options.socket_path.empty()) return {};
    COVEY_TRY(auto opened, detail::unix_listener::open(options.socket_path));
    owner_door_.emplace(std::move(opened));
    covey::unique_fd copy(::fcntl(owner_door_->get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return covey::from_errno("listen on " + options.socket_path);
    start(copy.release(), owners_, door::owner);
    return {};
  }

  std::uint16_t port() const noexcept { return port_; }
  void run() { loop_.run(); }
  void stop() noexcept { loop_.stop(); }
  void deliver(office::to_web news) {
    asio::post(loop_, [this, news = std::move(news)]() mutable { shared_.clients.deliver(std::move(news)); });
  }

 private:
  void start(int fd, std::optional<acceptor>& listener, door leads_to) {
    listener.emplace(loop_, protocol(family_of(fd), 0), fd);
    asio::co_spawn(loop_, accept_all(&shared_, &*listener, leads_to), asio::detached);
  }

  detail::site shared_;
  std::optional<detail::unix_listener> owner_door_;
  std::uint16_t port_ = 0;
  asio::io_context loop_{1};
  std::optional<acceptor> browsers_;
  std::optional<acceptor> owners_;
};

covey::result<web_server> web_server::open(web_options options, request_sink on_request) {
  auto opened = std::make_unique<state>(std::move(options), std::move(on_request));
  COVEY_TRY_VOID(opened->open());
  return web_server(std::move(opened));
}

web_server::web_server(std::unique_ptr<state> opened) : state_(std::move(opened)) {}
web_server::web_server(web_server&&) noexcept = default;
web_server& web_server::operator=(web_server&&) noexcept = default;
web_server::~web_server() = default;

std::uint16_t web_server::port() const noexcept { return state_->port(); }
void web_server::run() { state_->run(); }
void web_server::stop() noexcept { state_->stop(); }
void web_server::deliver(office::to_web news) { state_->deliver(std::move(news)); }

}  // namespace pigeon::serve
