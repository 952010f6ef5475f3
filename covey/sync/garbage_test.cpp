// Somebody who was given a handle writes nonsense over what it names. That is one fate for all who have it; but it is
// errors and waits in vain, not crashes, and not for ever where a time was given. Nothing but the seed is random.
#include <gtest/gtest.h>
#include <covey/sync.hpp>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <random>
#include <shared_mutex>

namespace {

using namespace std::chrono_literals;

template <class Handle>
covey::detail::region region_of(const Handle& h) {
  covey::detail::encoder out;
  h.encode_handle(out);
  return covey::detail::region::hold(out.attachments.at(0));
}

// What others may have written there, 200 times; `use` may throw what it likes, as long as it is of std.
template <class Make, class Use>
void survive(const Make& make, const Use& use) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    auto h = make();
    const covey::detail::region r = region_of(h);
    const std::size_t bytes = std::min<std::size_t>(r.size(), 32 * 1024);
    const bool all = seed % 2 == 0;  // or a few words only
    for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
      if (!all && random() % 64 != 0) continue;
      const std::uint64_t word = seed % 4 < 2 ? random() : random() % 5;
      std::memcpy(r.data() + at, &word, sizeof word);
    }
    try {
      use(h);
    } catch (const std::exception&) {
    }
  }
}

template <class Mutex>
void use_mutex(Mutex& m) {
  if (m.lock_for(1ms)) m.unlock();
  if (m.try_lock()) m.unlock();
  (void)m.needs_recovery_approx();
}

TEST(Garbage, InMutexes) {
  survive([] { return covey::mutex(); }, use_mutex<covey::mutex>);
  survive([] { return covey::mutex(covey::mutex_options{.detect_deadlock = true}); }, use_mutex<covey::mutex>);
  survive([] { return covey::recursive_mutex(); }, use_mutex<covey::recursive_mutex>);
  survive([] { return covey::shared_mutex(); }, use_mutex<covey::shared_mutex>);
  survive([] { return covey::shared_mutex(); },
          [](covey::shared_mutex& m) {
            if (m.lock_shared_for(1ms)) m.unlock_shared();
            if (m.try_lock_shared()) m.unlock_shared();
          });
}

TEST(Garbage, InCounts) {
  survive([] { return covey::counting_semaphore<>(1); },
          [](covey::counting_semaphore<>& s) {
            (void)s.try_acquire_for(1ms);
            s.release();
          });
  survive([] { return covey::latch(1); },
          [](covey::latch& l) {
            (void)l.wait_for(1ms);
            l.count_down();
          });
  survive([] { return covey::permits(3); },
          [](covey::permits& p) {
            (void)p.try_acquire_for(1ms);
            (void)p.available_approx();
            p.release();
          });
}

TEST(Garbage, InEventsAndConditions) {
  survive([] { return covey::event(); },
          [](covey::event& e) {
            (void)e.wait_for(1ms);
            e.set();
            e.clear();
          });
  survive([] { return covey::condition_variable(); },
          [](covey::condition_variable& c) {
            std::mutex m;
            std::unique_lock lock(m);
            (void)c.wait_for(lock, 1ms);
            c.notify_all();
          });
}

TEST(Garbage, InBarriers) {
  survive([] { return covey::barrier(3); },
          [](covey::barrier& b) {
            const auto token = b.arrive();
            (void)b.wait_for(token, 1ms);
          });
  survive([] { return covey::barrier(3); }, [](covey::barrier& b) { b.arrive_and_drop(); });
}

TEST(Garbage, InGuardedValues) {
  survive([] { return covey::guarded<int>(3); },
          [](covey::guarded<int>& g) {
            (void)g.load();
            (void)g.update_for(1ms, [](int& v) { v = 1; });
          });
  survive([] { return covey::guarded<std::vector<std::string>>(std::vector<std::string>{"a", "b"}); },
          [](covey::guarded<std::vector<std::string>>& g) {
            (void)g.load();
            (void)g.update_for(1ms, [](auto& v) { v.emplace_back("c"); });
          });
}

}  // namespace
