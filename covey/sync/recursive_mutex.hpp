/// @file
/// recursive_mutex: a mutex that its owner may lock again.
#pragma once

#include <covey/sync/mutex.hpp>

namespace covey {

/// A mutex that its owner may lock again; std::recursive_timed_mutex's contract and names.
///
/// Handle:  a copy is the same mutex; give it to any task, process or message.
/// Safety:  process-safe. The owner is a thread, at most depth_max times; locking with an end to the wait returns false
///          beyond that. Not fair.
/// Death:   as mutex, however often the dead had locked it: owner_died until somebody recovers it.
/// Order:   what happened before the last unlock() is visible after the lock() that follows.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: covey/sync/recursive_mutex_test.cpp
class recursive_mutex : public lock_forms<recursive_mutex> {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// How often one thread may own it at a time.
  static constexpr std::uint32_t depth_max = 1'000'000;

  /// Makes a free mutex. Throws std::system_error if no shared memory can be had.
  recursive_mutex() : recursive_mutex(mutex_options()) {}

  /// The same, with options.
  explicit recursive_mutex(const mutex_options& options) : state_(std::in_place, options) {}

  /// Blocks until this thread owns it (once more). Throws owner_died, deadlock_detected if it was made to, and
  /// std::system_error (resource_unavailable_try_again) beyond depth_max.
  void lock();
  using lock_forms<recursive_mutex>::lock;

  /// Returns whether this thread owns it now (once more); never blocks. Throws owner_died. False beyond depth_max.
  [[nodiscard]] bool try_lock();

  /// Gives it up once. The caller must own it.
  void unlock() noexcept;

  /// As mutex::recover. Returns false without running `repair` when this thread owns it; the forms with an end to the
  /// wait return was_whole then.
  bool recover(const std::function<void()>& repair);
  using lock_forms<recursive_mutex>::recover;

  /// Whether an owner died and nobody has repaired since; may be stale when it returns.
  [[nodiscard]] bool needs_recovery_approx() const noexcept { return state_->lock.unrepaired_approx(); }

  /// Its number among the family's objects that live now; deadlock_detected tells locks by it.
  [[nodiscard]] std::uint32_t number() const noexcept { return state_.number(); }

  /// Whether both name the same mutex.
  bool operator==(const recursive_mutex& other) const noexcept { return state_ == other.state_; }

  void encode_handle(detail::encoder& out) const { state_.encode(out); }  ///< for covey
  /// For covey.
  static recursive_mutex decode_handle(detail::decoder& in) { return recursive_mutex(handle::decode(in)); }

 private:
  friend struct detail::looker;
  struct state {
    explicit state(const mutex_options& options) noexcept : lock(options) {}
    detail::owned_lock lock;
    std::atomic<std::uint32_t> depth{0};  // beyond the first; changed by the owner, meaningless when there is none
  };
  using handle = detail::handle_on<state, detail::region_kind::recursive_mutex>;

  explicit recursive_mutex(handle h) : state_(std::move(h)) {}
  bool lock_again();
  std::function<void()> beginning(const std::function<void()>& repair);
  friend class lock_forms<recursive_mutex>;
  bool lock_by(const detail::deadline& until, std::stop_token stop);
  recovery recover_by(const detail::deadline& until, std::stop_token stop, const std::function<void()>& repair);
  void begin() { state_->depth.store(0, std::memory_order_relaxed); }

  handle state_;
};

using recursive_timed_mutex = recursive_mutex;  ///< std's name for one with try_lock_for and try_lock_until

}  // namespace covey
