/// @file
/// barrier: parties that wait for each other, phase after phase.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <covey/memory/lock_word.hpp>
#include <covey/sync/handle.hpp>
#include <functional>
#include <stdexcept>
#include <stop_token>
#include <string>

namespace covey {

/// A party of a barrier died, or the function that ended a phase threw: this phase never ends.
class broken_barrier : public std::runtime_error {
 public:
  /// The party by the name and id of its process.
  broken_barrier(std::string process, pid_t pid, const std::string& how);

  /// The name of its process.
  [[nodiscard]] const std::string& process_name() const noexcept { return process_; }

  /// The id of its process.
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  std::string process_;
  pid_t pid_;
};

namespace detail {

/// The places of the parties and the phase. Lives in shared memory. docs/design/sync.md draws its states.
///
/// Safety: process-safe.
/// Death:  each step is one store; whoever comes next believes the places and the phase, nothing else.
class barrier_state {
 public:
  static constexpr std::uint32_t parties_max = 500;

  explicit barrier_state(std::uint32_t parties) noexcept : parties_(parties), expected_(parties) {}

  void enlist();
  std::uint32_t arrive(const std::function<void()>& completion);  // the phase that is waited for
  void drop();
  bool wait(std::uint32_t phase, const deadline& until, const stop_word* stop);

 private:
  friend struct looker;
  struct place {
    std::atomic<participant> who;          // 0: free. Stored last, cleared first
    std::atomic<std::uint32_t> arrived;    // phase + 1 in which it arrived last
    pid_t pid;
    char process[32];
  };
  class locked;

  // turn_ is phase << 1 | broken.
  [[nodiscard]] std::uint32_t phase() const noexcept { return turn_.load(std::memory_order_acquire) >> 1; }
  [[nodiscard]] std::uint32_t count() const noexcept { return parties_ < parties_max ? parties_ : parties_max; }
  place* place_of(participant who) noexcept;
  place& own_place();
  place* find_dead() noexcept;
  void check();
  bool all_arrived() noexcept;
  void end_phase() noexcept;
  void break_by(const place& who, std::uint32_t why) noexcept;
  [[noreturn]] void throw_broken() const;

  lock_word lock_;
  std::uint32_t parties_;                   // constant
  std::atomic<std::uint32_t> expected_;     // those who did not drop
  std::atomic<std::uint32_t> turn_{0};      // futex
  std::uint32_t why_ = 0;                   // these three: constant once turn_ says broken
  pid_t broken_pid_ = 0;
  char broken_process_[32] = {};
  std::array<place, parties_max> places_{};
};

}  // namespace detail

/// Parties that wait for each other, phase after phase; std::barrier's names and contract, but a party is a thread that
/// enlisted, so that its death is known: it breaks the barrier, rather than letting the others wait for ever.
///
/// So a thread arrives for itself alone, once in a phase (std's arrive(n) is not there), and the function that ends a
/// phase is given by each who arrives, not once: whoever happens to come last runs its own, by arrive_and_wait() only.
///
/// A thread enlists by itself when it arrives first. One that has done its part leaves by arrive_and_drop(): ending
/// without is a death.
///
/// Handle:  a copy is the same barrier; give it to any task, process or message.
/// Safety:  process-safe.
/// Death:   of an enlisted party, at any instruction: whoever waits or arrives gets broken_barrier, which names it. A
///          barrier stays broken; make another one. A thread that died before it enlisted is not known: then the
///          barrier waits for whoever takes its place.
/// Limits:  at most max() parties.
/// Order:   what the parties did before they arrived is visible to all after the phase.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: examples/barrier.cpp
class barrier {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// The phase in which somebody arrived, for wait().
  class arrival_token {
   private:
    friend class barrier;
    explicit arrival_token(std::uint32_t phase) noexcept : phase_(phase) {}
    std::uint32_t phase_;
  };

  /// The most parties.
  static constexpr std::ptrdiff_t max() noexcept { return detail::barrier_state::parties_max; }

  /// Makes one for `parties`. Throws std::system_error if there are none or more than max(), or no shared memory can be
  /// had.
  explicit barrier(std::ptrdiff_t parties);

  /// Takes a place for this thread, if it has none. Throws std::system_error (no_buffer_space) when all are taken, and
  /// broken_barrier.
  void enlist() { state_->enlist(); }

  /// Arrives, and does not wait. Throws as enlist(), and std::system_error (operation_not_permitted) when this thread
  /// has arrived in this phase already.
  [[nodiscard]] arrival_token arrive() { return arrival_token(state_->arrive({})); }

  /// Blocks until the phase has ended in which `token` was got. Throws broken_barrier.
  void wait(const arrival_token& token) const { (void)state_->wait(token.phase_, std::nullopt, nullptr); }

  /// As wait(), but returns false when `stop` was requested first: then the arrival stands, and may be waited for
  /// again.
  [[nodiscard]] bool wait(const arrival_token& token, std::stop_token stop) const {
    return wait_by(token, std::nullopt, std::move(stop));
  }

  /// As wait(token, stop); returns false also when `timeout` passed first.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const arrival_token& token, const std::chrono::duration<Rep, Period>& timeout,
                              std::stop_token stop = {}) const {
    return wait_by(token, detail::deadline_in(timeout), std::move(stop));
  }

  /// As wait_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const arrival_token& token, const std::chrono::time_point<Clock, Duration>& until,
                                std::stop_token stop = {}) const {
    return wait_by(token, detail::steady(until), std::move(stop));
  }

  /// Arrives and waits. Whoever comes last runs its own `completion` before the others go on; what that throws breaks
  /// the barrier for the others.
  void arrive_and_wait(const std::function<void()>& completion = {}) {
    wait(arrival_token(state_->arrive(completion)));
  }

  /// Arrives for the last time: the following phases expect one party less.
  void arrive_and_drop() { state_->drop(); }

  /// Whether both name the same barrier.
  bool operator==(const barrier& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static barrier decode_handle(detail::decoder& in) { return barrier(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::barrier_state, detail::region_kind::barrier>;
  explicit barrier(handle h) : state_(std::move(h)) {}
  bool wait_by(const arrival_token& token, const detail::deadline& until, std::stop_token stop) const;

  handle state_;
};

}  // namespace covey
