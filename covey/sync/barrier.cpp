// Arriving, enlisting and dropping happen under a lock whose dead owner leaves nothing to repair. Waiting is without
// it: the phase is read, then the places for dead parties, and the lock is taken only to say that the barrier is
// broken.
#include <covey/sync/barrier.hpp>

#include <unistd.h>

#include <climits>
#include <covey/sync/gate.hpp>
#include <cstring>
#include <system_error>

namespace covey {
namespace detail {
namespace {

constexpr std::uint32_t broken = 1;
constexpr std::uint32_t one_phase = 2;

constexpr std::uint32_t died = 1;
constexpr std::uint32_t threw = 2;

std::system_error refused(std::errc code, const char* text) { return {std::make_error_code(code), text}; }

}  // namespace

class barrier_state::locked {
 public:
  explicit locked(lock_word& lock) : lock_(lock) { (void)lock_.lock(lock_word::unrepaired_lock::take); }
  locked(const locked&) = delete;
  locked& operator=(const locked&) = delete;
  ~locked() { lock_.unlock(); }

 private:
  lock_word& lock_;
};

barrier_state::place* barrier_state::place_of(participant who) noexcept {
  for (std::uint32_t i = 0; i < count(); ++i)
    if (places_[i].who.load(std::memory_order_acquire) == who) return &places_[i];
  return nullptr;
}

barrier_state::place* barrier_state::find_dead() noexcept {
  for (std::uint32_t i = 0; i < count(); ++i)
    if (const participant who = places_[i].who.load(std::memory_order_acquire); who != 0 && !alive(who))
      return &places_[i];
  return nullptr;
}

// Under the lock: throws when the barrier is broken, or turns out to be.
void barrier_state::check() {
  if ((turn_.load(std::memory_order_acquire) & broken) == 0)
    if (const place* const dead = find_dead(); dead != nullptr) break_by(*dead, died);
  if ((turn_.load(std::memory_order_acquire) & broken) != 0) throw_broken();
}

void barrier_state::break_by(const place& who, std::uint32_t why) noexcept {
  if ((turn_.load(std::memory_order_relaxed) & broken) != 0) return;
  why_ = why;
  broken_pid_ = who.pid;
  std::memcpy(broken_process_, who.process, sizeof broken_process_);
  turn_.fetch_or(broken, std::memory_order_release);
  unpark(turn_, INT_MAX);
}

void barrier_state::throw_broken() const {
  char name[sizeof broken_process_ + 1] = {};
  std::memcpy(name, broken_process_, sizeof broken_process_);
  throw broken_barrier(name, broken_pid_, why_ == threw ? "threw where it ended a phase" : "died");
}

// Under the lock: the place of this thread, which enlists if it has none.
barrier_state::place& barrier_state::own_place() {
  const participant me = this_name();
  if (place* const mine = place_of(me); mine != nullptr) return *mine;
  std::uint32_t taken = 0;
  place* free = nullptr;
  for (std::uint32_t i = 0; i < count(); ++i) {
    if (places_[i].who.load(std::memory_order_relaxed) != 0)
      ++taken;
    else if (free == nullptr)
      free = &places_[i];
  }
  if (free == nullptr || taken >= expected_.load(std::memory_order_relaxed))
    throw refused(std::errc::no_buffer_space, "covey: all places of the barrier are taken by other threads");
  free->arrived.store(phase(), std::memory_order_relaxed);  // not yet in this one
  free->pid = ::getpid();
  std::memcpy(free->process, family.book->processes[family.slot].name, sizeof free->process);
  free->who.store(me, std::memory_order_release);
  ++locks_owned;  // when this thread ends, the others are told
  return *free;
}

bool barrier_state::all_arrived() noexcept {
  std::uint32_t arrived = 0;
  for (std::uint32_t i = 0; i < count(); ++i)
    if (places_[i].who.load(std::memory_order_relaxed) != 0 &&
        places_[i].arrived.load(std::memory_order_relaxed) == phase() + 1)
      ++arrived;
  return arrived >= expected_.load(std::memory_order_relaxed);
}

void barrier_state::end_phase() noexcept {
  turn_.fetch_add(one_phase, std::memory_order_acq_rel);  // pairs with the load in wait()
  unpark(turn_, INT_MAX);
}

void barrier_state::enlist() {
  const locked held(lock_);
  check();
  (void)own_place();
}

std::uint32_t barrier_state::arrive(const std::function<void()>& completion) {
  std::uint32_t now = 0;
  place* mine = nullptr;
  {
    const locked held(lock_);
    check();
    now = phase();
    mine = &own_place();
    if (mine->arrived.load(std::memory_order_relaxed) == now + 1)
      throw refused(std::errc::operation_not_permitted, "covey: a party arrives twice in one phase of a barrier");
    mine->arrived.store(now + 1, std::memory_order_release);
    if (!all_arrived()) return now;
    if (!completion) {
      end_phase();
      return now;
    }
  }
  // All have arrived, so nobody changes anything until this thread ends the phase, or dies and so breaks the barrier.
  try {
    completion();
  } catch (...) {
    const locked held(lock_);
    break_by(*mine, threw);
    throw;
  }
  const locked held(lock_);
  check();
  end_phase();
  return now;
}

// The place is cleared last: whoever dies before has broken the barrier, rather than left it waiting.
void barrier_state::drop() {
  const locked held(lock_);
  check();
  place& mine = own_place();
  if (mine.arrived.load(std::memory_order_relaxed) == phase() + 1)
    throw refused(std::errc::operation_not_permitted, "covey: a party arrives twice in one phase of a barrier");
  const std::uint32_t left = expected_.load(std::memory_order_relaxed) - 1;
  expected_.store(left, std::memory_order_relaxed);
  if (all_arrived()) end_phase();
  mine.who.store(0, std::memory_order_release);
  if (locks_owned != 0) --locks_owned;
}

bool barrier_state::wait(std::uint32_t phase_waited_for, const deadline& until, const stop_word* stop) {
  const auto ended = [&] { return phase() != phase_waited_for; };
  if (look_before_sleep(ended, until)) return true;
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    const std::uint32_t seen = turn_.load(std::memory_order_acquire);
    if (ended()) return true;
    if ((seen & broken) != 0 || find_dead() != nullptr) {
      const locked held(lock_);
      if (ended()) return true;  // the dead may have been the one who ended it
      check();
    }
    if (park(turn_, seen, deaths, until, stop) != wake_reason::woken) return ended();
  }
}

}  // namespace detail

namespace {

std::uint32_t checked(std::ptrdiff_t parties) {
  if (parties < 1 || parties > barrier::max())
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            "covey: a barrier has 1 to " + std::to_string(barrier::max()) + " parties");
  return static_cast<std::uint32_t>(parties);
}

}  // namespace

broken_barrier::broken_barrier(std::string process, pid_t pid, const std::string& how)
    : std::runtime_error("covey: the barrier is broken: its party " + process + " (pid " + std::to_string(pid) + ") " +
                         how),
      process_(std::move(process)),
      pid_(pid) {}

barrier::barrier(std::ptrdiff_t parties) : state_(std::in_place, checked(parties)) {}

bool barrier::wait_by(const arrival_token& token, const detail::deadline& until, std::stop_token stop) const {
  const detail::stop_word stopped(std::move(stop));
  return state_->wait(token.phase_, until, &stopped);
}

}  // namespace covey
