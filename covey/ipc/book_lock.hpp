/// @file
/// book_lock: the lock around what a structure keeps in order, the *books*; repaired when its owner died, refused when
/// it was written over.
#pragma once

#include <covey/ipc/queue_layout.hpp>
#include <type_traits>

namespace covey::detail {

/// Books and their lock, in shared memory. Who unlocks leaves a checksum, so that who locks next knows whether anybody
/// else wrote here.
template <class Books>
struct locked_books {
  static_assert(std::has_unique_object_representations_v<Books>);
  lock_word lock;
  std::uint64_t sum;
  Books books;

  void close_books(std::uint64_t key) { sum = checksum_of(key, {}, std::as_bytes(std::span(&books, 1))); }
  [[nodiscard]] bool closed_by(std::uint64_t key) const {
    return sum == checksum_of(key, {}, std::as_bytes(std::span(&books, 1)));
  }
};

/// How long one waits for a lock that is held for microseconds, before one believes that its owner is stopped.
inline constexpr std::chrono::milliseconds books_patience{100};

/// For how long somebody is ready to wait; for ever by default.
struct time_limit {
  deadline until{};
  const stop_word* stop = nullptr;

  [[nodiscard]] bool over() const {
    return (until && *until <= std::chrono::steady_clock::now()) || (stop != nullptr && stop->stopped());
  }
};

/// Locks. Calls `repair` when the last owner died in it; if that throws, the next one repairs. Throws queue_damaged.
/// False, and not locked: `limit` is over, and books_patience too, because an owner is stopped.
/// Looks up from time to time: whoever holds it may have found the damage, or have been written over.
template <class Books, class Repair>
bool lock_books(locked_books<Books>& b, std::uint64_t key, std::uint64_t id, const Repair& repair,
                const time_limit& limit) {
  lock_word::outcome outcome = lock_word::outcome::not_now;
  for (bool tried = false; outcome == lock_word::outcome::not_now; tried = true) {
    if (is_damaged(id)) throw queue_damaged();
    if (tried && limit.over()) return false;
    outcome = b.lock.lock(lock_word::unrepaired_lock::take, deadline_in(books_patience));
  }
  try {
    if (is_damaged(id)) throw queue_damaged();
    if (outcome == lock_word::outcome::unrepaired) {
      repair();
    } else if (!b.closed_by(key)) {
      report_damage(id);
      throw queue_damaged();
    }
  } catch (...) {
    b.lock.unlock_unrepaired();
    throw;
  }
  return true;
}

template <class Books>
void unlock_books(locked_books<Books>& b, std::uint64_t key) {
  b.close_books(key);
  b.lock.unlock();
}

/// Wakes, after the lock, all who sleep on `word` and were counted off.
inline void raise(std::atomic<std::uint32_t>& word, std::uint32_t& sleepers) {
  sleepers = 0;
  word.fetch_add(1, std::memory_order_relaxed);
}

/// Sleeps on `word`, counted in `sleepers`, without the lock that `unlock` gives up and `lock` takes again. Whether it
/// did.
template <class Unlock, class Lock>
bool sleep_unlocked(std::atomic<std::uint32_t>& word, std::uint32_t& sleepers, std::uint32_t deaths,
                    const time_limit& limit, const Unlock& unlock, const Lock& lock) {
  const std::uint32_t seen = word.load(std::memory_order_relaxed);
  ++sleepers;
  unlock();
  park(word, seen, deaths, limit.until, limit.stop);
  if (!lock()) return false;
  if (word.load(std::memory_order_relaxed) == seen && sleepers > 0) --sleepers;  // nobody has counted us off
  return true;
}

}  // namespace covey::detail
