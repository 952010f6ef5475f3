// What members ask of the keeper, each request a function. A request may come twice: from a member whose keeper was
// replaced before it answered.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <covey/memory/fork.hpp>
#include <covey/memory/keeper.hpp>
#include <covey/memory/messages.hpp>
#include <covey/memory/reaping.hpp>
#include <cstdio>
#include <cstring>

namespace covey::detail {

void (*child_main)(child_start& start) = nullptr;

namespace {

std::uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

// Arguments on the way to a process that is dead by now went with it.
bool may_carry(std::uint64_t from) {
  return (from & edge_from_arguments) == 0 || process_alive(from & ~edge_from_arguments);
}

bool is_answered(keeper_op op) {
  return op != keeper_op::drop && op != keeper_op::carry && op != keeper_op::detach && op != keeper_op::forget &&
         op != keeper_op::thread_died && op != keeper_op::report_damage;
}

}  // namespace

// Never blocks: what epoll announced may have been read when its sender's death was handled.
keeper::served keeper::serve_one(connection& c) {
  keeper_request r{};
  std::vector<unique_fd> fds;
  const auto n = receive_message(c.socket.get(), &r, sizeof r, fds, MSG_DONTWAIT);
  if (!n) return n.error().code == std::errc::resource_unavailable_try_again ? served::none : served::gone;
  if (*n == 0) return served::gone;
  if (*n != sizeof r) return served::one;
  return handle(c, r, fds) ? served::one : served::gone;
}

// False: the member does not read its answers, and must not keep the others waiting.
bool keeper::handle(connection& c, const keeper_request& r, std::vector<unique_fd>& fds) {
  process_entry& e = family.book->processes[slot_of_process(c.who) % processes_max];
  const bool again = r.sequence <= e.last_request.load(std::memory_order_relaxed);
  // A keeper may have been killed between a deed and its record: the first request that is not on record may be done.
  const bool perhaps = again || !c.progressed;
  if (!again) c.progressed = true;
  const answer_now answer = do_request(c, r, again, perhaps, fds);
  if (!again) e.last_request.store(r.sequence, std::memory_order_relaxed);
  if (!is_answered(r.op)) return true;
  const int fd = answer.fd ? answer.fd.get() : answer.borrowed_fd;
  keeper_reply reply{};
  reply.sequence = r.sequence;
  reply.error = answer.error;
  reply.fd_count = fd >= 0 ? 1 : 0;
  std::memcpy(reply.values, answer.values, sizeof reply.values);
  const auto sent = send_message(c.socket.get(), &reply, sizeof reply,
                                 fd >= 0 ? std::span(&fd, 1) : std::span<const int>(), MSG_DONTWAIT);
  return sent || sent.error().code != std::errc::resource_unavailable_try_again;
}

keeper::answer_now keeper::do_request(connection& c, const keeper_request& r, bool again, bool perhaps,
                                      std::vector<unique_fd>& fds) {
  const std::uint64_t self = edge_from_process | c.who;
  answer_now answer;
  switch (r.op) {
    case keeper_op::make_region: return make_region(c, r, perhaps);
    case keeper_op::hold: return hold(c, r);
    case keeper_op::start: return start(c, r, perhaps, fds);
    case keeper_op::adopt: return adopt(c, r, perhaps);
    case keeper_op::adopted: return adopted(c, r, fds);
    case keeper_op::thread_died: wake_everybody(); break;
    case keeper_op::report_damage:
      if (references_.mark_damaged(self, r.values[0])) wake_everybody();
      break;
    case keeper_op::sync: break;
    case keeper_op::drop: references_.drop(self, r.values[0]); break;
    case keeper_op::release: answer.values[0] = references_.release(self, r.values[0]) ? 1 : 0; break;
    case keeper_op::carry:
      if (!again) carry(family.book->processes[slot_of_process(c.who) % processes_max], r);
      break;
    case keeper_op::attach: answer.error = attach(c, r); break;
    case keeper_op::detach:
      if (references_.holds(self, r.values[0])) references_.detach(r.values[0], r.values[1]);
      break;
    case keeper_op::forget: forget(c, r); break;
    default: answer.error = EINVAL;
  }
  return answer;
}

// values: bytes, kind, type, destructor, whether in huge pages.
keeper::answer_now keeper::make_region(connection& c, const keeper_request& r, bool again) {
  answer_now a;
  const auto made = references_.make_region({.made_for = c.who,
                                             .made_by = r.sequence,
                                             .bytes = r.values[0],
                                             .kind = static_cast<std::uint32_t>(r.values[1]),
                                             .type = r.values[2],
                                             .destroy = r.values[3],
                                             .align = r.values[4] != 0 ? huge_page_bytes : 0},
                                            again);
  if (!made) {
    a.error = made.error().code.value();
    return a;
  }
  if (!references_.hold(edge_from_process | c.who, made->id)) {
    references_.forget(made->id);
    a.error = ENOBUFS;
    return a;
  }
  a.values[0] = made->id;
  a.values[1] = made->offset;
  return a;
}

// values: region, whether weakly: not while its last holder destroys it.
keeper::answer_now keeper::hold(connection& c, const keeper_request& r) {
  answer_now a;
  const region_entry* const region = references_.find(r.values[0]);
  if (region == nullptr || (r.values[1] != 0 && region->ending.load(std::memory_order_relaxed) != 0)) {
    a.error = ESTALE;
    return a;
  }
  if (!references_.hold(edge_from_process | c.who, r.values[0])) a.error = ENOBUFS;
  return a;
}

std::uint32_t keeper::take_slot(process_id parent, std::uint64_t made_by, const char* name) {
  for (std::uint32_t tried = 0; tried < processes_max; ++tried) {
    const std::uint32_t slot = next_slot_;
    next_slot_ = next_slot_ + 1 < processes_max ? next_slot_ + 1 : 1;
    process_entry& e = family.book->processes[slot];
    const std::uint64_t state = e.state.load(std::memory_order_relaxed);
    if (phase_of(state) != process_phase::free) continue;
    e.runs_as.store(runs_as_of(generation_of(state) + 1, 0), std::memory_order_relaxed);
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
  // What comes here without descriptors was cut by the kernel: this process has no room for them.
  if (fds.size() < 6 || child_main == nullptr) {
    a.error = fds.size() < r.fd_count ? EMFILE : EINVAL;
    return a;
  }
  std::uint32_t slot = again ? find_started(c.who, r.sequence) : 0;
  if (slot == 0) {
    char name[32];
    std::memcpy(name, &r.values[2], sizeof name);
    name[sizeof name - 1] = '\0';
    slot = take_slot(c.who, r.sequence, name);
    a.error = slot == 0 ? EUSERS : fork_worker(slot, r, fds);
    if (a.error != 0) return a;
  }
  process_entry& e = family.book->processes[slot];
  a.values[0] = make_process_id(slot, generation_of(e.state.load(std::memory_order_relaxed)));
  a.values[1] = static_cast<std::uint64_t>(pid_of(e));
  a.fd.reset(open_pidfd(pid_of(e)));
  // A former keeper forked it, it has ended since, and the guard has reaped it or will: its pid may be another's.
  const bool reaped = e.status_known.load(std::memory_order_acquire) != 0 || (!a.fd && errno == ESRCH);
  if (reaped) a.fd.reset(::eventfd(1, EFD_CLOEXEC));  // readable, as the pidfd of one that has ended
  if (!a.fd) a.error = errno;
  return a;
}

// 0, or why there is none; then the slot is free again.
int keeper::fork_worker(std::uint32_t slot, const keeper_request& r, std::vector<unique_fd>& fds) {
  process_entry& e = family.book->processes[slot];
  const std::uint64_t generation = generation_of(e.state.load(std::memory_order_relaxed));
  // Is there a place for its pidfd? A worker that could not be told of would be nobody's.
  const bool place = static_cast<bool>(unique_fd(::fcntl(epoll_.get(), F_DUPFD_CLOEXEC, 0)));
  const pid_t pid = place ? our_fork() : -1;
  if (pid == 0) run_child(slot, generation, fds, r);
  if (pid < 0) {
    const int error = errno;
    e.state.store(state_of(generation, process_phase::free), std::memory_order_release);
    return error;
  }
  e.runs_as.store(runs_as_of(generation, pid), std::memory_order_relaxed);
  std::uint64_t starting = state_of(generation, process_phase::starting);
  e.state.compare_exchange_strong(starting, state_of(generation, process_phase::alive), std::memory_order_acq_rel);
  slot_of_pid_[pid] = slot;
  return 0;
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
  std::uint64_t unknown = runs_as_of(generation, 0);
  const std::uint64_t known = runs_as_of(generation, ::getpid());
  if (!e.runs_as.compare_exchange_strong(unknown, known, std::memory_order_relaxed) && unknown != known) ::_exit(127);
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
  sigset_t signals = program_.signals;
  if ((r.values[0] & start_with_sigterm_blocked) != 0) ::sigaddset(&signals, SIGTERM);
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  ::setrlimit(RLIMIT_NOFILE, &program_.files);
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
  if (!references_.copy_all(edge_from_process | c.who, edge_from_process | id)) {
    e.state.store(state_of(generation_of_process(id), process_phase::free), std::memory_order_release);
    a.error = ENOBUFS;
    return a;
  }
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
  e.runs_as.store(runs_as_of(generation_of(state), static_cast<std::int32_t>(r.values[0])), std::memory_order_relaxed);
  e.state.store(alive, std::memory_order_release);
  watch_by_pidfd(std::move(fds.front()), watched{slot_of_process(c.who), alive});
  return a;
}

// The one request that cannot be repeated. A keeper killed between deed and record counts one reference too many, never
// one too few: what is given is given before it is recorded, what is taken back is recorded first.
void keeper::carry(process_entry& e, const keeper_request& r) {
  const auto delta = static_cast<std::int64_t>(r.values[2]);
  if (delta < 0) e.last_request.store(r.sequence, std::memory_order_release);
  if (may_carry(r.values[0])) references_.add(r.values[0], r.values[1], delta);
}

// values: carrier, number of its message, up to four regions or 0. What the dead asked for and was not told is not
// done: whoever cleans up after it may have detached the message already.
int keeper::attach(connection& c, const keeper_request& r) {
  if (!references_.holds(edge_from_process | c.who, r.values[0]) || !process_alive(c.who)) return ESTALE;
  for (std::size_t i = 2; i < std::size(r.values) && r.values[i] != 0; ++i)
    if (!references_.attach(r.values[0], r.values[1], r.values[i])) return ENOBUFS;
  return 0;
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

}  // namespace covey::detail
