// Guard and keeper: who they are and what their deaths mean is told in docs/design/identity.md; the tables in
// ledger.hpp. One thread each. A process here is either guard (reaps what it has, restarts the keeper) or keeper
// (serves and reaps); a keeper whose guard died becomes guard. Every change to the ledger is repeatable: an entry
// becomes valid by one store.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <covey/base/check.hpp>
#include <covey/memory/family.hpp>
#include <covey/memory/fork.hpp>
#include <covey/memory/messages.hpp>
#include <covey/memory/reference_table.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <unordered_map>

namespace covey::detail {

void (*child_main)(child_start& start) = nullptr;

namespace {

std::uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

void wake_everybody() {
  family.book->deaths.fetch_add(1, std::memory_order_seq_cst);  // pairs with the load in park()
  ::syscall(SYS_futex, &family.book->deaths, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// Slow, for the guard; the keeper has an index.
process_entry* find_process(pid_t pid) {
  for (process_entry& e : family.book->processes) {
    const process_phase phase = phase_of(e.state.load(std::memory_order_relaxed));
    if ((phase == process_phase::alive || phase == process_phase::starting) &&
        e.pid.load(std::memory_order_relaxed) == pid)
      return &e;
  }
  return nullptr;
}

// `state` is what the caller knows the entry by. False: the other of guard and keeper was first, and the entry may have
// another tenant by now.
bool mark_dead(process_entry& e, std::uint64_t state) {
  const std::uint64_t dead = state_of(generation_of(state), process_phase::dead);
  const bool first = e.state.compare_exchange_strong(state, dead, std::memory_order_acq_rel);  // pairs with alive()
  wake_everybody();
  return first;
}

// The parent of `pid`; 0 when there is no such process.
pid_t parent_of(pid_t pid) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* const stat = std::fopen(path, "re");
  if (stat == nullptr) return 0;
  char text[512];
  const std::size_t n = std::fread(text, 1, sizeof text - 1, stat);
  std::fclose(stat);
  text[n] = '\0';
  const char* const end_of_name = std::strrchr(text, ')');
  int parent = 0;
  return end_of_name != nullptr && std::sscanf(end_of_name, ") %*c %d", &parent) == 1 ? parent : 0;
}

// A child that ended but is not reaped yet, or 0.
pid_t ended_child(int& wait_status, rusage& usage) {
  siginfo_t info{};
  if (::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, &usage) < 0 || info.si_pid == 0)
    return 0;
  if (info.si_code == CLD_EXITED)
    wait_status = info.si_status << 8;
  else
    wait_status = info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
  return info.si_pid;
}

// Writes what became of each ended child into the ledger, then reaps it. Returns false when `special` was among them.
template <class Find, class OnDeath>
bool reap_children(pid_t special, const Find& find, const OnDeath& on_death) {
  bool special_lives = true;
  int wait_status = 0;
  rusage usage{};
  for (pid_t pid; (pid = ended_child(wait_status, usage)) != 0;) {
    process_entry* const e = find(pid);
    const std::uint64_t state = e != nullptr ? e->state.load(std::memory_order_relaxed) : 0;
    if (e != nullptr) {
      e->wait_status.store(wait_status, std::memory_order_relaxed);
      e->cpu_us.store(static_cast<std::uint64_t>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000U +
                          static_cast<std::uint64_t>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec),
                      std::memory_order_relaxed);
      e->peak_bytes.store(static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U, std::memory_order_relaxed);
      e->status_known.store(1, std::memory_order_release);
    }
    int ignored = 0;
    ::waitpid(pid, &ignored, 0);
    if (e != nullptr) {
      (void)mark_dead(*e, state);  // after reaping: whoever learns of the death finds no zombie
      on_death(*e);
    }
    if (pid == special) special_lives = false;
  }
  return special_lives;
}

// ---- the keeper ----------------------------------------------------------------------------------------------------

rlimit program_files{};  // as the program had it; workers get it back

struct connection {
  unique_fd socket;
  process_id who = 0;
  bool progressed = false;  // a request was served that no former keeper can have served
};

// What a process that is watched by pidfd was when the watch began.
struct watched {
  std::uint32_t slot;
  std::uint64_t state;
};

class keeper {
 public:
  keeper(const keeper_descriptors& keys, int guard_pidfd, const sigset_t& program_signals);

