// covey's mutex, event, semaphore and condition, by their public interface.
#include <benchmarks/harness/family_workers.hpp>
#include <benchmarks/sync/locks.hpp>
#include <covey/sync.hpp>

#include <array>
#include <mutex>

namespace bench {
namespace {

struct covey_defaults : lock_defaults {
  static constexpr const char* name = "covey";
  using workers = family_workers;
};

struct covey_mutex : covey_defaults {
  covey::mutex m;
  void lock() { m.lock(); }
  void unlock() { m.unlock(); }
  template <class F>
  void lock_of_the_dead(const F& owned) {
    try {
      m.lock();
    } catch (const covey::owner_died&) {
      m.recover(owned);
      return;
    }
    throw std::runtime_error("a lock was had before its owner died");
  }
};

struct covey_event : covey_defaults {
  covey::event flags[2];
  void post(int side) { flags[side].set(); }
  void wait(int side) {
    flags[side].wait();
    flags[side].clear();
  }
};

struct covey_semaphore : covey_defaults {
  covey::counting_semaphore<> counts[2] = {covey::counting_semaphore<>(0), covey::counting_semaphore<>(0)};
  void post(int side) { counts[side].release(); }
  void wait(int side) { counts[side].acquire(); }
};

struct covey_condition : covey_defaults {
  covey::mutex m;
  covey::condition_variable changed[2];
  shared<std::array<bool, 2>> set;
  void post(int side) {
    {
      const std::scoped_lock held(m);
      (*set)[static_cast<std::size_t>(side)] = true;
    }
    changed[side].notify_one();
  }
  void wait(int side) {
    std::unique_lock held(m);
    changed[side].wait(held, [&] { return (*set)[static_cast<std::size_t>(side)]; });
    (*set)[static_cast<std::size_t>(side)] = false;
  }
};

const at_start here([] {
  enroll_lock<covey_mutex>();
  enroll_signal<covey_event>("event");
  enroll_signal<covey_semaphore>("semaphore");
  enroll_signal<covey_condition>("condition");
});

}  // namespace
}  // namespace bench
