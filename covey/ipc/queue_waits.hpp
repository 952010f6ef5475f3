/// @file
/// How those who use a queue wait for one another: waking, sleeping, and looking after the dead before either.
#pragma once

#include <climits>
#include <covey/ipc/queue_lanes.hpp>
#include <covey/ipc/queue_roles.hpp>
#include <covey/ipc/queue_side.hpp>
#include <covey/sync/gate.hpp>

namespace covey::detail {

// Counted off first: each who counted itself is owed one wake, by whoever has counted it off. (The other way round, two
// who wake the same sleeper would also count off its next sleep.) Who is stopped in between owes his wake for ever:
// park() looks again by itself.
[[gnu::noinline]] inline void wake_some(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers,
                                        std::size_t how_many) {
  std::uint32_t n = sleepers.load(std::memory_order_seq_cst);
  std::uint32_t woken = 0;
  do {
    if (n == 0) return;
    woken = static_cast<std::uint32_t>(std::min<std::size_t>(n, how_many));
  } while (!sleepers.compare_exchange_weak(n, n - woken, std::memory_order_seq_cst));
  word.fetch_add(1, std::memory_order_seq_cst);
  unpark(word, static_cast<int>(woken));
}

inline void wake(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::size_t how_many) {
  if (sleepers.load(std::memory_order_seq_cst) != 0) [[unlikely]]
    wake_some(word, sleepers, how_many);
}

inline void wake_all(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers) {
  sleepers.store(0, std::memory_order_seq_cst);
  word.fetch_add(1, std::memory_order_seq_cst);
  unpark(word, INT_MAX);
}

inline void wake_readers(queue_header& h, std::size_t how_many) {
  wake(h.readable, h.sleeping_readers, how_many);
  h.pollers.wake();
}

inline void wake_all_readers(queue_header& h) {
  wake_all(h.readable, h.sleeping_readers);
  h.pollers.wake();
}

inline void wake_writers(queue_header& h, std::size_t how_many) {
  wake(h.writable, h.sleeping_writers, how_many);
  h.room_pollers.wake();  // the line that was just read
}

inline void wake_everybody(queue_header& h) {
  wake_all_readers(h);
  wake_all(h.writable, h.sleeping_writers);
  h.room_pollers.wake();
  wake_all(h.idle, h.sleeping_joiners);
}

// Sleeps on `word` unless `look` finds, after others can see that we sleep, that there is no need. Not at all when the
// family's deaths are no longer `deaths`.
template <class Look>
void sleep_unless(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint32_t deaths,
                  const deadline& until, const stop_word* stop, const Look& look, sleeping how = sleeping::exact) {
  const std::uint32_t seen = word.load(std::memory_order_seq_cst);
  sleepers.fetch_add(1, std::memory_order_seq_cst);  // pairs with wake()
  std::atomic_thread_fence(std::memory_order_seq_cst);  // `look` may use acquire loads, which alone may come before
  rest sleep(how);
  while (!look() && sleep(word, seen, deaths, until, stop) == wake_reason::woken)
    if (word.load(std::memory_order_seq_cst) != seen || deaths_seen() != deaths) break;
  // Not counted off again: one sleeper too many costs a needless wake, one too few its sleep for ever.
}

// Looks for as long as that has paid lately, and then lets others run some times: where there are more threads than
// processors, what is waited for needs the one that this thread has. In a stream of messages a long turn is no loss:
// the other side fills many in it.
template <class Done>
bool look_and_yield_until(const Done& done, bool streaming) {
  if (own_patience.look(done)) return true;
  const std::uint64_t start = ticks();
  for (int i = 0; i < 20 && ticks() - start < turns::long_one; ++i) {
    if (streaming)
      yield_cpu();
    else if (!own_turns.give())
      break;
    if (done()) return true;
  }
  return false;
}

inline bool out_of_time(const deadline& until, const stop_word* stop) {
  return (until && *until <= std::chrono::steady_clock::now()) || (stop != nullptr && stop->stopped());
}

// Not inlined: else the way without deaths gets longer.
[[gnu::noinline]] inline void sweep(const queue_view& q, std::uint32_t deaths) {
  if (is_damaged(q.id)) throw queue_damaged();
  queue_header& h = q.header();
  strike_dead_roles(roles_of(q));
  sweep_lanes(q);
  h.swept_deaths.store(deaths, std::memory_order_release);
  wake_everybody(h);
}

// Returns the deaths that have been looked after: who sleeps then, sleeps under them.
inline std::uint32_t sweep_if_needed(const queue_view& q) {
  queue_header& h = q.header();
  const std::uint32_t deaths = deaths_seen();
  if (h.swept_deaths.load(std::memory_order_acquire) != deaths) [[unlikely]]
    sweep(q, deaths);
  if (h.counting.load(std::memory_order_relaxed) != 0) [[unlikely]]
    pause_for_counting(q);
  return deaths;
}

// Somebody joins, or waits for what a message might become.
[[gnu::noinline]] inline void wake_after_release(const queue_view& q) {
  queue_header& h = q.header();
  if (h.sleeping_joiners.load(std::memory_order_seq_cst) != 0 && idle(q)) wake_all(h.idle, h.sleeping_joiners);
  if ((q.flags() & flag_writers_lost) != 0) wake_all_readers(h);
}

// After a release: somebody may wait for just that. `fenced`: a compare-and-swap came after the release.
inline void after_release(const queue_view& q, std::size_t how_many, bool fenced = false) {
#if defined(__x86_64__)
  if (!fenced) std::atomic_thread_fence(std::memory_order_seq_cst);
#else
  (void)fenced;
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
  queue_header& h = q.header();
  wake_writers(h, how_many);  // for memory
  if (h.sleeping_joiners.load(std::memory_order_seq_cst) != 0 || (q.flags() & flag_writers_lost) != 0) [[unlikely]]
    wake_after_release(q);
}

}  // namespace covey::detail