  /// Serves until the guard dies.
  void serve();

 private:
  struct answer_now {
    std::uint64_t values[4] = {};
    int error = 0;
    unique_fd fd;
    int borrowed_fd = -1;
  };

  void watch(int fd);
  void reap();
  void on_death(process_entry& e);
  void sweep_all_dead();
  void settle();
  void bury(std::uint32_t slot);
  void free_forgotten();
  void take_over();
  void watch_by_pidfd(int pidfd, std::uint32_t slot);
  void see_end(int pidfd);
  bool accept_one();
  enum class served { one, none, gone };
  served serve_one(connection& c);
  void handle(connection& c, const keeper_request& r, std::vector<unique_fd>& fds);
  answer_now make_region(connection& c, const keeper_request& r, bool again);
  answer_now hold(connection& c, const keeper_request& r);
  answer_now start(connection& c, const keeper_request& r, bool again, std::vector<unique_fd>& fds);
  answer_now adopt(connection& c, const keeper_request& r, bool again);
  answer_now adopted(connection& c, const keeper_request& r, std::vector<unique_fd>& fds);
  void carry(process_entry& e, const keeper_request& r);
  void forget(connection& c, const keeper_request& r);
  std::uint32_t take_slot(process_id parent, std::uint64_t made_by, const char* name);
  std::uint32_t find_started(process_id parent, std::uint64_t made_by);
  [[noreturn]] void run_child(std::uint32_t slot, std::uint64_t generation, std::vector<unique_fd>& fds,
                              const keeper_request& r);
  void close_keeper_fds();

  keeper_descriptors keys_;
  int guard_pidfd_;
  sigset_t program_signals_;
  unique_fd epoll_;
  unique_fd signals_;
  bool guard_died_ = false;
  std::uint32_t next_slot_ = 1;
  std::vector<std::uint32_t> ended_;  // to be buried
  bool may_free_ = false;  // an entry was forgotten or buried
  std::vector<std::uint64_t> buried_ = std::vector<std::uint64_t>(processes_max);  // by slot: the generation
  std::unordered_map<pid_t, std::uint32_t> slot_of_pid_;  // of our own children
  std::unordered_map<int, connection> connections_;
  std::unordered_map<int, watched> watched_;  // by the pidfd of a process that is not our child
  reference_table references_;
};

keeper::keeper(const keeper_descriptors& keys, int guard_pidfd, const sigset_t& program_signals)
    : keys_(keys),
      guard_pidfd_(guard_pidfd),
      program_signals_(program_signals),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      references_(*family.book, family.arena_fd, family.arena_bytes) {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::sigaddset(&child, SIGUSR1);  // the guard recorded a death; SIGCHLD would merge with the kernel's
  signals_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  watch(signals_.get());
  watch(keys_.lobby_in_fd);
  watch(guard_pidfd_);
  family.book->keeper_pid.store(::getpid(), std::memory_order_relaxed);
  family.book->keepers.fetch_add(1, std::memory_order_relaxed);
  take_over();
  sweep_all_dead();
  settle();
  wake_everybody();  // the last keeper may have died before it could
}

void keeper::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  COVEY_CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0, "the keeper can watch its descriptors");
}

void keeper::serve() {
  while (!guard_died_) {
    epoll_event events[64];
    const int n = ::epoll_wait(epoll_.get(), events, 64, -1);
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
        if (serve_one(c->second) == served::gone) connections_.erase(fd);
      }
    }
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
    if (phase_of(state) != process_phase::alive) continue;
    const int pidfd = open_pidfd(e.pid.load(std::memory_order_relaxed));
    if (pidfd >= 0)
      watch_by_pidfd(pidfd, slot);
    else
      (void)mark_dead(e, state);
  }
}

void keeper::watch_by_pidfd(int pidfd, std::uint32_t slot) {
  watched_[pidfd] = watched{slot, family.book->processes[slot].state.load(std::memory_order_relaxed)};
  watch(pidfd);
}

