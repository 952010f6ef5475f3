// Each step is one compare-and-swap: of a place, which makes a party of a thread, or of the word, which counts arrivals
// and ends phases. A place's `who` goes through
//
//     0 ──taken──▶ name | enlisting ──described──▶ name ──dropped──▶ gone
//
// and is another's to take while it is 0, or names a dead one that was still enlisting. Once it is a name it never is
// another's: the dead are found there for ever.
#include <covey/sync/barrier.hpp>

#include <unistd.h>

#include <climits>
#include <covey/sync/gate.hpp>
#include <cstring>
#include <system_error>

namespace covey {
namespace detail {
namespace {

constexpr participant enlisting = name_unrepaired;
constexpr participant gone = name_waiters;

bool is_party(participant who) { return who != 0 && (who & name_flags) == 0; }

std::system_error refused(std::errc code, const char* text) { return {std::make_error_code(code), text}; }

}  // namespace

barrier_state::barrier_state(std::uint32_t parties) noexcept
    : word_(std::bit_cast<std::uint64_t>(moment{.expected = parties & 1023})), parties_(parties) {}

// The half of the word that holds `turn`: little-endian, so the first.
const std::atomic<std::uint32_t>& barrier_state::futex() const noexcept {
  const void* const half = &word_;
  return *static_cast<const std::atomic<std::uint32_t>*>(half);
}

// Whether the word was `from`, and is `to`; else `from` is what it is now. Wakes who waits for the turn.
bool barrier_state::change(moment& from, const moment& to) noexcept {
  auto seen = std::bit_cast<std::uint64_t>(from);
  if (!word_.compare_exchange_strong(seen, std::bit_cast<std::uint64_t>(to), std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
    from = std::bit_cast<moment>(seen);
    return false;
  }
  if (from.turn != to.turn) unpark(futex(), INT_MAX);
  return true;
}

// ---- places --------------------------------------------------------------------------------------------------------

barrier_state::place* barrier_state::place_of(participant who) noexcept {
  for (std::uint32_t i = 0; i < count(); ++i)
    if (places_[i].who.load(std::memory_order_acquire) == who) return &places_[i];
  return nullptr;
}

barrier_state::place* barrier_state::find_dead() noexcept {
  for (std::uint32_t i = 0; i < count(); ++i)
    if (const participant who = places_[i].who.load(std::memory_order_acquire); is_party(who) && !alive(who))
      return &places_[i];
  return nullptr;
}

// Whether this thread has it now.
bool barrier_state::take(place& free, participant me) noexcept {
  participant seen = free.who.load(std::memory_order_relaxed);
  do {
    if (seen != 0 && ((seen & enlisting) == 0 || alive(seen))) return false;
  } while (!free.who.compare_exchange_weak(seen, me | enlisting, std::memory_order_relaxed));
  free.arrived.store(now().phase(), std::memory_order_relaxed);  // not yet in this one
  free.pid = ::getpid();
  std::memcpy(free.process, family.book->processes[family.slot].name, sizeof free.process);
  free.who.store(me, std::memory_order_release);
  ++locks_owned;  // when this thread ends, the others are told
  return true;
}

// The place of this thread, which enlists if it has none.
barrier_state::place& barrier_state::own_place() {
  const participant me = this_name();
  (void)whole();
  if (place* const mine = place_of(me); mine != nullptr) return *mine;
  for (std::uint32_t i = 0; i < count(); ++i)
    if (take(places_[i], me)) return places_[i];
  throw refused(std::errc::no_buffer_space, "covey: all places of the barrier are taken by other threads");
}

void barrier_state::enlist() { (void)own_place(); }

// ---- broken --------------------------------------------------------------------------------------------------------

// What the word says. Throws when the barrier is broken, or turns out to be.
barrier_state::moment barrier_state::whole() {
  for (;;) {
    const moment seen = now();
    if (seen.broken()) throw_broken(seen);
    const place* const dead = find_dead();
    if (dead == nullptr) return seen;
    break_at(seen, *dead, false);
  }
}

// Unless the word is no longer `from`.
void barrier_state::break_at(moment from, const place& by, bool threw) {
  family_check();  // a child forked past covey is no party
  moment to = from;
  to.turn |= 1;
  to.broken_by = static_cast<std::uint32_t>(&by - places_.data()) & 1023;
  to.threw = threw ? 1 : 0;
  (void)change(from, to);
}

void barrier_state::throw_broken(const moment& broken) const {
  const place& by = places_[broken.broken_by < parties_max ? broken.broken_by : 0];
  char name[sizeof by.process + 1] = {};
  std::memcpy(name, by.process, sizeof by.process);
  throw broken_barrier(name, by.pid, broken.threw != 0 ? "threw where it ended a phase" : "died");
}

// ---- phases --------------------------------------------------------------------------------------------------------

// This thread arrives for `arriving`, or leaves; returns the phase that it was. Who comes last ends that.
std::uint32_t barrier_state::come(place& mine, std::uint32_t arriving, std::uint32_t leaving,
                                  const std::function<void()>& completion) {
  for (;;) {
    moment seen = whole();
    if (mine.arrived.load(std::memory_order_relaxed) == seen.phase() + 1)
      throw refused(std::errc::operation_not_permitted, "covey: a party arrives twice in one phase of a barrier");
    if (seen.arrived + arriving + leaving > seen.expected)
      throw refused(std::errc::invalid_argument, "covey: more arrive at a barrier than it has parties");
    moment next = seen;
    next.arrived = (seen.arrived + arriving) & 1023;
    next.expected = (seen.expected - leaving) & 1023;
    const bool last = next.arrived == next.expected;
    if (last && !completion) {
      next.turn += 2;
      next.arrived = 0;
    }
    if (!change(seen, next)) continue;
    if (leaving == 0) mine.arrived.store(seen.phase() + 1, std::memory_order_relaxed);
    if (last && completion) complete(mine, completion);
    return seen.phase();
  }
}

// All have arrived, so nobody changes the word until this thread ends the phase, or dies and so breaks the barrier.
void barrier_state::complete(const place& mine, const std::function<void()>& completion) {
  try {
    completion();
  } catch (...) {
    break_at(now(), mine, true);
    throw;
  }
  for (;;) {
    moment seen = whole();
    moment next = seen;
    next.turn += 2;
    next.arrived = 0;
    if (change(seen, next)) return;
  }
}

std::uint32_t barrier_state::arrive(std::ptrdiff_t arriving, const std::function<void()>& completion) {
  if (arriving < 1 || arriving > std::ptrdiff_t{parties_max})
    throw refused(std::errc::invalid_argument, "covey: at a barrier arrive 1 to as many as it has parties");
  return come(own_place(), static_cast<std::uint32_t>(arriving), 0, completion);
}

// The place is given up last: whoever dies before has broken the barrier, rather than left it waiting.
void barrier_state::drop(const std::function<void()>& completion) {
  place& mine = own_place();
  (void)come(mine, 0, 1, completion);
  mine.who.store(gone, std::memory_order_release);
  if (locks_owned != 0) --locks_owned;
}

bool barrier_state::wait(std::uint32_t phase, const deadline& until, const stop_word* stop) {
  const auto ended = [&] { return now().phase() != phase; };
  if (look_before_sleep(ended, until)) return true;
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    const moment seen = now();
    if (seen.phase() != phase) return true;
    if (seen.broken()) throw_broken(seen);
    if (const place* const dead = find_dead(); dead != nullptr) {
      break_at(seen, *dead, false);  // unless it was the one who ended the phase
      continue;
    }
    if (park(futex(), seen.turn, deaths, until, stop) != wake_reason::woken) return ended();
  }
}

bool barrier_state::wait(std::uint32_t phase, const deadline& until, std::stop_token stop) {
  const stop_word stopped(std::move(stop));
  return wait(phase, until, &stopped);
}

std::uint32_t barrier_parties(std::ptrdiff_t parties) {
  if (parties < 1 || parties > barrier::max())
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            "covey: a barrier has 1 to " + std::to_string(barrier::max()) + " parties");
  return static_cast<std::uint32_t>(parties);
}

}  // namespace detail

broken_barrier::broken_barrier(std::string process, pid_t pid, const std::string& how)
    : std::runtime_error("covey: the barrier is broken: its party " + process + " (pid " + std::to_string(pid) + ") " +
                         how),
      process_(std::move(process)),
      pid_(pid) {}

}  // namespace covey
