/// @file
/// mutex: mutual exclusion between threads and processes that survives the death of its owner.
#pragma once

#include <chrono>
#include <covey/base/result.hpp>
#include <covey/memory/lock_word.hpp>
#include <covey/memory/region.hpp>
#include <functional>
#include <stdexcept>
#include <stop_token>

namespace covey {

/// The owner of a lock died inside its section, and nobody has repaired what it may have left half done.
class owner_died : public std::runtime_error {
 public:
  /// Says so in one sentence.
  owner_died();
};

/// Mutual exclusion between threads and processes; std::mutex's contract and names.
///
/// Handle:  a copy is the same mutex (unlike std, on purpose); give it to any task, process or message.
/// Safety:  process-safe. Not recursive: lock() throws std::system_error when this thread owns it already.
/// Death:   when the owner dies, at any instruction, every lock(), try_lock() and lock_for() throws owner_died until
///          somebody recovers it; sleepers are woken. A thread that ends while it owns the mutex counts as dead.
/// Order:   what happened before unlock() is visible after the lock() that follows.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/identity.md. Example: examples/tour_05_shared.cpp
class mutex {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Makes a free mutex. Throws std::system_error if no shared memory can be had.
  mutex();

  /// Blocks until this thread owns it. Throws owner_died.
  void lock();

  /// Returns whether this thread owns it now; never blocks. Throws owner_died.
  [[nodiscard]] bool try_lock();

  /// Returns false when `timeout` passed, or `stop` was requested, first. Throws owner_died.
  [[nodiscard]] bool lock_for(std::chrono::nanoseconds timeout, std::stop_token stop = {});

  /// As lock_for, with a point in time.
  [[nodiscard]] bool lock_until(std::chrono::steady_clock::time_point until, std::stop_token stop = {});

  /// std's name for lock_for, for std::unique_lock.
  [[nodiscard]] bool try_lock_for(std::chrono::nanoseconds timeout) { return lock_for(timeout); }

  /// Gives it up. The caller must own it.
  void unlock() noexcept;

  /// Takes the mutex whether or not an owner died, and if one did and nobody has repaired since, runs `repair` and
  /// marks the protected state whole. Returns whether `repair` ran. A throw or a death inside leaves it unrepaired.
  /// Blocks like lock().
  bool recover(const std::function<void()>& repair);

  /// Whether an owner died and nobody has repaired since; may be stale when it returns.
  [[nodiscard]] bool needs_recovery_approx() const noexcept;

  /// Whether both name the same mutex.
  bool operator==(const mutex& other) const noexcept { return region_ == other.region_; }

  void encode_handle(detail::encoder& out) const { region_.encode(out); }  ///< for covey
  static mutex decode_handle(detail::decoder& in);                          ///< for covey

 private:
  explicit mutex(detail::region r) : region_(std::move(r)) {}
  [[nodiscard]] detail::lock_word& shared() const { return *reinterpret_cast<detail::lock_word*>(region_.data()); }

  detail::region region_;
};

}  // namespace covey