void keeper::see_end(int pidfd) {
  const watched w = watched_.at(pidfd);
  watched_.erase(pidfd);
  ::close(pidfd);
  process_entry& e = family.book->processes[w.slot];
  // The guard reaps its own and writes how they ended.
  const bool foreign = e.foreign.load(std::memory_order_relaxed) != 0;
  if (!foreign && parent_of(e.pid.load(std::memory_order_relaxed)) == family.book->guard_pid.load()) return;
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
  if (phase_of(state) != process_phase::dead || buried_[slot] == generation_of(state)) return;
  buried_[slot] = generation_of(state);
  may_free_ = true;
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
    if (phase_of(state) == process_phase::alive && e.status_known.load(std::memory_order_acquire) != 0)
      (void)mark_dead(e, state);
    if (phase_of(e.state.load(std::memory_order_relaxed)) == process_phase::dead) on_death(e);
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
  watch(fd);
  connections_[fd] = connection{std::move(fds.front()), hello.values[0]};
  return true;
}

// Never blocks: what epoll announced may have been read when its sender's death was handled.
keeper::served keeper::serve_one(connection& c) {
  keeper_request r{};
  std::vector<unique_fd> fds;
  const auto n = receive_message(c.socket.get(), &r, sizeof r, fds, MSG_DONTWAIT);
  if (!n) return n.error().code == std::errc::resource_unavailable_try_again ? served::none : served::gone;
  if (*n == 0) return served::gone;
  if (*n == sizeof r) handle(c, r, fds);
  return served::one;
}

// Arguments on the way to a process that is dead by now went with it.
bool may_carry(std::uint64_t from) {
  return (from & edge_from_arguments) == 0 || process_alive(from & ~edge_from_arguments);
}

bool is_answered(keeper_op op) {
  return op != keeper_op::drop && op != keeper_op::carry && op != keeper_op::forget && op != keeper_op::thread_died &&
         op != keeper_op::report_damage;
}

void keeper::handle(connection& c, const keeper_request& r, std::vector<unique_fd>& fds) {
  process_entry& e = family.book->processes[slot_of_process(c.who) % processes_max];
  const bool again = r.sequence <= e.last_request.load(std::memory_order_relaxed);
  // A keeper may have been killed between a deed and its record: the first request that is not on record may be done.
  const bool perhaps = again || !c.progressed;
  if (!again) c.progressed = true;
  answer_now answer;
  switch (r.op) {
    case keeper_op::make_region: answer = make_region(c, r, perhaps); break;
    case keeper_op::hold: answer = hold(c, r); break;
    case keeper_op::start: answer = start(c, r, perhaps, fds); break;
    case keeper_op::adopt: answer = adopt(c, r, perhaps); break;
    case keeper_op::adopted: answer = adopted(c, r, fds); break;
    case keeper_op::thread_died: wake_everybody(); break;
    case keeper_op::report_damage:
      if (references_.mark_damaged(edge_from_process | c.who, r.values[0])) wake_everybody();
      break;
    case keeper_op::sync: break;
    case keeper_op::drop: references_.drop(edge_from_process | c.who, r.values[0]); break;
    case keeper_op::release:
      answer.values[0] = references_.release(edge_from_process | c.who, r.values[0]) ? 1 : 0;
      break;
    case keeper_op::carry:
      if (!again) carry(e, r);
      break;
    case keeper_op::forget: forget(c, r); break;
    default: answer.error = EINVAL;
  }
  if (!again) e.last_request.store(r.sequence, std::memory_order_relaxed);
  if (!is_answered(r.op)) return;
  keeper_reply reply{};
  reply.sequence = r.sequence;
  reply.error = answer.error;
  std::memcpy(reply.values, answer.values, sizeof reply.values);
  const int fd = answer.fd ? answer.fd.get() : answer.borrowed_fd;
  (void)send_message(c.socket.get(), &reply, sizeof reply, fd >= 0 ? std::span(&fd, 1) : std::span<const int>());
}

