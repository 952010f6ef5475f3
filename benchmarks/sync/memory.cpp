// What shared memory costs to have: new, and again. Memory counts when a byte of each page was written.
#include <covey/memory.hpp>
#include <benchmarks/harness/board.hpp>

#include <algorithm>

namespace bench {
namespace {

constexpr std::size_t mib = 1U << 20;
constexpr std::size_t new_bytes = 32 * mib;

void touch(std::byte* p, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 4096) p[at] = std::byte{1};
  asm volatile("" : : "r"(p) : "memory");
}

/// Milliseconds a MiB: the median of as many as fit in the window, but at least three.
template <class Take>
results each_mib(const settings& how, std::size_t bytes, const Take& take) {
  std::vector<std::uint32_t> samples;
  for (const std::int64_t end = now_ns() + how.window.count(); now_ns() < end || samples.size() < 3;) {
    const std::int64_t start = now_ns();
    take();
    samples.push_back(static_cast<std::uint32_t>(now_ns() - start));
  }
  return {{"ms", percentile(samples, 0.5) * 1e-6 / (static_cast<double>(bytes) / mib)}};
}

struct large {
  std::byte bytes[new_bytes];
  large() {}  // NOLINT: not zeroed twice
};

results covey_new(const settings& how) {
  return each_mib(how, new_bytes, [] {
    const auto p = covey::make_shared<large>();
    touch(p->bytes, new_bytes);
  });
}

results bare_mmap(const settings& how) {
  return each_mib(how, new_bytes, [] {
    void* const p = ::mmap(nullptr, new_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
    touch(static_cast<std::byte*>(p), new_bytes);
    ::munmap(p, new_bytes);
  });
}

template <class Allocator>
results reused(const settings& how, Allocator a) {
  return each_mib(how, mib, [&] {
    std::byte* const p = a.allocate(mib);
    touch(p, mib);
    a.deallocate(p, mib);
  });
}

results covey_reused(const settings& how) {
  const auto root = covey::make_shared<covey::vector<std::byte>>();
  return reused(how, root->get_allocator());
}

const at_start here([] {
  enroll("memory-new", "covey", covey_new);
  enroll("memory-new", "bare_mmap", bare_mmap);
  enroll("memory-reused", "covey", covey_reused);
  enroll("memory-reused", "malloc", [](const settings& how) { return reused(how, std::allocator<std::byte>()); });
});

}  // namespace
}  // namespace bench
