/// @file
/// gate: where those sleep who wait for what others will make true.
#pragma once

#include <climits>
#include <covey/memory/park.hpp>
#include <covey/memory/waitable.hpp>

namespace covey::detail {

/// How long a thread looks before it sleeps, in rounds of spin_until(). Looking that finds nothing is shortened,
/// because it takes a processor from those who could do what is waited for; every so often it is long again, because
/// who sleeps must be woken, which takes longer than what two who are awake need to answer each other.
class patience {
 public:
  template <class Done>
  bool look(const Done& done) {
    const bool try_long = ++waits_ % 256 == 0;
    if (spin_until(done, try_long ? long_look : rounds_)) {
      rounds_ = long_look;
      return true;
    }
    rounds_ = rounds_ * 3 / 4;
    return false;
  }

 private:
  static constexpr int long_look = 400;  // about 6 µs: more than a sleep and a wake
  int rounds_ = long_look;
  unsigned waits_ = 0;
};

/// This thread's.
inline constinit thread_local patience own_patience;

/// Whether `done` becomes true while this thread looks, or, if it may wait, while whom it has just woken runs here.
template <class Done>
bool look_before_sleep(const Done& done, const deadline& until) {
  if (own_patience.look(done)) return true;
  return (!until || *until > std::chrono::steady_clock::now()) && own_turns.give_to_woken() && done();
}

/// Lives in shared memory beside the state that decides; all zero is nobody waiting. Whoever changes that state (by a
/// sequentially consistent operation) calls wake(); who waits looks at the state after it has said that it will sleep.
/// One of the two sees the other.
///
/// Safety: process-safe.
/// Death:  a sleeper that dies is counted for ever, which costs system calls and nothing else. Who dies between the
///         change and wake() leaves the wake to `deaths`.
class gate {
 public:
  /// Blocks until `done()`; looks again after every wake and every death (one during a nap: at its end). When `until`
  /// or `stop` come first, the last look decides.
  template <class Done>
  bool wait(const Done& done, const deadline& until, const stop_word* stop, sleeping how = sleeping::exact) {
    if (look_before_sleep(done, until)) return true;
    const sleeper counted(sleepers_);
    for (rest sleep(how);;) {
      const std::uint32_t deaths = deaths_seen();
      const std::uint32_t seen = changes_.load(std::memory_order_seq_cst);
      if (done()) return true;
      if (sleep(changes_, seen, deaths, until, stop) != wake_reason::woken) return done();
    }
  }

  /// Lets up to `count` sleepers look again.
  void wake(int count = INT_MAX) noexcept {
    pollers_.wake();
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    changes_.fetch_add(1, std::memory_order_seq_cst);
    unpark(changes_, count);
  }

  /// For who waits for this among other things.
  wait_word arm() noexcept { return pollers_.arm(); }

  /// How many sleep, and how many ever died so.
  [[nodiscard]] std::uint32_t sleepers_approx() const noexcept { return sleepers_.load(std::memory_order_relaxed); }

 private:
  class sleeper {
   public:
    explicit sleeper(std::atomic<std::uint32_t>& count) noexcept : count_(count) {
      count_.fetch_add(1, std::memory_order_seq_cst);
    }
    sleeper(const sleeper&) = delete;
    sleeper& operator=(const sleeper&) = delete;
    ~sleeper() { count_.fetch_sub(1, std::memory_order_relaxed); }

   private:
    std::atomic<std::uint32_t>& count_;
  };

  std::atomic<std::uint32_t> changes_{0};
  std::atomic<std::uint32_t> sleepers_{0};
  poll_word pollers_;
};

}  // namespace covey::detail
