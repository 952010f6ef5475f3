#include <covey/memory/memory_left.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace covey::detail {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t allowance_max = 64 << 20;
constexpr std::uint64_t allowance_part = 64;  // of what is left
// What a program needs besides, to say that there is no memory; and what processes may still take that looked before
// others took the rest.
constexpr std::uint64_t left_for_others = 16 << 20;

// The number after `key` in a file of "key number" lines; `otherwise` when there is none.
std::uint64_t number_in(const std::string& path, const std::string& key, std::uint64_t otherwise) {
  std::ifstream file(path);
  std::string word;
  std::uint64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    if (in >> word >> number && word == key) return number;
  }
  return otherwise;
}

// The number that is all there is in a file; "max", and a file that is not there, are no limit.
std::uint64_t number_of(const std::string& path) {
  std::uint64_t number = 0;
  return std::ifstream(path) >> number ? number : unlimited;
}

// A control group that may have a memory limit.
struct memory_group {
  std::string folder;
  bool v2;

  [[nodiscard]] std::uint64_t left() const {
    const std::uint64_t limit = number_of(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    if (limit >= unlimited / 4) return unlimited;
    const std::uint64_t used = number_of(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    // The cache of files counts, and goes when it must.
    const std::uint64_t cache = number_in(folder + "/memory.stat", v2 ? "inactive_file" : "total_inactive_file", 0);
    const std::uint64_t needed = used > cache ? used - cache : 0;
    return limit > needed ? limit - needed : 0;
  }
};

// This process's group and all around it, in a hierarchy mounted at `root`.
void add_groups(std::vector<memory_group>& to, const std::string& root, std::string path, bool v2) {
  for (;;) {
    to.push_back({root + path, v2});
    const auto slash = path.find_last_of('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

std::vector<memory_group> groups_around() {
  std::vector<memory_group> all;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) add_groups(all, "/sys/fs/cgroup", path, true);
    if (controllers == "memory") add_groups(all, "/sys/fs/cgroup/memory", path, false);
  }
  return all;
}

}  // namespace

std::uint64_t memory_left_approx() {
  const std::uint64_t kibibytes = number_in("/proc/meminfo", "MemAvailable:", unlimited / 1024);
  std::uint64_t left = kibibytes * 1024;
  for (const memory_group& g : groups_around()) left = std::min(left, g.left());
  return left;
}

result<void> expect_memory(std::uint64_t bytes) {
  // Looking costs as much as half a MiB: what may be taken before the next look is remembered.
  static std::atomic<std::uint64_t> allowance{0};
  for (std::uint64_t allowed = allowance.load(std::memory_order_relaxed); bytes <= allowed;)
    if (allowance.compare_exchange_weak(allowed, allowed - bytes, std::memory_order_relaxed)) return {};
  const std::uint64_t left = memory_left_approx();
  const std::uint64_t usable = left > left_for_others ? left - left_for_others : 0;
  if (bytes > usable)
    return from_errno(ENOMEM, "reserve " + std::to_string(bytes) + " bytes of shared memory, of " +
                                  std::to_string(left) + " that the system has left");
  allowance.store(std::min((usable - bytes) / allowance_part, allowance_max), std::memory_order_relaxed);
  return {};
}

bool commit_huge_pages(std::byte* begin, std::uint64_t bytes) noexcept {
  // Not fallocate: it makes small pages unless the system makes huge ones unasked.
  return ::madvise(begin, bytes, MADV_HUGEPAGE) == 0 && why_no_huge_pages().empty() && expect_memory(bytes) &&
         ::madvise(begin, bytes, MADV_POPULATE_WRITE) == 0;
}

std::string why_no_huge_pages() {
  const std::string path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  std::string setting;
  if (!std::getline(std::ifstream(path), setting)) return "the kernel has no huge pages for shared memory: no " + path;
  if (setting.find("[never]") == std::string::npos && setting.find("[deny]") == std::string::npos) return {};
  return path + " is '" + setting + "': 'advise' would allow them";
}

}  // namespace covey::detail
