/// @file
/// The futex and the clock by themselves, for the floors that covey is measured against.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace bench {

inline void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, nullptr, nullptr, 0);
}
inline void futex_wake(const std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Runs `done` until it is true or about 5 µs have passed; what it returned last.
template <class Done>
bool spin_5us(const Done& done) noexcept {
  using clock = std::chrono::steady_clock;
  for (const clock::time_point end = clock::now() + std::chrono::microseconds(5); clock::now() < end;)
    for (int i = 0; i < 8; ++i) {
      if (done()) return true;
      pause_cpu();
    }
  return done();
}

}  // namespace bench