keeper::answer_now keeper::make_region(connection& c, const keeper_request& r, bool again) {
  answer_now a;
  const auto made =
      references_.make_region(c.who, r.sequence, again, r.values[0], static_cast<std::uint32_t>(r.values[1]));
  if (!made) {
    a.error = made.error().code.value();
    return a;
  }
  references_.hold(edge_from_process | c.who, made->id);
  a.values[0] = made->id;
  a.values[1] = made->offset;
  return a;
}

keeper::answer_now keeper::hold(connection& c, const keeper_request& r) {
  answer_now a;
  const region_entry* const region = references_.find(r.values[0]);
  if (region == nullptr) {
    a.error = ESTALE;
    return a;
  }
  references_.hold(edge_from_process | c.who, r.values[0]);
  a.values[0] = region->offset;
  a.values[1] = region->bytes;
  a.values[2] = region->kind;
  return a;
}

std::uint32_t keeper::take_slot(process_id parent, std::uint64_t made_by, const char* name) {
  for (std::uint32_t tried = 0; tried < processes_max; ++tried) {
    const std::uint32_t slot = next_slot_;
    next_slot_ = next_slot_ + 1 < processes_max ? next_slot_ + 1 : 1;
    process_entry& e = family.book->processes[slot];
    const std::uint64_t state = e.state.load(std::memory_order_relaxed);
    if (phase_of(state) != process_phase::free) continue;
    e.pid.store(0, std::memory_order_relaxed);
    e.wait_status.store(0, std::memory_order_relaxed);
    e.status_known.store(0, std::memory_order_relaxed);
    e.parent.store(slot_of_process(parent), std::memory_order_relaxed);
    e.parent_generation.store(generation_of_process(parent), std::memory_order_relaxed);
    e.made_by.store(made_by, std::memory_order_relaxed);
    e.last_request.store(0, std::memory_order_relaxed);
    e.forgotten.store(0, std::memory_order_relaxed);
    e.foreign.store(0, std::memory_order_relaxed);
    e.started_ns.store(now_ns(), std::memory_order_relaxed);
    std::snprintf(e.name, sizeof e.name, "%s", name);
    cells_of(slot).last.kind.store(last_words_kind::none, std::memory_order_relaxed);
    e.state.store(state_of(generation_of(state) + 1, process_phase::starting), std::memory_order_release);
    return slot;
  }
  return 0;
}

std::uint32_t keeper::find_started(process_id parent, std::uint64_t made_by) {
  for (std::uint32_t slot = 1; slot < processes_max; ++slot) {
    const process_entry& e = family.book->processes[slot];
    const process_phase phase = phase_of(e.state.load(std::memory_order_relaxed));
    if (phase != process_phase::free && e.parent.load(std::memory_order_relaxed) == slot_of_process(parent) &&
        e.parent_generation.load(std::memory_order_relaxed) == generation_of_process(parent) &&
        e.made_by.load(std::memory_order_relaxed) == made_by)
      return slot;
  }
  return 0;
}

// fds: payload, life pipe, stdin, stdout, stderr, working directory, the caller's own. values: 0, 1 the caller's own;
// 2…5 the name.
keeper::answer_now keeper::start(connection& c, const keeper_request& r, bool again, std::vector<unique_fd>& fds) {
  answer_now a;
  std::uint32_t slot = again ? find_started(c.who, r.sequence) : 0;
  if (slot == 0) {
    char name[32];
    std::memcpy(name, &r.values[2], sizeof name);
    name[sizeof name - 1] = '\0';
    slot = child_main != nullptr && fds.size() >= 6 ? take_slot(c.who, r.sequence, name) : 0;
    if (slot == 0) {
      a.error = EUSERS;
      return a;
    }
    process_entry& e = family.book->processes[slot];
    const std::uint64_t generation = generation_of(e.state.load(std::memory_order_relaxed));
    const pid_t pid = our_fork();
    if (pid == 0) run_child(slot, generation, fds, r);
    if (pid < 0) {
      a.error = errno;
      e.state.store(state_of(generation, process_phase::free), std::memory_order_release);
      return a;
    }
    e.pid.store(pid, std::memory_order_relaxed);
    std::uint64_t starting = state_of(generation, process_phase::starting);
    e.state.compare_exchange_strong(starting, state_of(generation, process_phase::alive), std::memory_order_acq_rel);
    slot_of_pid_[pid] = slot;
  }
  process_entry& e = family.book->processes[slot];
  a.values[0] = make_process_id(slot, generation_of(e.state.load(std::memory_order_relaxed)));
  a.values[1] = static_cast<std::uint64_t>(e.pid.load(std::memory_order_relaxed));
  a.fd.reset(open_pidfd(e.pid.load(std::memory_order_relaxed)));
  if (!a.fd && phase_of(e.state.load(std::memory_order_relaxed)) != process_phase::dead) a.error = errno;
  return a;
}

