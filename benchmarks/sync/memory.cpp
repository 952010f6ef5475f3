// What shared memory costs to have: new, written, and again. All of it is there when it was made: touching it cannot
// fail. Memory is written when a byte of each page was.
#include <covey/memory.hpp>
#include <benchmarks/harness/board.hpp>
#include <benchmarks/harness/bytes.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <memory>
#include <system_error>
#include <vector>

namespace bench {
namespace {

constexpr std::size_t mib = 1U << 20;
constexpr std::size_t new_bytes = 32 * mib;

void touch(std::byte* p, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 4096) p[at] = std::byte{1};
  asm volatile("" : : "r"(p) : "memory");
}

/// Milliseconds a MiB that `take` needs: the median of as many as fit in the window, but at least three. What it
/// returns is given back outside of that time.
template <class Take>
results each_mib(const settings& how, std::size_t bytes, std::int64_t rest_ns, const Take& take) {
  std::vector<std::uint32_t> samples;
  for (const std::int64_t end = now_ns() + how.window.count(); now_ns() < end || samples.size() < 3;) {
    const std::int64_t start = now_ns();
    {
      [[maybe_unused]] const auto held = take();
      samples.push_back(static_cast<std::uint32_t>(now_ns() - start));
    }
    if (rest_ns != 0) sleep_ns(rest_ns);
  }
  return {{"ms", percentile(samples, 0.5) * 1e-6 / (static_cast<double>(bytes) / mib)}};
}

// Whoever takes it back, perhaps another process, has done so before the next.
constexpr std::int64_t taken_back_ns = 10'000'000;

results covey_new(const settings& how) {
  return each_mib(how, new_bytes, taken_back_ns, [] { return covey::make_shared_array<std::byte>(new_bytes); });
}

results covey_written(const settings& how) {
  return each_mib(how, new_bytes, taken_back_ns, [] {
    auto p = covey::make_shared_array<std::byte>(new_bytes, {.populate = true});
    touch(p.data(), new_bytes);
    return p;
  });
}

struct unmap {
  void operator()(std::byte* p) const noexcept { ::munmap(p, new_bytes); }
};
using mapping = std::unique_ptr<std::byte, unmap>;

mapping mapped(int fd, int flags) {
  void* const p = ::mmap(nullptr, new_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
  if (p == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  return mapping(static_cast<std::byte*>(p));
}

results bare_memfd(const settings& how) {
  return each_mib(how, new_bytes, taken_back_ns, [] {
    const int fd = ::memfd_create("bare", MFD_CLOEXEC);
    check(fd, "memfd_create");
    check(::ftruncate(fd, new_bytes), "ftruncate");
    check(::fallocate(fd, 0, 0, new_bytes), "fallocate");
    mapping p = mapped(fd, 0);
    ::close(fd);
    return p;
  });
}

results bare_mmap(const settings& how) {
  return each_mib(how, new_bytes, taken_back_ns, [] {
    mapping p = mapped(-1, MAP_ANONYMOUS);
    touch(p.get(), new_bytes);
    return p;
  });
}

template <class Allocator>
results reused(const settings& how, Allocator a) {
  return each_mib(how, mib, 0, [&] {
    std::byte* const p = a.allocate(mib);
    touch(p, mib);
    a.deallocate(p, mib);
    return nullptr;
  });
}

results covey_reused(const settings& how) {
  const auto root = covey::make_shared<covey::vector<std::byte>>();
  return reused(how, root->get_allocator());
}

const at_start here([] {
  enroll("memory-new", "covey", covey_new);
  enroll("memory-new", "bare_memfd", bare_memfd);
  enroll("memory-written", "covey", covey_written);
  enroll("memory-written", "bare_mmap", bare_mmap);
  enroll("memory-reused", "covey", covey_reused);
  enroll("memory-reused", "malloc", [](const settings& how) { return reused(how, std::allocator<std::byte>()); });
});

}  // namespace
}  // namespace bench
