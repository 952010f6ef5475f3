// A member's connection to the keeper. One a process, guarded by a mutex; made at the first request through the lobby,
// and again when the keeper was replaced. What was told but not yet known to be done is repeated then; the keeper drops
// what it has done already, by sequence number.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <covey/memory/family.hpp>
#include <covey/memory/messages.hpp>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <optional>

namespace covey::detail {
namespace {

constexpr std::size_t told_max = 256;  // then we wait once, so that the list stays short

struct keeper_line {
  std::mutex mutex;
  unique_fd socket;
  std::uint64_t identity = 0;  // of the socket: the program may have closed it, and opened another of its number
  std::uint64_t sequence = 0;
  std::deque<keeper_request> told;  // not yet known to be done
  keeper_line* inherited = nullptr;  // the parent's, after a fork: not ours to destroy
};

keeper_line* line = new keeper_line;  // replaced, not destroyed, in a forked child: its mutex may be held there

error closed_by_the_program() {
  return from_errno(EBADF, "covey: this process has closed covey's descriptors (closefrom?)");
}

result<void> connect(keeper_line& to) {
  if (identity_of(family.lobby_fd) != family.lobby_identity) return closed_by_the_program();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return from_errno("socketpair");
  const unique_fd theirs(ends[1]);
  unique_fd ours = above_stdio(ends[0]);
  if (!ours) return from_errno("fcntl");
  keeper_request hello{};
  hello.op = keeper_op::hello;
  hello.values[0] = this_process_id();
  const int fd = theirs.get();
  if (auto sent = send_message(family.lobby_fd, &hello, sizeof hello, std::span(&fd, 1)); !sent) return sent.error();
  to.socket = std::move(ours);
  to.identity = identity_of(to.socket.get());
  for (const keeper_request& r : to.told)
    if (auto sent = send_message(to.socket.get(), &r, sizeof r, {}); !sent) return sent.error();
  return {};
}

bool line_is_dead(const error& e) {
  const int code = e.code.value();
  return code == EPIPE || code == ECONNRESET || code == ECONNREFUSED || code == ENOTCONN;
}

result<keeper_answer> exchange(keeper_line& with, const keeper_request& request, std::span<const int> fds) {
  if (!with.socket) COVEY_TRY_VOID(connect(with));
  if (identity_of(with.socket.get()) != with.identity) {
    (void)with.socket.release();  // whoever has the number now closes it
    return closed_by_the_program();
  }
  COVEY_TRY_VOID(send_message(with.socket.get(), &request, sizeof request, fds));
  for (;;) {
    keeper_reply reply{};
    std::vector<unique_fd> received;
    COVEY_TRY(const std::size_t n, receive_message(with.socket.get(), &reply, sizeof reply, received, 0));
    if (n == 0) return from_errno(ECONNRESET, "the keeper went away");
    if (n != sizeof reply || reply.sequence != request.sequence) continue;  // an answer that we no longer wait for
    with.told.clear();  // answers come in order: all before is done
    if (reply.error == EUSERS) return from_errno(EUSERS, "covey: no room for another process in the family (4095)");
    if (reply.error == ENOBUFS)
      return from_errno(ENOBUFS, "covey: no room for another reference in the family (2 million)");
    if (reply.error == EMFILE) return from_errno(EMFILE, "covey's keeper has too few descriptors (RLIMIT_NOFILE)");
    if (reply.error != 0) return from_errno(reply.error, "covey's keeper");
    if (received.size() < reply.fd_count) return from_errno(EMFILE, "covey: no room for the keeper's descriptor");
    keeper_answer answer{};
    std::memcpy(answer.values, reply.values, sizeof answer.values);
    if (!received.empty()) answer.fd = std::move(received.front());
    return answer;
  }
}

result<keeper_answer> ask_locked(keeper_line& with, keeper_request& request, std::span<const int> fds) {
  request.sequence = ++with.sequence;
  for (int attempt = 0;; ++attempt) {
    auto answer = exchange(with, request, fds);
    if (answer || !line_is_dead(answer.error())) return answer;
    with.socket.reset();
    if (attempt < 100) continue;
    const std::int32_t keeper_pid = family.book->keeper_pid.load(std::memory_order_relaxed);
    if (::kill(keeper_pid, 0) == 0)
      return from_errno(EMFILE,
                        "covey's keeper takes no more connections (its RLIMIT_NOFILE is the program's hard limit)");
    return from_errno(ECHILD, "covey: this program's keeper and guard processes are gone");
  }
}

keeper_request make_request(keeper_op op, std::span<const std::uint64_t> values) {
  keeper_request request{};
  request.op = op;
  std::copy_n(values.begin(), std::min(values.size(), std::size(request.values)), request.values);
  return request;
}

}  // namespace

result<keeper_answer> ask_keeper(keeper_op op, std::span<const std::uint64_t> values, std::span<const int> fds) {
  family_check();
  const std::scoped_lock lock(line->mutex);
  keeper_request request = make_request(op, values);
  request.fd_count = static_cast<std::uint32_t>(fds.size());
  return ask_locked(*line, request, fds);
}

void tell_keeper(keeper_op op, std::span<const std::uint64_t> values) noexcept {
  if (!family.takes_part) return;
  const std::scoped_lock lock(line->mutex);
  keeper_request request = make_request(op, values);
  request.sequence = ++line->sequence;
  try {
    line->told.push_back(request);
    if (line->socket) {
      if (auto sent = send_message(line->socket.get(), &request, sizeof request, {}); !sent) line->socket.reset();
    }
    if (!line->socket) (void)connect(*line);
    if (line->told.size() < told_max) return;
    keeper_request sync = make_request(keeper_op::sync, {});
    (void)ask_locked(*line, sync, {});
  } catch (const std::bad_alloc&) {
    // Not told: the reference lasts until this process ends, which costs memory and nothing else.
  }
}

void reset_keeper_line() noexcept {
  // The parent's line belongs to the parent; closing our copy of its socket is all that is right to do with it.
  const int inherited = line->socket.release();
  if (inherited >= 0) ::close(inherited);
  keeper_line* const parents = line;
  line = new keeper_line;
  line->inherited = parents;
}

}  // namespace covey::detail
