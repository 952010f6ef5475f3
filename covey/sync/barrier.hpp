/// @file
/// barrier: parties that wait for each other, phase after phase.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <covey/base/codec.hpp>
#include <covey/memory/park.hpp>
#include <covey/sync/arrive_forms.hpp>
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

/// The places of the parties, and the phase in one word. Lives in shared memory. docs/design/sync.md draws its states.
///
/// Safety: process-safe. Nothing is locked: a party that is stopped delays only those who wait for it to arrive.
/// Death:  each step is one compare-and-swap; whoever comes next believes the word and the places.
class barrier_state {
 public:
  static constexpr std::uint32_t parties_max = 500;

  explicit barrier_state(std::uint32_t parties) noexcept;

  void enlist();
  std::uint32_t arrive(std::ptrdiff_t count, const std::function<void()>& completion);  // the phase to wait for
  void drop(const std::function<void()>& completion);
  bool wait(std::uint32_t phase, const deadline& until, const stop_word* stop);
  bool wait(std::uint32_t phase, const deadline& until, std::stop_token stop);

 private:
  friend struct looker;
  struct place {
    std::atomic<participant> who;        // as barrier.cpp says; the others are constant once it names a party
    std::atomic<std::uint32_t> arrived;  // phase + 1 in which it arrived last; of its thread alone
    pid_t pid;
    char process[32];
  };

  // All that decides, changed by compare-and-swap.
  struct moment {
    std::uint32_t turn = 0;            // phase << 1 | broken: what sleepers sleep on
    std::uint32_t expected : 10 = 0;   // those who did not drop
    std::uint32_t arrived : 10 = 0;
    std::uint32_t broken_by : 10 = 0;  // once broken: which place
    std::uint32_t threw : 1 = 0;       // and whether it threw, or died
    std::uint32_t unused : 1 = 0;

    [[nodiscard]] std::uint32_t phase() const noexcept { return turn >> 1; }
    [[nodiscard]] bool broken() const noexcept { return (turn & 1) != 0; }
  };

  [[nodiscard]] moment now() const noexcept { return std::bit_cast<moment>(word_.load(std::memory_order_acquire)); }
  [[nodiscard]] const std::atomic<std::uint32_t>& futex() const noexcept;
  [[nodiscard]] std::uint32_t count() const noexcept { return parties_ < parties_max ? parties_ : parties_max; }
  bool change(moment& from, const moment& to) noexcept;
  place* place_of(participant who) noexcept;
  bool take(place& free, participant me) noexcept;
  place& own_place();
  place* find_dead() noexcept;
  moment whole();
  void break_at(moment from, const place& by, bool threw);
  [[noreturn]] void throw_broken(const moment& broken) const;
  std::uint32_t come(place& mine, std::uint32_t arriving, std::uint32_t leaving,
                     const std::function<void()>& completion);
  void complete(const place& mine, const std::function<void()>& completion);

  std::atomic<std::uint64_t> word_;  // a moment; change() releases what now() acquires
  std::uint32_t parties_;            // constant
  std::array<place, parties_max> places_{};
};

/// The number of parties, if it is one. Throws std::system_error.
std::uint32_t barrier_parties(std::ptrdiff_t parties);

/// A function object as its members: what travels of it, for its code is in each process.
template <class F>
inline constexpr bool goes_by_members = std::is_aggregate_v<F> && !std::is_empty_v<F> && !hooked<F>;

template <class F>
void encode_completion(encoder& out, const F& function) {
  if constexpr (goes_by_members<F>)
    boost::pfr::for_each_field(function, [&](const auto& member) { encode(out, member); });
  else
    encode(out, function);
}

template <class F>
F decode_completion(decoder& in) {
  if constexpr (goes_by_members<F>)
    return decode_fields<F>(in, std::make_index_sequence<boost::pfr::tuple_size_v<F>>{});
  else
    return decode<F>(in);
}

}  // namespace detail

/// Nothing is to be done at the end of a phase.
struct no_completion {};

