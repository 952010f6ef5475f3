/// @file
/// How to sleep: on a shared word, on the deaths of the family, on a deadline and on a stop_token, together; or, for
/// the first moments, on the word alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <covey/memory/deadline.hpp>
#include <covey/memory/family.hpp>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <utility>

namespace covey::detail {

/// How a sleep ended; `woken` means only: look again.
enum class wake_reason { woken, timed_out, stopped };

/// A stop_token turned into a word that a sleeper can sleep on. Cheap when the token can never stop.
class stop_word {
 public:
  explicit stop_word(std::stop_token token);
  stop_word(const stop_word&) = delete;
  stop_word& operator=(const stop_word&) = delete;

  [[nodiscard]] bool stopped() const noexcept { return word_.load(std::memory_order_acquire) != 0; }
  [[nodiscard]] const std::atomic<std::uint32_t>* word() const noexcept { return callback_ ? &word_ : nullptr; }

 private:
  struct set_and_wake {
    stop_word* self;
    void operator()() const noexcept;
  };
  std::atomic<std::uint32_t> word_{0};
  std::optional<std::stop_callback<set_and_wake>> callback_;
};

/// How many deaths the family had. Read it before looking at the state that decides whether to sleep.
inline std::uint32_t deaths_seen() noexcept { return family.book->deaths.load(std::memory_order_seq_cst); }

/// How many keepers there have been. A new one raises the deaths.
inline std::uint32_t keepers_seen() noexcept { return family.book->keepers.load(std::memory_order_acquire); }

/// Every sleeper looks again after so long. A wake that the dead owed comes from `deaths`; one that is owed by a
/// process that was stopped between its change and the wake comes from nobody else, perhaps for ever. Costs about 10 µs
/// of processor time each time. A variable for tests that must see a wake that is missing: nobody changes it while
/// another thread runs, and processes forked from then on have it too.
inline constinit std::chrono::seconds look_again_after{1};

/// Sleeps while `word` is `expected` and the family's deaths are `deaths`, until `until`, or until `stop`.
/// May return `woken` for no reason. inspect() shows that this thread sleeps there, if it has a name or can get one.
wake_reason park(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t deaths,
                 const deadline& until, const stop_word* stop = nullptr) noexcept;

/// How a wait sleeps: with an ear for deaths from the start, or with a nap before.
enum class sleeping { exact, nap_first };

/// A nap's length.
inline constexpr std::chrono::milliseconds nap_time{10};

/// For tests that need each sleep to be of one kind.
inline constinit bool naps = true;

/// As park(), but on `word` alone, and for `nap_time` at most: deaths are heard of only then. The way to sleep and back
/// takes the kernel a fifth less (performance.md), which counts where answers come within that time. Where a stop may
/// be requested, it is park().
wake_reason nap(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t deaths,
                const deadline& until, const stop_word* stop = nullptr) noexcept;

/// The sleeps of one wait. Who knows whom he waits for sleeps `exact`.
class rest {
 public:
  explicit rest(sleeping how) noexcept : nap_(how == sleeping::nap_first) {}

  wake_reason operator()(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t deaths,
                         const deadline& until, const stop_word* stop) noexcept {
    return std::exchange(nap_, false) ? nap(word, expected, deaths, until, stop)
                                      : park(word, expected, deaths, until, stop);
  }

 private:
  bool nap_;
};

/// Wakes up to `count` sleepers of `word`, in any process.
void unpark(const std::atomic<std::uint32_t>& word, int count) noexcept;

/// Whether another processor could change what this one waits for.
bool can_spin() noexcept;

/// Lets another thread run on this processor, if one wants to.
void yield_cpu() noexcept;

/// Time that costs nothing to read, in half nanoseconds or so.
inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return 2 * static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// Who waits for another that needs this processor gives it a turn, which is a quarter of what a sleep and a wake cost.
/// But a stranger with much to do keeps it for milliseconds, and who is awake is not put before him, as who is woken
/// is. So when turns were long lately a thread gives none, for a number of waits that doubles each time.
class turns {
 public:
  static constexpr std::uint64_t long_one = 200'000;  // ticks: 100 µs

  /// False: none was given.
  bool give() noexcept {
    if (left_out_ != 0) return --left_out_, false;
    const std::uint64_t before = ticks();
    yield_cpu();
    if (ticks() - before < long_one)
      penalty_ /= 2;
    else
      left_out_ = penalty_ = std::min(2 * penalty_ + 64, 65536U);
    return true;
  }

  /// One, if this thread has woken somebody since the last time: that may be who answers.
  bool give_to_woken() noexcept { return std::exchange(woke_, false) && give(); }
  void woke() noexcept { woke_ = true; }
  [[nodiscard]] bool has_woken() const noexcept { return woke_; }

 private:
  bool woke_ = false;
  unsigned left_out_ = 0, penalty_ = 0;
};

/// This thread's.
inline constinit thread_local turns own_turns;

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Runs `done` until it returns true, for about as long as a sleep and a wake would cost; not at all on one processor.
template <class Done>
bool spin_until(const Done& done, int rounds = 100) {
  if (!can_spin()) return done();
  for (int i = 0; i < rounds; ++i) {
    if (done()) return true;
    pause_cpu();
  }
  return false;
}

}  // namespace covey::detail
