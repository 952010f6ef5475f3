/// @file
/// One measurement for all locks, and one for all ways to wait for one another.
///
///     struct my_lock : lock_defaults {
///       static constexpr const char* name = "my_lock";
///       my_lock();                       // in the parent, before anybody starts
///       void lock();  void unlock();
///       template <class F> void lock_of_the_dead(const F& owned);   // optional: blocks; calls owned() as its next
///       owner
///     };
///
///     struct my_signal : lock_defaults { …; void post(int side); void wait(int side); };  // side 0 or 1, like two
///     flags
#pragma once

#include <benchmarks/harness/board.hpp>
#include <benchmarks/harness/workers.hpp>

#include <algorithm>
#include <string>

namespace bench {

struct lock_defaults {
  using workers = forked_workers;
  static constexpr bool between_processes = true;
};

/// Nanoseconds of lock() and unlock() when nobody else wants it: the median of batches of a thousand.
template <class Lock>
results measure_free(const settings& how) {
  Lock lock;
  std::vector<std::uint32_t> batches;
  for (const std::int64_t end = now_ns() + how.window.count(); now_ns() < end;) {
    const std::int64_t start = now_ns();
    for (int i = 0; i < 1000; ++i) {
      lock.lock();
      asm volatile("" : : : "memory");
      lock.unlock();
    }
    batches.push_back(static_cast<std::uint32_t>(now_ns() - start));
  }
  return {{"ns", percentile(batches, 0.5) / 1000}};
}

struct contest {
  board common;
  alignas(line) std::uint64_t guarded = 0;
};

/// Locks a second of `processes` processes together, and what part of its fair share the slowest got. Five seconds, if
/// nobody asked for less.
template <class Lock>
results measure_contended(int processes, const settings& how) {
  Lock lock;
  const shared<contest> c;
  typename Lock::workers workers;
  for (int i = 0; i < processes; ++i)
    workers.start([&, i] {
      seat& mine = c->common.producers[i];
      ++c->common.ready;
      while (c->common.ready.load() < processes) sleep_ns(100'000);
      for (std::uint64_t n = 1; !c->common.stop.load(std::memory_order_relaxed); ++n) {
        lock.lock();
        c->guarded = c->guarded + 1;
        lock.unlock();
        mine.report(n, 0);
      }
      mine.done.store(true, std::memory_order_release);
      stay();
    });
  const auto all_locked = [&] {
    return std::all_of(c->common.producers, c->common.producers + processes,
                       [](const seat& s) { return s.count.load(std::memory_order_relaxed) > 0; });
  };
  wait_until("everybody's first lock", all_locked);
  std::vector<std::uint64_t> counts;
  for (int i = 0; i < processes; ++i) counts.push_back(c->common.producers[i].count.load());
  const std::int64_t start = now_ns();
  sleep_ns(how.window.count() * 25 / 2);
  std::uint64_t all = 0;
  std::uint64_t least = ~0ULL;
  const std::int64_t end = now_ns();
  for (int i = 0; i < processes; ++i) {
    const std::uint64_t own = c->common.producers[i].count.load() - counts[static_cast<std::size_t>(i)];
    all += own;
    least = std::min(least, own);
  }
  c->common.stop.store(true);
  wait_until("the end of the contest", [&] {
    return std::all_of(c->common.producers, c->common.producers + processes,
                       [](const seat& s) { return s.done.load(std::memory_order_acquire); });
  });
  std::uint64_t locked = 0;
  for (const seat& s : c->common.producers) locked += s.count.load();
  if (c->guarded != locked) throw std::runtime_error("the lock did not exclude");
  return {{"rate", static_cast<double>(all) * 1e9 / static_cast<double>(end - start)},
          {"share", static_cast<double>(least) * processes / static_cast<double>(all)}};
}

struct succession {
  board common;
  alignas(line) std::atomic<int> held{0};       // the round whose victim owns the lock
  alignas(line) std::atomic<int> waiting{0};    // the round in which the heir is about to lock
  alignas(line) std::atomic<int> inherited{0};  // the round that is over
  alignas(line) std::atomic<std::int64_t> killed_at{0};
};

/// From the SIGKILL of a lock's owner to its next owner running. 200 kills, if nobody asked for less.
template <class Lock>
results measure_recovery(const settings& how) {
  Lock lock;
  const shared<succession> s;
  typename Lock::workers heirs;
  typename Lock::workers victims;
  heirs.start([&] {
    for (int round = 1;; ++round) {
      while (s->held.load(std::memory_order_acquire) < round) sleep_ns(100'000);
      s->waiting.store(round, std::memory_order_release);
      lock.lock_of_the_dead([&] { s->common.sample(now_ns() - s->killed_at.load(std::memory_order_acquire)); });
      s->inherited.store(round, std::memory_order_release);
    }
  });
  const int rounds = std::max(3, static_cast<int>(how.window / std::chrono::milliseconds(2)));
  for (int round = 1; round <= rounds; ++round) {
    victims.start([&, round] {
      lock.lock();
      s->held.store(round, std::memory_order_release);
      stay();
    });
    wait_until("the heir", [&] { return s->waiting.load(std::memory_order_acquire) == round; });
    sleep_ns(1'500'000);  // it sleeps by now
    s->killed_at.store(now_ns(), std::memory_order_release);
    victims.kill_last();
    wait_until("the next owner", [&] { return s->inherited.load(std::memory_order_acquire) == round; });
  }
  return percentiles(s->common);
}

struct relay {
  board common;
  alignas(line) std::atomic<std::int64_t> sent_at{0};
  alignas(line) std::atomic<std::int64_t> way_there{0};
};

/// There and back. When both rest for 1.2 ms before they post, the other sleeps, and what counts is the time under way.
template <class Signal>
results measure_round_trip(const settings& how, std::int64_t rest_ns) {
  Signal signal;
  const shared<relay> r;
  typename Signal::workers workers;
  const std::int64_t window = how.window.count();
  const auto rest = [rest_ns] {
    if (rest_ns != 0) sleep_ns(rest_ns);
  };
  workers.start([&] {
    for (;;) {
      signal.wait(0);
      r->way_there.store(now_ns() - r->sent_at.load(std::memory_order_relaxed), std::memory_order_relaxed);
      rest();
      if (rest_ns != 0) r->sent_at.store(now_ns(), std::memory_order_relaxed);
      signal.post(1);
    }
  });
  workers.start([&] {
    const auto there_and_back = [&] {
      rest();
      r->sent_at.store(now_ns(), std::memory_order_relaxed);
      signal.post(0);
      signal.wait(1);
      const std::int64_t way_back = now_ns() - r->sent_at.load(std::memory_order_relaxed);
      return rest_ns == 0 ? way_back : way_back + r->way_there.load(std::memory_order_relaxed);
    };
    const std::int64_t begin = now_ns();
    while (now_ns() < begin + window / 4) there_and_back();
    do r->common.sample(there_and_back());
    while (now_ns() < begin + window + window / 4);
    r->common.consumers[0].done.store(true, std::memory_order_release);
    stay();
  });
  sleep_ns(window + window / 4);  // nothing but the two runs meanwhile: a parent that looks wakes a processor each time
  wait_until("the last answer", [&] { return r->common.consumers[0].done.load(std::memory_order_acquire); });
  return percentiles(r->common);
}

template <class Lock>
void enroll_lock() {
  enroll("mutex-free", Lock::name, measure_free<Lock>);
  if constexpr (Lock::between_processes) {
    for (const int n : {2, 4})
      enroll("mutex-" + std::to_string(n), Lock::name,
             [n](const settings& how) { return measure_contended<Lock>(n, how); });
  }
  if constexpr (requires(Lock l) { l.lock_of_the_dead([] {}); }) enroll("recovery", Lock::name, measure_recovery<Lock>);
}

/// `what`: event, semaphore or condition.
template <class Signal>
void enroll_signal(const std::string& what) {
  enroll(what + "-awake", Signal::name, [](const settings& how) { return measure_round_trip<Signal>(how, 0); });
  enroll(what + "-asleep", Signal::name,
         [](const settings& how) { return measure_round_trip<Signal>(how, 1'200'000); });
}

}  // namespace bench
