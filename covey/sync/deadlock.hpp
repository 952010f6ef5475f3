/// @file
/// deadlock_detected, and how it is found.
#pragma once

#include <chrono>
#include <covey/memory/park.hpp>
#include <functional>
#include <string>
#include <system_error>

namespace covey {

/// Waiting would never end: the owner of the lock waits, perhaps through others, for a lock that this thread owns.
/// Thrown by locks that were made with `detect_deadlock`. what() tells the cycle: who, with name and pid, waits for
/// which lock.
class deadlock_detected : public std::system_error {
 public:
  /// `cycle` is that in words.
  explicit deadlock_detected(const std::string& cycle);
};

namespace detail {

/// A thread in words: its process by name and pid, and which thread of it.
std::string in_words(participant name);

/// Before this thread gives up a lock that looks for deadlocks.
void note_release() noexcept;

/// While it lives, this thread's cell says that it waits for a lock.
///
/// Safety: the thread that made it.
/// Death:  what a killed thread left there is not believed: the record names who wrote it, and the dead do not wait.
class told_wait {
 public:
  explicit told_wait(std::uint32_t lock) noexcept;
  told_wait(const told_wait&) = delete;
  told_wait& operator=(const told_wait&) = delete;
  ~told_wait();

  /// Tells that `owner` is waited for, if `owns()` still holds once its record was read, and throws deadlock_detected
  /// if that closes a cycle in which nobody began to wait later than this thread. Returns whether there is a cycle.
  bool look(participant owner, const std::function<bool()>& owns) const;

 private:
  std::uint32_t lock_;
  std::uint64_t since_ns_;
};

/// Waits by `attempt(deadline)`, which returns whether that is over. When `watched`, it is given short deadlines, and
/// in between `each_blocker(ask)` calls `ask(owner, owns)` for those who are waited for, until that returns true.
/// Throws deadlock_detected, and what `attempt` throws.
template <class Attempt, class EachBlocker>
void wait_watched(bool watched, std::uint32_t lock, const Attempt& attempt, const EachBlocker& each_blocker) {
  using namespace std::chrono_literals;
  if (!watched) {
    attempt(deadline());
    return;
  }
  if (attempt(deadline_in(1ms))) return;  // most waits are over before anybody need look
  const told_wait told(lock);
  do {
    each_blocker([&](participant owner, const std::function<bool()>& owns) { return told.look(owner, owns); });
  } while (!attempt(deadline_in(100ms)));  // who waited for whom may have changed while we slept
}

}  // namespace detail
}  // namespace covey
