// Who runs what: run() is the doorman's own thread, with all signals blocked; the rest runs in whoever opens the
// segment.
#include <covey/memory/named_doorman.hpp>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <covey/memory/messages.hpp>

namespace covey::detail {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t guests_max = 16;  // who have connected and said nothing yet; one gives way to the next
constexpr auto patience = 1s;           // with a guest who says nothing
constexpr auto rest = 50ms;             // when there is no descriptor to accept with

int milliseconds_until(steady_clock::time_point t) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(t - steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

}  // namespace

struct named_doorman::guest {
  unique_fd socket;
  steady_clock::time_point until;
  bool admitted = false;
};

named_doorman::named_doorman(int listener, int memory, named_answer welcome)
    : listener_(listener), memory_(memory), welcome_(std::move(welcome)) {
  // Of a socket that listens, the kernel says who made it listen.
  ucred maker{};
  socklen_t bytes = sizeof maker;
  if (::getsockopt(listener, SOL_SOCKET, SO_PEERCRED, &maker, &bytes) < 0)
    throw_exception_from_error(from_errno("SO_PEERCRED"), BOOST_CURRENT_LOCATION);
  owner_ = maker.uid;
  group_ = maker.gid;
  stop_ = above_stdio(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_) throw_exception_from_error(from_errno("eventfd"), BOOST_CURRENT_LOCATION);
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread(&named_doorman::run, this);
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

named_doorman::~named_doorman() {
  const std::uint64_t one = 1;
  while (::write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
}

void named_doorman::run() noexcept {
  std::array<guest, guests_max> guests;
  std::size_t count = 0;
  steady_clock::time_point deaf_until{};  // the listener is not looked at before
  const auto leave = [&](std::size_t i) {
    std::move(guests.begin() + i + 1, guests.begin() + count, guests.begin() + i);
    guests[--count].socket.reset();
  };
  for (;;) {
    const auto now = steady_clock::now();
    while (count > 0 && guests[0].until <= now) leave(0);  // they stand in the order in which they came
    const bool deaf = now < deaf_until;
    std::array<pollfd, guests_max + 2> polls{};
    polls[0] = {.fd = stop_.get(), .events = POLLIN, .revents = 0};
    polls[1] = {.fd = deaf ? -1 : listener_, .events = POLLIN, .revents = 0};
    for (std::size_t i = 0; i < count; ++i)
      polls[i + 2] = {.fd = guests[i].socket.get(), .events = POLLIN, .revents = 0};
    int timeout = count > 0 ? milliseconds_until(guests[0].until) : -1;
    if (deaf && (timeout < 0 || timeout > milliseconds_until(deaf_until))) timeout = milliseconds_until(deaf_until);
    if (::poll(polls.data(), count + 2, timeout) < 0) continue;
    if (polls[0].revents != 0) return;

    for (std::size_t i = count; i-- > 0;) {
      if (polls[i + 2].revents == 0) continue;
      std::array<std::byte, named_message_bytes_max + 1> hello;
      const ssize_t n = ::recv(guests[i].socket.get(), hello.data(), hello.size(), MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      try {
        if (n > 0) answer(guests[i].socket.get(), std::span(hello).first(static_cast<std::size_t>(n)));
      } catch (...) {
        // Garbage, or no memory: the guest sees the connection end and may try again.
      }
      leave(i);
    }

    if (polls[1].revents == 0) continue;
    unique_fd socket(above_stdio(::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));
    if (!socket) {
      // Another holder was faster; or there is no descriptor, or a holder has shut the listener down.
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) deaf_until = steady_clock::now() + rest;
      continue;
    }
    if (count == guests_max) {
      // Strangers cannot push out those who may come in.
      const auto* const stranger = std::ranges::find(guests, false, &guest::admitted);
      leave(stranger == guests.end() ? 0 : static_cast<std::size_t>(stranger - guests.begin()));
    }
    const bool admitted = admits(socket.get());
    guests[count++] = {std::move(socket), steady_clock::now() + patience, admitted};
  }
}

bool named_doorman::admits(int socket) const noexcept {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0) return false;
  return peer.uid == owner_ || welcome_.with == sharing::anyone ||
         (welcome_.with == sharing::group && peer.gid == group_);
}

void named_doorman::answer(int socket, std::span<const std::byte> message) const {
  named_answer reply = welcome_;
  reply.pid = static_cast<std::uint64_t>(::getpid());
  if (!admits(socket)) {
    reply = {};
    reply.verdict = named_verdict::not_allowed;  // and not a word about what there is
    reply.holds.bytes = reply.holds.align = 1;
  } else if (version_of(message) != named_version) {
    if (version_of(message) == 0) return;
    reply.verdict = named_verdict::other_version;  // its prefix says which
  } else {
    const named_hello hello = parse_hello(message);
    if (hello.pid_namespace != reply.pid_namespace && hello.pid_namespace != 0 && reply.pid_namespace != 0)
      reply.verdict = named_verdict::other_pid_namespace;
    else if (!hello.wanted.fits(reply.holds))
      reply.verdict = named_verdict::other_type;
  }
  const auto bytes = format_answer(reply);
  const std::array<int, 2> fds{memory_, listener_};
  // The socket does not block: a guest who does not take its answer goes without.
  (void)send_message(socket, bytes.data(), bytes.size(),
                     reply.verdict == named_verdict::welcome ? std::span<const int>(fds) : std::span<const int>{});
}

}  // namespace covey::detail
