// The keeper's life: what it watches, and what it does about deaths. What it is asked is in keeper_requests.cpp.
#include <covey/memory/keeper.hpp>

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <covey/base/check.hpp>
#include <covey/memory/messages.hpp>
#include <covey/memory/reaping.hpp>

namespace covey::detail {
namespace {

constexpr std::chrono::milliseconds a_moment{10};

}  // namespace

keeper::keeper(const keeper_descriptors& keys, int guard_pidfd, const program_settings& program)
    : keys_(keys),
      guard_pidfd_(guard_pidfd),
      program_(program),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      references_(*family.book, family.arena_fd, family.arena_bytes) {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::sigaddset(&child, SIGUSR1);  // the guard recorded a death; SIGCHLD would merge with the kernel's
  signals_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  COVEY_CHECK(watch(signals_.get()) && watch(keys_.lobby_in_fd) && watch(guard_pidfd_),
              "the keeper has the descriptors that it needs");
  family.book->keeper_pid.store(::getpid(), std::memory_order_relaxed);
  family.book->keepers.fetch_add(1, std::memory_order_relaxed);
  take_over();
  sweep_all_dead();
  settle();
  wake_everybody();  // the last keeper may have died before it could
}

bool keeper::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void keeper::serve() {
  while (!guard_died_) {
    epoll_event events[64];
    const int n = ::epoll_wait(epoll_.get(), events, 64, lost_.empty() ? -1 : static_cast<int>(a_moment.count()));
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == signals_.get()) {
        reap();
      } else if (fd == keys_.lobby_in_fd) {
        (void)accept_one();
      } else if (fd == guard_pidfd_) {
        guard_died_ = true;
      } else if (watched_.contains(fd)) {
        see_end(fd);
      } else if (const auto c = connections_.find(fd); c != connections_.end()) {
        if (serve_one(c->second) != served::gone) continue;
        if (lost_.empty()) look_at_ = std::chrono::steady_clock::now() + a_moment;
        lost_.push_back(c->second.who);
        connections_.erase(c);
      }
    }
    if (!unwatched_.empty()) watch_the_unwatched();
    if (!lost_.empty()) look_for_the_lost();
    settle();
  }
}

// What a former keeper left. A worker that had not yet said that it lives will find its entry gone and end; those that
// live are children of the guard, which reaps them, or of nobody: then a guard has died since, and only a pidfd tells.
void keeper::take_over() {
  for (std::uint32_t slot = 1; slot < processes_max; ++slot) {
    process_entry& e = family.book->processes[slot];
    std::uint64_t state = e.state.load(std::memory_order_relaxed);
    if (phase_of(state) == process_phase::starting && e.foreign.load(std::memory_order_relaxed) == 0)
      e.state.compare_exchange_strong(state, state_of(generation_of(state), process_phase::free),
                                      std::memory_order_acq_rel);  // pairs with run_child()
    state = e.state.load(std::memory_order_acquire);
    const process_phase phase = phase_of(state);
    if (phase == process_phase::alive || phase == process_phase::elsewhere) watch_by_pidfd(slot);
    if (phase == process_phase::alive) look_for_exec(slot);
  }
}

// A member that is gone from its line ends, mostly, and a moment later is known to have; or it has closed descriptors
// that it did not know; or it is a member no more.
void keeper::look_for_the_lost() {
  if (std::chrono::steady_clock::now() < look_at_) return;
  for (const process_id who : std::exchange(lost_, {}))
    if (process_alive(who)) look_for_exec(slot_of_process(who));
}

// Its program may have been replaced by another one under the same pid.
void keeper::look_for_exec(std::uint32_t slot) {
  process_entry& e = family.book->processes[slot];
  const std::uint64_t state = e.state.load(std::memory_order_relaxed);
  if (phase_of(state) == process_phase::alive && runs_another_program(pid_of(e), keys_.ledger_fd) &&
      mark_elsewhere(e, state))
    on_death(e);
}

void keeper::watch_by_pidfd(std::uint32_t slot) {
  process_entry& e = family.book->processes[slot];
  const std::uint64_t state = e.state.load(std::memory_order_relaxed);
  unique_fd pidfd(open_pidfd(pid_of(e)));
  if (pidfd || errno != ESRCH)
    watch_by_pidfd(std::move(pidfd), watched{slot, state});
  else if (mark_dead(e, state))
    on_death(e);
}

// Without a descriptor for it now, it is tried again whenever something has happened: descriptors may be free then.
void keeper::watch_by_pidfd(unique_fd pidfd, const watched& whom) {
  if (!pidfd || !watch(pidfd.get()))
    unwatched_.push_back(whom);
  else
    watched_[pidfd.release()] = whom;
}

void keeper::watch_the_unwatched() {
  for (const watched& w : std::exchange(unwatched_, {}))
    if (process_runs(make_process_id(w.slot, generation_of(w.state)))) watch_by_pidfd(w.slot);
}

void keeper::see_end(int pidfd) {
  const watched w = watched_.at(pidfd);
  watched_.erase(pidfd);
  ::close(pidfd);
  process_entry& e = family.book->processes[w.slot];
  // The guard reaps its own and writes how they ended.
  const bool foreign = e.foreign.load(std::memory_order_relaxed) != 0;
  if (!foreign && parent_of(pid_of(e)) == family.book->guard_pid.load()) return;
  if (mark_dead(e, w.state)) on_death(e);
}

