#include <benchmarks/harness/board.hpp>

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace bench {

void sleep_ns(std::int64_t ns) noexcept {
  const timespec t{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  ::nanosleep(&t, nullptr);
}

double percentile(std::span<std::uint32_t> samples, double share) {
  if (samples.empty()) throw std::runtime_error("no samples were taken");
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(samples.size())));
  const auto nth = samples.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
  std::nth_element(samples.begin(), nth, samples.end());
  return *nth;
}

results percentiles(board& b) {
  const std::span samples(b.samples_ns, b.sample_count.load(std::memory_order_acquire));
  return {{"p50", percentile(samples, 0.50)}, {"p99", percentile(samples, 0.99)}};
}

std::int64_t cpu_ns_of_others_of_this_program() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe");
  std::int64_t sum = 0;
  for (const fs::directory_entry& process : fs::directory_iterator("/proc")) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(::getpid())) continue;
    if (fs::read_symlink(process.path() / "exe", ignored) != self) continue;
    for (const fs::directory_entry& thread : fs::directory_iterator(process.path() / "task", ignored)) {
      std::int64_t ran = 0;
      if (std::ifstream(thread.path() / "schedstat") >> ran) sum += ran;
    }
  }
  return sum;
}

}  // namespace bench
