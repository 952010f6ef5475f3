// Tour 3: a crash costs one task, not the program.
#include <fmt/format.h>
#include <covey/pool.hpp>

#include <csignal>

namespace {

// Not inlined, so that it has a frame of its own to be named.
[[gnu::noinline]] void write_to(volatile int* p) {
  asm volatile("");
  *p = 1;
}

}  // namespace

int main() {
  covey::process_pool pool{{.workers = 2}};
  auto bad = pool.submit([] { write_to(nullptr); });
  auto good = pool.submit([] { return 42; });
  auto twice = pool.submit(covey::task_options{.retries = 1}, [] { std::abort(); });

  try {
    bad.get();
  } catch (const covey::worker_died& e) {                                 // SIGSEGV, and the frames with their names
    fmt::print("signal {} in {}\n", e.signal(), e.backtrace().front().function);
  }
  try {
    twice.get();
  } catch (const covey::worker_died& e) {
    fmt::print("{}\n", e.what());
  }
  fmt::print("{}\n", good.get());  // 42: the pool has already replaced the workers
  fmt::print("workers replaced: {}\n", pool.workers_replaced());
}