void keeper::reap() {
  signalfd_siginfo info{};
  bool guard_reaped = false;
  while (::read(signals_.get(), &info, sizeof info) > 0) guard_reaped = guard_reaped || info.ssi_signo == SIGUSR1;
  const auto find = [this](pid_t pid) -> process_entry* {
    const auto it = slot_of_pid_.find(pid);
    if (it == slot_of_pid_.end()) return find_process(pid);
    process_entry* const e = &family.book->processes[it->second];
    slot_of_pid_.erase(it);
    return e;
  };
  reap_children(0, find, [this](process_entry& e) { on_death(e); });
  if (guard_reaped) sweep_all_dead();
}

// Buried later, by settle(): what is served at a burial may tell of further deaths.
void keeper::on_death(process_entry& e) { ended_.push_back(static_cast<std::uint32_t>(&e - family.book->processes)); }

void keeper::settle() {
  while (!ended_.empty() || may_free_) {
    while (!ended_.empty()) {
      const std::uint32_t slot = ended_.back();
      ended_.pop_back();
      bury(slot);
    }
    if (std::exchange(may_free_, false)) free_forgotten();
  }
}

// What the dead had sent before it died still counts, also when its connection still waits in the lobby: read it all,
// then drop what it held.
void keeper::bury(std::uint32_t slot) {
  const std::uint64_t state = family.book->processes[slot].state.load(std::memory_order_relaxed);
  if (phase_of(state) != process_phase::dead && phase_of(state) != process_phase::elsewhere) return;
  may_free_ = true;
  if (std::exchange(buried_[slot], generation_of(state)) == generation_of(state)) return;
  const process_id id = make_process_id(slot, generation_of(state));
  while (accept_one()) {
  }
  for (auto it = connections_.begin(); it != connections_.end();) {
    if (it->second.who != id) {
      ++it;
      continue;
    }
    while (serve_one(it->second) == served::one) {
    }
    it = connections_.erase(it);
  }
  references_.drop_all_from(edge_from_process | id);
  references_.drop_all_from(edge_from_arguments | id);
  // It was about to fork itself: the child, if there is one, is killed with it.
  for (process_entry& child : family.book->processes) {
    const std::uint64_t phase = child.state.load(std::memory_order_relaxed);
    if (phase_of(phase) == process_phase::starting && child.foreign.load(std::memory_order_relaxed) != 0 &&
        child.parent.load(std::memory_order_relaxed) == slot &&
        child.parent_generation.load(std::memory_order_relaxed) == generation_of_process(id) && mark_dead(child, phase))
      on_death(child);
  }
}

// Deaths that the guard or a former keeper recorded, but whose references nobody dropped; and those it had reaped when
// it was killed, but not yet marked.
void keeper::sweep_all_dead() {
  for (process_entry& e : family.book->processes) {
    const std::uint64_t state = e.state.load(std::memory_order_relaxed);
    if ((phase_of(state) == process_phase::alive || phase_of(state) == process_phase::elsewhere) &&
        e.status_known.load(std::memory_order_acquire) != 0)
      (void)mark_dead(e, state);
    const process_phase phase = phase_of(e.state.load(std::memory_order_relaxed));
    if (phase == process_phase::dead || phase == process_phase::elsewhere) on_death(e);
  }
}

// A dead entry is kept until its parent forgets it or dies, because the parent may still ask for the status.
void keeper::free_forgotten() {
  for (process_entry& e : family.book->processes) {
    const std::uint64_t state = e.state.load(std::memory_order_relaxed);
    if (phase_of(state) != process_phase::dead) continue;
    const process_id parent =
        make_process_id(e.parent.load(std::memory_order_relaxed), e.parent_generation.load(std::memory_order_relaxed));
    if (e.forgotten.load(std::memory_order_relaxed) == 0 && process_alive(parent)) continue;
    const auto slot = static_cast<std::uint32_t>(&e - family.book->processes);
    if (buried_[slot] != generation_of(state)) {  // the guard knew it first
      bury(slot);
      continue;
    }
    e.state.store(state_of(generation_of(state), process_phase::free), std::memory_order_release);
  }
}

bool keeper::accept_one() {
  keeper_request hello{};
  std::vector<unique_fd> fds;
  const auto n = receive_message(keys_.lobby_in_fd, &hello, sizeof hello, fds, MSG_DONTWAIT);
  if (!n) return false;
  if (*n != sizeof hello || fds.size() != 1 || hello.op != keeper_op::hello) return true;
  const std::uint32_t slot = slot_of_process(hello.values[0]);
  if (slot >= processes_max || family.book->processes[slot].state.load() >> 8 != generation_of_process(hello.values[0]))
    return true;  // buried by a former keeper
  const int fd = fds.front().get();
  if (!watch(fd)) return true;  // closed: the member tries again, and says so in the end
  connections_[fd] = connection{std::move(fds.front()), hello.values[0]};
  return true;
}

}  // namespace covey::detail
