#include <covey/sync/named_mutex.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <covey/base/check.hpp>
#include <covey/memory/named_segment.hpp>
#include <covey/memory/park.hpp>
#include <system_error>

namespace covey {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto look_for_stop = 20ms;
constexpr auto look_for_set = 50ms;

timespec as_timespec(std::chrono::nanoseconds t) {
  const auto ns = std::max<std::int64_t>(0, t.count());
  return {.tv_sec = static_cast<time_t>(ns / 1'000'000'000), .tv_nsec = static_cast<long>(ns % 1'000'000'000)};
}

void expect_success(int code, const char* what) {
  if (code != 0) throw std::system_error(code, std::generic_category(), what);
}

struct attributes {
  attributes() { expect_success(::pthread_mutexattr_init(&value), "pthread_mutexattr_init"); }
  ~attributes() { ::pthread_mutexattr_destroy(&value); }
  attributes(const attributes&) = delete;
  attributes& operator=(const attributes&) = delete;
  pthread_mutexattr_t value;
};

}  // namespace

// ---- named_mutex ----------------------------------------------------------------------------------------------------

named_mutex::named_mutex() {
  attributes a;
  expect_success(::pthread_mutexattr_setpshared(&a.value, PTHREAD_PROCESS_SHARED), "named_mutex");
  expect_success(::pthread_mutexattr_setrobust(&a.value, PTHREAD_MUTEX_ROBUST), "named_mutex");
  expect_success(::pthread_mutexattr_settype(&a.value, PTHREAD_MUTEX_ERRORCHECK), "named_mutex");
  expect_success(::pthread_mutex_init(&mutex_, &a.value), "named_mutex");
}

template <class Lock>
named_mutex::outcome named_mutex::take(const Lock& lock) {
  auto& in_use = detail::named_locks_around(this);
  in_use.fetch_add(1, std::memory_order_relaxed);
  const int code = lock();
  if (code == EOWNERDEAD) {
    // The flag first: dead between these two, the next one learns of a death again.
    unrepaired_.store(1, std::memory_order_relaxed);
    COVEY_CHECK(::pthread_mutex_consistent(&mutex_) == 0, "a mutex taken from the dead can be made consistent");
  }
  if (code == 0 || code == EOWNERDEAD)
    return unrepaired_.load(std::memory_order_relaxed) != 0 ? outcome::unrepaired : outcome::locked;
  in_use.fetch_sub(1, std::memory_order_release);  // pairs with whoever unmaps the segment
  if (code == EBUSY || code == ETIMEDOUT) return outcome::busy;
  throw std::system_error(code, std::generic_category(), "covey: named_mutex");
}

void named_mutex::give() noexcept {
  COVEY_CHECK(::pthread_mutex_unlock(&mutex_) == 0, "only its owner unlocks a named_mutex");
  // Still mapped: the handle by which the caller reached this is not gone yet.
  detail::named_locks_around(this).fetch_sub(1, std::memory_order_release);
}

bool named_mutex::own_or_throw(outcome o) {
  if (o != outcome::unrepaired) return o == outcome::locked;
  give();  // the kernel wakes one sleeper; this wakes the next, so that all learn of it
  throw owner_died();
}

void named_mutex::lock() {
  own_or_throw(take([&] { return ::pthread_mutex_lock(&mutex_); }));
}

bool named_mutex::try_lock() {
  return own_or_throw(take([&] { return ::pthread_mutex_trylock(&mutex_); }));
}

// Slice by slice, when a stop may come.
named_mutex::outcome named_mutex::take_by(const detail::deadline& until, const std::stop_token& stop) {
  const auto end = until.value_or(steady_clock::time_point::max());
  for (;;) {
    const bool stopped = stop.stop_requested();  // takes a free one all the same
    const auto now = steady_clock::now();
    const auto slice = stopped ? now : stop.stop_possible() ? std::min(end, now + look_for_stop) : end;
    const timespec at = as_timespec(slice.time_since_epoch());
    const outcome o = take([&] { return ::pthread_mutex_clocklock(&mutex_, CLOCK_MONOTONIC, &at); });
    if (o != outcome::busy || stopped || steady_clock::now() >= end) return o;
  }
}

bool named_mutex::lock_by(const detail::deadline& until, std::stop_token stop) {
  return own_or_throw(take_by(until, stop));
}

void named_mutex::unlock() noexcept { give(); }

recovery named_mutex::recover_from(outcome o, const std::function<void()>& repair) {
  if (o == outcome::busy) return recovery::not_in_time;
  if (o == outcome::locked) {
    give();
    return recovery::was_whole;
  }
  try {
    repair();
  } catch (...) {
    give();
    throw;
  }
  unrepaired_.store(0, std::memory_order_relaxed);
  give();
  return recovery::repaired;
}

bool named_mutex::recover(const std::function<void()>& repair) {
  return recover_from(take([&] { return ::pthread_mutex_lock(&mutex_); }), repair) == recovery::repaired;
}

recovery named_mutex::recover_by(const detail::deadline& until, std::stop_token stop,
                                 const std::function<void()>& repair) {
  return recover_from(take_by(until, stop), repair);
}

bool named_mutex::needs_recovery_approx() noexcept {
  if (unrepaired_.load(std::memory_order_relaxed) != 0) return true;
  try {
    // The death may be known to the kernel only.
    const outcome o = take([&] { return ::pthread_mutex_trylock(&mutex_); });
    if (o != outcome::busy) give();
    return o == outcome::unrepaired;
  } catch (const std::system_error&) {
    return false;  // this thread owns it
  }
}

// ---- named_event ----------------------------------------------------------------------------------------------------

void named_event::set() noexcept {
  flag_.store(1, std::memory_order_release);  // pairs with is_set
  detail::unpark(flag_, INT_MAX);
}

bool named_event::wait_by(const detail::deadline& until, std::stop_token stop) const {
  const auto end = until.value_or(steady_clock::time_point::max());
  for (;;) {
    if (is_set()) return true;
    if (stop.stop_requested()) return false;
    const auto now = steady_clock::now();
    if (now >= end) return false;
    const timespec most = as_timespec(std::min<std::chrono::nanoseconds>(end - now, look_for_set));
    ::syscall(SYS_futex, &flag_, FUTEX_WAIT, 0, &most, nullptr, 0);
  }
}

}  // namespace covey
