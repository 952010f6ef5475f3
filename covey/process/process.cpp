#include <covey/process/process.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <covey/base/check.hpp>
#include <covey/memory/fork.hpp>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <covey/process/last_words.hpp>
#include <covey/process/start.hpp>
#include <cstdio>
#include <limits>

namespace covey {
namespace {

using namespace detail;

process_entry& entry_of(process_id id) { return family.book->processes[slot_of_process(id)]; }

// Sleeps until the ledger says that `id` is dead. False: the deadline passed.
bool wait_for_death(process_id id, const deadline& until) {
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    if (!process_runs(id)) return true;
    if (park(family.book->deaths, deaths, deaths, until) == wake_reason::timed_out) return !process_runs(id);
  }
}

// A forked child is ours to reap, and the keeper may not know it yet: its pidfd tells.
bool wait_for_pidfd(int pidfd, const deadline& until) {
  using std::chrono::milliseconds;
  constexpr milliseconds longest{std::numeric_limits<int>::max()};
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    const bool over = until && *until <= now;
    const milliseconds left = over ? milliseconds(0) : until ? std::chrono::ceil<milliseconds>(*until - now) : longest;
    pollfd p{pidfd, POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(std::min(left, longest).count())) > 0) return true;
    if (over) return false;
  }
}

void forget_in_keeper(process_id id) {
  const std::array values{id};
  tell_keeper(keeper_op::forget, values);
}

// The first code of a forked child: it becomes a member of its own.
[[noreturn]] void live_as_forked(process_id id, unique_fd& cells, int parents_life, const std::string& name,
                                 const std::function<int()>& f) {
  const auto become = [&]() -> result<void> {
    COVEY_TRY_VOID(die_with(parents_life));
    COVEY_TRY_VOID(become_forked_member(slot_of_process(id), generation_of_process(id), cells.get()));
    cells.reset();
    const unique_fd own(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    const std::array values{static_cast<std::uint64_t>(::getpid())};
    const int fd = own.get();
    if (auto told = ask_keeper(keeper_op::adopted, values, std::span(&fd, 1)); !told) return told.error();
    return {};
  };
  if (auto became = become(); !became) {
    std::fprintf(stderr, "%s\n", became.error().message().c_str());
    ::_exit(127);
  }
  ::signal(SIGTERM, SIG_DFL);
  live_as_worker(name, false, [&](std::stop_token) { return f(); });
}

}  // namespace

process::process(process&& other) noexcept
    : id_(std::exchange(other.id_, 0)),
      pid_(std::exchange(other.pid_, -1)),
      takes_token_(other.takes_token_),
      forked_(other.forked_),
      pidfd_(std::move(other.pidfd_)),
      options_(std::move(other.options_)),
      status_(std::move(other.status_)) {}

process& process::operator=(process&& other) noexcept {
  if (this == &other) return *this;
  end_politely();
  id_ = std::exchange(other.id_, 0);
  pid_ = std::exchange(other.pid_, -1);
  takes_token_ = other.takes_token_;
  forked_ = other.forked_;
  pidfd_ = std::move(other.pidfd_);
  options_ = std::move(other.options_);
  status_ = std::move(other.status_);
  return *this;
}

process::~process() { end_politely(); }

void process::start(const packed_call& call, bool takes_token) {
  if (options_.name.empty()) options_.name = "process";
  takes_token_ = takes_token;
  family_check();
  started_worker started = start_worker(call, takes_token, options_.name).value();
  // Until here the caller's handles keep the objects in the arguments; from here the worker's arguments do.
  carry(edge_from_arguments | started.id, call.attachments, +1);
  id_ = started.id;
  pid_ = started.pid;
  pidfd_ = std::move(started.pidfd);
}

process process::from_packed(process_options options, const packed_call& call, bool takes_token) {
  process p;
  p.options_ = std::move(options);
  p.start(call, takes_token);
  return p;
}