/// Parties that wait for each other, phase after phase; std::barrier's names and contract, but a party is a thread that
/// enlisted, so that its death is known: it breaks the barrier, rather than letting the others wait for ever.
///
/// So a thread arrives once in a phase; by arrive(n) for itself and n - 1 parties for which no thread comes in this
/// phase. Unlike std's, arrivals beyond the parties are refused.
///
/// `Completion` is called once in each phase, by the thread that came last and before the others go on, as std's. It is
/// part of the handle, and called in any process: a lambda without captures, or an aggregate with operator() and
/// members that travel, such as a covey::shared_ptr. What it changes elsewhere it changes in that process only. (It may
/// throw: that breaks the barrier for the others.) Without one, arrive_and_wait() may be given a function, which is
/// called if its thread came last.
///
/// A thread enlists by itself when it arrives first. One that has done its part leaves by arrive_and_drop(): ending
/// without is a death.
///
/// Handle:  a copy is the same barrier; give it to any task, process or message.
/// Safety:  process-safe. A party that is stopped delays those who wait for it to arrive, and nothing else.
/// Death:   of an enlisted party, at any instruction: whoever waits or arrives gets broken_barrier, which names it. A
///          barrier stays broken; make another one. A thread that died before it enlisted is not known: then the
///          barrier waits for whoever takes its place.
/// Limits:  at most max() parties.
/// Order:   what the parties did before they arrived is visible to all after the phase.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: examples/barrier.cpp
template <class Completion = no_completion>
class basic_barrier : public arrive_forms<basic_barrier<Completion>> {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// The phase in which somebody arrived, for wait().
  class arrival_token {
   private:
    friend class basic_barrier;
    explicit arrival_token(std::uint32_t phase) noexcept : phase_(phase) {}
    std::uint32_t phase_;
  };

  /// The most parties.
  static constexpr std::ptrdiff_t max() noexcept { return detail::barrier_state::parties_max; }

  /// Makes one for `parties`. Throws std::system_error if there are none or more than max(), or no shared memory can be
  /// had.
  explicit basic_barrier(std::ptrdiff_t parties, Completion completion = Completion())
      : state_(std::in_place, detail::barrier_parties(parties)), completion_(std::move(completion)) {}

  /// Takes a place for this thread, if it has none. Throws std::system_error (no_buffer_space) when all are taken, and
  /// broken_barrier.
  void enlist() { state_->enlist(); }

  /// Arrives for `parties`, and does not wait. Throws as enlist(); std::system_error (operation_not_permitted) when
  /// this thread has arrived in this phase already, and (invalid_argument) when fewer than `parties` are to come.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t parties = 1) {
    return arrival_token(state_->arrive(parties, completion()));
  }

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

  /// Arrives and waits.
  void arrive_and_wait() { wait(arrive()); }

  /// The same; whoever comes last runs its own `completion` before the others go on; what that throws breaks the
  /// barrier for the others.
  void arrive_and_wait(const std::function<void()>& completion)
    requires std::same_as<Completion, no_completion>
  {
    wait(arrival_token(state_->arrive(1, completion)));
  }
  using arrive_forms<basic_barrier>::arrive_and_wait;

  /// Arrives for the last time: the following phases expect one party less.
  void arrive_and_drop() { state_->drop(completion()); }

  /// Whether both name the same barrier.
  bool operator==(const basic_barrier& other) const noexcept { return state_ == other.state_; }

  /// For covey.
  void encode_handle(detail::encoder& out) const {
    state_.encode(out);
    detail::encode_completion(out, completion_);
  }
  /// For covey.
  static basic_barrier decode_handle(detail::decoder& in) {
    handle state = handle::decode(in);
    return basic_barrier(std::move(state), detail::decode_completion<Completion>(in));
  }

 private:
  using handle = detail::handle_on<detail::barrier_state, detail::region_kind::barrier>;
  basic_barrier(handle h, Completion completion) : state_(std::move(h)), completion_(std::move(completion)) {}

  std::function<void()> completion() {
    if constexpr (std::same_as<Completion, no_completion>)
      return {};
    else
      return [this] { std::invoke(completion_); };
  }
  friend class arrive_forms<basic_barrier>;
  bool arrive_and_wait_by(const detail::deadline& until, std::stop_token stop) {
    return wait_by(arrive(), until, std::move(stop));
  }
  bool wait_by(const arrival_token& token, const detail::deadline& until, std::stop_token stop) const {
    return state_->wait(token.phase_, until, std::move(stop));
  }

  handle state_;
  [[no_unique_address]] Completion completion_;
};

using barrier = basic_barrier<>;  ///< one that calls nothing at the end of a phase

}  // namespace covey
