/// @file
/// What the processes of one measurement write and its parent reads: counts, checksums, samples.
#pragma once

#include <sys/mman.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <new>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <benchmarks/harness/registry.hpp>

namespace bench {

inline std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void sleep_ns(std::int64_t ns) noexcept;

/// A T in memory that this process shares with what it forks.
template <class T>
class shared {
 public:
  template <class... Args>
  explicit shared(Args&&... args) {
    void* const p = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
    object_ = new (p) T(std::forward<Args>(args)...);
  }
  shared(const shared&) = delete;
  shared& operator=(const shared&) = delete;
  ~shared() { ::munmap(object_, sizeof(T)); }

  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }

 private:
  T* object_;
};

inline constexpr std::size_t line = 128;  // two cache lines: the prefetcher takes pairs
inline constexpr int seats_max = 16;
inline constexpr std::size_t samples_max = 1U << 20;

/// One worker's own, written by nobody else.
struct alignas(line) seat {
  std::atomic<std::uint64_t> count{0};
  std::atomic<std::uint64_t> checksum{0};
  std::atomic<bool> done{false};

  void report(std::uint64_t n, std::uint64_t sum) noexcept {
    checksum.store(sum, std::memory_order_relaxed);
    count.store(n, std::memory_order_release);  // pairs with the parent's loads
  }
};

struct board {
  alignas(line) std::atomic<int> ready{0};
  alignas(line) std::atomic<bool> stop{false};
  alignas(line) std::atomic<bool> torn{false};  // a message whose ends do not agree was seen
  seat producers[seats_max];
  seat consumers[seats_max];
  std::atomic<std::uint64_t> sample_count{0};
  std::uint32_t samples_ns[samples_max];

  void sample(std::int64_t ns) noexcept {
    const std::uint64_t n = sample_count.load(std::memory_order_relaxed);
    if (n == samples_max) return;
    samples_ns[n] = static_cast<std::uint32_t>(ns < 0 ? 0 : ns);
    sample_count.store(n + 1, std::memory_order_release);
  }
};

/// Waits until `done`, or throws saying `what` did not come. Looks every 100 µs, so that it takes no time from others.
template <class Done>
void wait_until(const char* what, const Done& done, std::chrono::nanoseconds at_most = std::chrono::seconds(20)) {
  const std::int64_t end = now_ns() + at_most.count();
  while (!done()) {
    if (now_ns() > end) throw std::runtime_error(std::string("waited in vain for ") + what);
    sleep_ns(100'000);
  }
}

/// The smallest sample that at least `share` of all do not exceed.
double percentile(std::span<std::uint32_t> samples, double share);

/// p50 and p99 of the board's samples, in nanoseconds. Throws when there are none.
results percentiles(board& b);

/// CPU time that this program's processes but this one have used, in nanoseconds.
std::int64_t cpu_ns_of_others_of_this_program();

}  // namespace bench