void keeper::close_keeper_fds() {
  for (auto& [fd, c] : connections_) c.socket.reset();
  for (const auto& [fd, slot] : watched_) ::close(fd);
  epoll_.reset();
  signals_.reset();
  ::close(guard_pidfd_);
}

void keeper::run_child(std::uint32_t slot, std::uint64_t generation, std::vector<unique_fd>& fds,
                       const keeper_request& r) {
  // Both parent and child write this: the child may outlive a keeper that is killed right here. When the next keeper
  // was first, the entry is gone, and the request will be repeated there: this child must not run.
  process_entry& e = family.book->processes[slot];
  const std::uint64_t alive = state_of(generation, process_phase::alive);
  std::uint64_t state = state_of(generation, process_phase::starting);
  if (generation_of(e.state.load(std::memory_order_acquire)) != generation) ::_exit(127);
  e.pid.store(::getpid(), std::memory_order_relaxed);
  if (!e.state.compare_exchange_strong(state, alive, std::memory_order_acq_rel) && state != alive) ::_exit(127);
  close_keeper_fds();
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  become_member(slot, generation, keys_);
  if (auto tied = die_with(fds[1].get()); !tied) ::_exit(127);
  fds[1].reset();
  child_start begin;
  begin.payload = std::move(fds[0]);
  for (std::size_t i = 2; i < fds.size(); ++i) begin.fds.push_back(std::move(fds[i]));
  begin.values[0] = r.values[0];
  begin.values[1] = r.values[1];
  sigset_t signals = program_signals_;
  if ((r.values[0] & start_with_sigterm_blocked) != 0) ::sigaddset(&signals, SIGTERM);
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  ::setrlimit(RLIMIT_NOFILE, &program_files);
  child_main(begin);
  ::_exit(127);
}

// A member is about to fork itself: its child will hold what it holds.
keeper::answer_now keeper::adopt(connection& c, const keeper_request& r, bool again) {
  answer_now a;
  char name[32];
  std::memcpy(name, &r.values[2], sizeof name);
  name[sizeof name - 1] = '\0';
  std::uint32_t slot = again ? find_started(c.who, r.sequence) : 0;
  if (slot == 0) slot = take_slot(c.who, r.sequence, name);
  if (slot == 0) {
    a.error = EUSERS;
    return a;
  }
  process_entry& e = family.book->processes[slot];
  e.foreign.store(1, std::memory_order_relaxed);
  const process_id id = make_process_id(slot, generation_of(e.state.load(std::memory_order_relaxed)));
  references_.copy_all(edge_from_process | c.who, edge_from_process | id);
  a.values[0] = id;
  a.borrowed_fd = keys_.cells_fd;
  return a;
}

keeper::answer_now keeper::adopted(connection& c, const keeper_request& r, std::vector<unique_fd>& fds) {
  answer_now a;
  process_entry& e = family.book->processes[slot_of_process(c.who) % processes_max];
  const std::uint64_t alive = state_of(generation_of_process(c.who), process_phase::alive);
  const std::uint64_t state = e.state.load(std::memory_order_relaxed);
  if (state == alive) return a;  // a former keeper knew it
  if (fds.size() != 1 || state != state_of(generation_of_process(c.who), process_phase::starting)) {
    a.error = fds.size() != 1 ? EINVAL : ESRCH;
    return a;
  }
  e.pid.store(static_cast<std::int32_t>(r.values[0]), std::memory_order_relaxed);
  e.state.store(alive, std::memory_order_release);
  watch_by_pidfd(fds.front().release(), slot_of_process(c.who));
  return a;
}

