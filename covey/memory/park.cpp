#include <covey/memory/park.hpp>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace covey::detail {
namespace {

futex_waitv entry(const std::atomic<std::uint32_t>& word, std::uint32_t expected, bool shared) {
  futex_waitv w{};
  w.val = expected;
  w.uaddr = reinterpret_cast<std::uintptr_t>(&word);
  w.flags = FUTEX_32 | (shared ? 0U : static_cast<unsigned>(FUTEX_PRIVATE_FLAG));
  return w;
}

// Without the way through glibc, each step of which is cold after a rest (0.1 µs of the 4 of a wake).
long futex(const std::atomic<std::uint32_t>& word, int what, std::uint32_t value, const timespec* time) noexcept {
#if defined(__x86_64__)
  long r = SYS_futex;
  register const timespec* fourth asm("r10") = time;
  asm volatile("syscall" : "+a"(r) : "D"(&word), "S"(what), "d"(value), "r"(fourth) : "rcx", "r11", "memory");
  return r;
#else
  const long r = ::syscall(SYS_futex, &word, what, value, time, nullptr, 0);
  return r < 0 ? -errno : r;
#endif
}

// While it lives, inspect() sees on which word of shared memory this thread sleeps.
class shown_sleep {
 public:
  explicit shown_sleep(const std::atomic<std::uint32_t>& word) noexcept {
    const std::uint64_t offset =
        reinterpret_cast<std::uintptr_t>(&word) - reinterpret_cast<std::uintptr_t>(family.arena);
    if (offset >= family.arena_bytes || !enlist_to_be_seen()) return;
    process_cells& own = cells_of(family.slot);
    const std::uint32_t cell = cell_of(thread_name);
    std::uint32_t used = own.sleeps_used.load(std::memory_order_relaxed);
    while (used <= cell && !own.sleeps_used.compare_exchange_weak(used, cell + 1, std::memory_order_relaxed)) {
    }
    note_ = &own.sleeps[cell];
    note_->store(sleep_note(family.generation, offset), std::memory_order_relaxed);
  }
  shown_sleep(const shown_sleep&) = delete;
  shown_sleep& operator=(const shown_sleep&) = delete;
  ~shown_sleep() {
    // Not in a child that was forked meanwhile, by a signal's handler: the cell is its parent's.
    if (note_ != nullptr && family.takes_part) note_->store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t>* note_ = nullptr;
};

}  // namespace

stop_word::stop_word(std::stop_token token) {
  if (token.stop_possible()) callback_.emplace(std::move(token), set_and_wake{this});
}

void stop_word::set_and_wake::operator()() const noexcept {
  self->word_.store(1, std::memory_order_release);  // pairs with stopped()
  futex(self->word_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr);
}

wake_reason park(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t deaths,
                 const deadline& until, const stop_word* stop) noexcept {
  futex_waitv waits[3] = {entry(word, expected, true), entry(family.book->deaths, deaths, true), {}};
  unsigned count = 2;
  if (stop != nullptr && stop->word() != nullptr) waits[count++] = entry(*stop->word(), 0, false);
  const auto look_again = std::chrono::steady_clock::now() + look_again_after;
  const bool to_the_end = until && *until <= look_again;
  // The kernel refuses what was before it started, which would look like a wake.
  const auto ns = std::max<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::nanoseconds>((to_the_end ? *until : look_again).time_since_epoch())
             .count());
  const timespec at{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  const shown_sleep shown(word);
  const long r = ::syscall(SYS_futex_waitv, waits, count, 0, &at, CLOCK_MONOTONIC);
  if (stop != nullptr && stop->stopped()) return wake_reason::stopped;
  if (r < 0 && errno == ETIMEDOUT && to_the_end) return wake_reason::timed_out;
  return wake_reason::woken;
}

wake_reason nap(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t deaths,
                const deadline& until, const stop_word* stop) noexcept {
  if (!naps || (stop != nullptr && stop->word() != nullptr)) return park(word, expected, deaths, until, stop);
  if (deaths_seen() != deaths) return wake_reason::woken;
  std::chrono::nanoseconds length = nap_time;
  bool to_the_end = false;
  if (until) {
    const auto now = std::chrono::steady_clock::now();
    to_the_end = *until <= now + nap_time;
    if (to_the_end) length = *until <= now ? std::chrono::nanoseconds(0) : *until - now;
  }
  const timespec time{0, static_cast<long>(length.count())};
  static_assert(nap_time < std::chrono::seconds(1));
  const long r = futex(word, FUTEX_WAIT, expected, &time);
  return r == -ETIMEDOUT && to_the_end ? wake_reason::timed_out : wake_reason::woken;
}

void unpark(const std::atomic<std::uint32_t>& word, int count) noexcept {
  if (futex(word, FUTEX_WAKE, static_cast<std::uint32_t>(count), nullptr) > 0) own_turns.woke();
}

void yield_cpu() noexcept {
#if defined(__x86_64__)
  long r = SYS_sched_yield;  // as futex() above
  asm volatile("syscall" : "+a"(r) : : "rcx", "r11", "memory");
#else
  ::sched_yield();
#endif
}

bool can_spin() noexcept {
  static const bool several = ::sysconf(_SC_NPROCESSORS_ONLN) > 1;
  return several;
}

}  // namespace covey::detail
