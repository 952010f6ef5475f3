// The floor for those who wait for one another: two words, one system call to sleep and one to wake, no spinning.
#include <benchmarks/harness/futex.hpp>
#include <benchmarks/sync/locks.hpp>

#include <array>

namespace bench {
namespace {

struct bare_futex : lock_defaults {
  static constexpr const char* name = "bare_futex";
  struct words {
    struct alignas(line) word {
      std::atomic<std::uint32_t> set{0};
    };
    std::array<word, 2> each;
  };
  shared<words> flags;

  [[nodiscard]] std::atomic<std::uint32_t>& flag(int side) const {
    return flags->each[static_cast<std::size_t>(side)].set;
  }
  void post(int side) {
    flag(side).store(1, std::memory_order_release);
    futex_wake(flag(side));
  }
  void wait(int side) {
    while (flag(side).load(std::memory_order_acquire) == 0) futex_wait(flag(side), 0);
    flag(side).store(0, std::memory_order_relaxed);
  }
};

const at_start here([] {
  for (const char* const what : {"event", "semaphore", "condition"}) enroll_signal<bare_futex>(what);
});

}  // namespace
}  // namespace bench