process process::forked(const std::function<int()>& f, process_options options) {
  family_check();
  if (has_other_threads())
    throw std::system_error(
        std::make_error_code(std::errc::resource_deadlock_would_occur),
        "covey: process::forked in a process with a second thread, whose locks would stay locked in the "
        "child; construct a covey::process instead");
  if (options.name.empty()) options.name = "forked";
  std::array<std::uint64_t, 6> values{};
  put_name(std::span(values).subspan<2, 4>(), options.name);
  keeper_answer place = ask_keeper(keeper_op::adopt, values).value();
  const int life = life_pipe_for_children().value();
  std::fflush(nullptr);
  const pid_t pid = our_fork();
  if (pid == 0) live_as_forked(place.values[0], place.fd, life, options.name, f);
  if (pid < 0) {
    const int why = errno;
    forget_in_keeper(place.values[0]);
    throw std::system_error(why, std::system_category(), "fork");
  }
  place.fd.reset();  // its number is free for the pidfd, without which nobody could wait for the child
  process child;
  child.id_ = place.values[0];
  child.pid_ = pid;
  child.forked_ = true;
  child.options_ = std::move(options);
  child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd_) {
    const int why = errno;
    ::kill(pid, SIGKILL);
    child.collect();
    child.id_ = 0;
    throw std::system_error(why, std::system_category(), "pidfd_open");
  }
  return child;
}

// Reads how it ended, and lets the keeper forget it.
exit_status process::collect() {
  exit_status status;
  if (forked_) {
    int wait_status = 0;
    pid_t reaped = 0;
    while ((reaped = ::waitpid(pid_, &wait_status, 0)) < 0 && errno == EINTR) {
    }
    if (reaped == pid_) status = exit_status(wait_status);
  } else if (entry_of(id_).status_known.load(std::memory_order_relaxed) != 0) {
    status = exit_status(entry_of(id_).wait_status.load(std::memory_order_relaxed));
  }
  read_last_words(slot_of_process(id_), status);
  forget_in_keeper(id_);
  return status;
}

exit_status process::join() { return *join_by(std::nullopt); }

std::optional<exit_status> process::join_by(const deadline& until) {
  COVEY_CHECK(id_ != 0, "join needs a process");
  if (!status_) {
    family_check();  // a child forked past covey has its parent's
    const bool ended = forked_ ? wait_for_pidfd(pidfd_.get(), until) : wait_for_death(id_, until);
    if (!ended) return std::nullopt;
    status_ = collect();
  }
  return status_;
}

std::optional<exit_status> process::status() {
  if (id_ == 0) return std::nullopt;
  return join_until(std::chrono::steady_clock::now());
}

bool process::alive() const noexcept {
  if (id_ == 0 || status_) return false;
  if (!forked_) return process_runs(id_);
  pollfd p{pidfd_.get(), POLLIN, 0};
  return ::poll(&p, 1, 0) == 0;
}

detail::wait_descriptor process::end_hook::polled() const noexcept {
  return {p->status_ ? -1 : p->pidfd_.get(), POLLIN, false};
}

// The system tells of an end before the keeper has looked after it.
void process::end_hook::settle() const noexcept {
  if (!p->forked_) wait_for_death(p->id_, std::nullopt);
}

// A forked child that dies before it has told the keeper its name is in nobody's count of deaths.
bool process::end_hook::must_look_again() const noexcept {
  return p->forked_ && !p->status_ && phase_of(entry_of(p->id_).state.load()) == process_phase::starting;
}

void process::send(int signal) const noexcept {
  if (id_ != 0 && !status_ && pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

void process::request_stop() noexcept {
  if (takes_token_) send(SIGTERM);
}

void process::terminate() noexcept { send(SIGTERM); }

void process::kill() noexcept { send(SIGKILL); }

void process::end_politely() noexcept {
  if (id_ == 0 || status_ || !family.takes_part) return;  // the last: forked past covey, it is not ours
  try {
    if (options_.daemon) {
      kill();
    } else if (request_stop(); options_.stop_grace) {
      if (!join_for(*options_.stop_grace)) {
        terminate();
        if (!join_for(*options_.stop_grace)) kill();
      }
    }
    if (!status_) join();
  } catch (...) {
    kill();  // out of memory while asking: then without manners
  }
}

}  // namespace covey