// The one request that cannot be repeated. A keeper killed between deed and record counts one reference too many, never
// one too few: what is given is given before it is recorded, what is taken back is recorded first.
void keeper::carry(process_entry& e, const keeper_request& r) {
  const auto delta = static_cast<std::int64_t>(r.values[2]);
  if (delta < 0) e.last_request.store(r.sequence, std::memory_order_release);
  if (may_carry(r.values[0])) references_.add(r.values[0], r.values[1], delta);
}

void keeper::forget(connection& c, const keeper_request& r) {
  if (slot_of_process(r.values[0]) >= processes_max) return;
  process_entry& e = family.book->processes[slot_of_process(r.values[0])];
  const std::uint64_t state = e.state.load(std::memory_order_relaxed);
  if (generation_of(state) != generation_of_process(r.values[0]) ||
      e.parent.load(std::memory_order_relaxed) != slot_of_process(c.who))
    return;
  e.forgotten.store(1, std::memory_order_relaxed);
  if (phase_of(state) == process_phase::starting && e.foreign.load(std::memory_order_relaxed) != 0) {
    if (mark_dead(e, state)) on_death(e);  // its fork failed or it died before it spoke
    return;
  }
  may_free_ = true;
}

// ---- guard ---------------------------------------------------------------------------------------------------------

void leave_the_terminal() {
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (nothing >= 0) ::dup2(nothing, fd);
  if (nothing > STDERR_FILENO) ::close(nothing);
}

// A keeper has a connection to each member: it takes as many descriptors as it may have.
void take_all_descriptors() {
  ::getrlimit(RLIMIT_NOFILE, &program_files);
  rlimit most = program_files;
  most.rlim_cur = most.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &most);
}

// Returns in the new keeper's process: when its own guard has died, and it must become guard.
// In the guard it goes round: keeper dead → next keeper.
[[noreturn]] void guard_forever(const keeper_descriptors& keys, const sigset_t& program_signals) {
  for (;;) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    family.book->guard_pid.store(::getpid(), std::memory_order_relaxed);
    const int own_pidfd = open_pidfd(::getpid());
    const pid_t keeper_pid = our_fork();
    if (keeper_pid == 0) {
      ::prctl(PR_SET_NAME, "covey-keeper");
      if (!die_with(keys.life_fd)) ::_exit(127);
      {
        auto serving = std::make_unique<keeper>(keys, own_pidfd, program_signals);
        serving->serve();
      }
      ::close(own_pidfd);
      ::prctl(PR_SET_NAME, "covey-guard");
      continue;  // our guard died: we are the guard now
    }
    ::close(own_pidfd);
    if (keeper_pid < 0) {
      const timespec pause{0, 100'000'000};
      ::nanosleep(&pause, nullptr);
      continue;
    }
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    // An orphan of a former keeper: the keeper has the connections, so it drops the references.
    const auto tell_keeper_of = [keeper_pid](process_entry&) { ::kill(keeper_pid, SIGUSR1); };
    while (reap_children(keeper_pid, find_process, tell_keeper_of)) {
      siginfo_t info{};
      if (::waitid(P_PID, static_cast<id_t>(keeper_pid), &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == keeper_pid)
        ::kill(keeper_pid, SIGKILL);  // a stopped keeper serves nobody
      else
        ::sigwaitinfo(&child, &info);
    }
  }
}

}  // namespace

void guard_the_family(const keeper_descriptors& keys) noexcept {
  sigset_t all;
  sigset_t program_signals;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &program_signals);
  ::signal(SIGCHLD, SIG_DFL);  // the program may have been started with it ignored
  ::prctl(PR_SET_NAME, "covey-guard");
  leave_the_terminal();
  take_all_descriptors();
  if (!die_with(keys.life_fd)) ::_exit(127);
  guard_forever(keys, program_signals);
}

}  // namespace covey::detail
