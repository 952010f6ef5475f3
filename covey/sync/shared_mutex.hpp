/// @file
/// shared_mutex: many readers or one writer.
#pragma once

#include <array>
#include <covey/sync/gate.hpp>
#include <covey/sync/mutex.hpp>

namespace covey {
namespace detail {

/// A writer's lock, and a table of readers by name. Lives in shared memory. docs/design/sync.md draws its states.
///
/// Safety: process-safe.
/// Death:  dead readers are removed by whoever waits for them. A writer that died in its section left `dirty_`; one
///         that died on the way in or out left nothing.
class shared_lock_state {
 public:
  static constexpr std::uint32_t lines = 60;
  static constexpr std::uint32_t readers_max = lines * 8;

  explicit shared_lock_state(const mutex_options& options) noexcept : watched_(options.detect_deadlock ? 1 : 0) {}

  void lock(std::uint32_t number);
  bool try_lock();
  bool lock_until(const deadline& until, const stop_word* stop);
  void unlock() noexcept;
  bool recover(std::uint32_t number, const std::function<void()>& repair);
  recovery recover(const std::function<void()>& repair, const deadline& until, const stop_word* stop);

  void lock_shared(std::uint32_t number);
  bool try_lock_shared();
  bool lock_shared_until(const deadline& until, const stop_word* stop);
  void unlock_shared() noexcept;

  [[nodiscard]] bool unrepaired_approx() const noexcept;

 private:
  friend struct looker;
  enum class entry { entered, writer_there, no_room };

  entry try_enter();
  bool take_slot() noexcept;
  void clear_slot() noexcept;
  [[nodiscard]] bool has_room() noexcept;

  bool take_writing(const deadline& until, const stop_word* stop);
  void take_writing_watched(std::uint32_t number);
  void drain_watched(std::uint32_t number);
  bool drain(const deadline& until, const stop_word* stop);
  template <class Drain>
  bool enter_section(const Drain& drained_in_time);
  template <class Drain>
  recovery repair_section(const Drain& drained_in_time, const std::function<void()>& repair);
  void leave_writing() noexcept;
  [[nodiscard]] bool writer_there() const noexcept;
  [[nodiscard]] bool drained();
  template <class F>
  bool each_place(const F& f);

  lock_word writing_;                     // among writers; held from before the draining to the end of the section
  std::atomic<participant> writer_{0};    // who has `writing_`, as readers see it
  std::atomic<std::uint32_t> dirty_{0};   // a writer is in its section, or died there
  std::uint32_t watched_;                 // constant
  std::atomic<std::uint64_t> lines_used_{0};  // by readers, ever: a writer looks at those only
  gate readers_wait_;                     // for the writer to leave
  gate writer_waits_;                     // for the readers to leave
  gate room_wait_;                        // for a place in the table
  alignas(64) std::array<std::atomic<participant>, readers_max> readers_{};
};

}  // namespace detail

/// Many readers or one writer; std::shared_timed_mutex's contract and names.
///
/// Handle:  a copy is the same mutex (unlike std, on purpose); give it to any task, process or message.
/// Safety:  process-safe. A writer that waits keeps new readers out, so readers do not starve writers. Not recursive:
///          lock() throws std::system_error when this thread owns it in either mode, lock_shared() when it owns it
///          alone.
/// Death:   a dead reader is removed, and nobody notices. A writer that died inside its section: as mutex, both modes
///          throw owner_died until somebody recovers it. It knows whom it waits for.
/// Limits:  at most readers_max own it together; the next one waits for one of them.
/// Order:   what happened before unlock() is visible after the lock that follows, in either mode.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/shared_mutex_test.cpp
class shared_mutex : public lock_forms<shared_mutex> {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// How many can own it together.
  static constexpr std::uint32_t readers_max = detail::shared_lock_state::readers_max;

  /// Makes a free mutex. Throws std::system_error if no shared memory can be had.
  shared_mutex() : shared_mutex(mutex_options()) {}

  /// The same, with options.
  explicit shared_mutex(const mutex_options& options) : state_(std::in_place, options) {}

  /// Blocks until this thread owns it alone. Throws owner_died, and deadlock_detected if it was made to.
  void lock() { state_->lock(state_.number()); }
  using lock_forms<shared_mutex>::lock;

  /// Returns whether this thread owns it alone now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock();

  /// Gives it up. The caller must own it alone.
  void unlock() noexcept { state_->unlock(); }

  /// Blocks until this thread owns it with other readers. Throws owner_died, and deadlock_detected if it was made to.
  void lock_shared() { state_->lock_shared(state_.number()); }

  /// As lock_shared(), but returns false when `stop` was requested while it had to wait. Looks for no deadlock.
  [[nodiscard]] bool lock_shared(std::stop_token stop) { return lock_shared_by(std::nullopt, std::move(stop)); }

  /// Returns whether this thread owns it with other readers now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock_shared();

  /// Returns false when `timeout` passed, or `stop` was requested, first. Throws owner_died.
  template <class Rep, class Period>
  [[nodiscard]] bool lock_shared_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) {
    return lock_shared_by(detail::deadline_in(timeout), std::move(stop));
  }

  /// As lock_shared_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool lock_shared_until(const std::chrono::time_point<Clock, Duration>& until,
                                       std::stop_token stop = {}) {
    return lock_shared_by(detail::steady(until), std::move(stop));
  }

  /// std's name for lock_shared_for, for std::shared_lock.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(const std::chrono::duration<Rep, Period>& timeout) {
    return lock_shared_for(timeout);
  }

  /// std's name for lock_shared_until, for std::shared_lock. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration>& until) {
    return lock_shared_until(until);
  }

  /// Gives it up. The caller must own it with other readers.
  void unlock_shared() noexcept { state_->unlock_shared(); }

  /// As mutex::recover, alone.
  bool recover(const std::function<void()>& repair) { return state_->recover(state_.number(), repair); }
  using lock_forms<shared_mutex>::recover;

  /// Whether a writer died and nobody has repaired since; may be stale when it returns.
  [[nodiscard]] bool needs_recovery_approx() const noexcept { return state_->unrepaired_approx(); }

  /// Its number among the family's objects that live now; deadlock_detected tells locks by it.
  [[nodiscard]] std::uint32_t number() const noexcept { return state_.number(); }

  /// Whether both name the same mutex.
  bool operator==(const shared_mutex& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static shared_mutex decode_handle(detail::decoder& in) { return shared_mutex(handle::decode(in)); }

 private:
  using handle = detail::handle_on<detail::shared_lock_state, detail::region_kind::shared_mutex>;
  explicit shared_mutex(handle h) : state_(std::move(h)) {}
  friend class lock_forms<shared_mutex>;
  bool lock_by(const detail::deadline& until, std::stop_token stop);
  recovery recover_by(const detail::deadline& until, std::stop_token stop, const std::function<void()>& repair);
  bool lock_shared_by(const detail::deadline& until, std::stop_token stop);

  handle state_;
};

using shared_timed_mutex = shared_mutex;  ///< std's name for one with the timed forms: each has them

}  // namespace covey
