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

/// Locks. Calls `repair` when the last owner died in it; if that throws, the next one repairs. Throws queue_damaged.
/// Looks up from time to time: whoever holds it may have found the damage, or have been written over.
template <class Books, class Repair>
void lock_books(locked_books<Books>& b, std::uint64_t key, std::uint64_t id, const Repair& repair) {
  lock_word::outcome outcome = lock_word::outcome::not_now;
  while (outcome == lock_word::outcome::not_now) {
    if (is_damaged(id)) throw queue_damaged();
    outcome = b.lock.lock(lock_word::unrepaired_lock::take, deadline_in(std::chrono::seconds(1)));
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

/// Sleeps on `word`, counted in `sleepers`, without the lock that `unlock` gives up and `lock` takes again.
template <class Unlock, class Lock>
void sleep_unlocked(std::atomic<std::uint32_t>& word, std::uint32_t& sleepers, std::uint32_t deaths,
                    const deadline& until, const stop_word* stop, const Unlock& unlock, const Lock& lock) {
  const std::uint32_t seen = word.load(std::memory_order_relaxed);
  ++sleepers;
  unlock();
  park(word, seen, deaths, until, stop);
  lock();
  if (word.load(std::memory_order_relaxed) == seen && sleepers > 0) --sleepers;  // nobody has counted us off
}

inline bool out_of_time(const deadline& until, const stop_word* stop) {
  return (until && *until <= std::chrono::steady_clock::now()) || (stop != nullptr && stop->stopped());
}

}  // namespace covey::detail
