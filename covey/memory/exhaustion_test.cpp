// What covey does when the system has no more: each case is this program started anew under limits that it cannot lift.
// It must get an exception that says what is missing, lose nothing that it has, and go on when there is room again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/process/pollable.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <system_error>
#include <vector>

namespace {

using covey::detail::arena_in_use;
using covey::detail::arena_usage;
using covey::testing::eventually;
using covey::testing::settled;

// Runs test Limited.DISABLED_`name` in a fresh program, after `limit` ran in its process; its wait status.
int run_limited(const std::string& name, const std::function<void()>& limit) {
  const std::string filter = "--gtest_filter=Limited.DISABLED_" + name;
  const pid_t pid = ::fork();
  if (pid == 0) {
    limit();
    ::execl("/proc/self/exe", "limited", filter.c_str(), "--gtest_also_run_disabled_tests", nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

void set_limit(int what, rlim_t soft, rlim_t hard) {
  const rlimit both{soft, hard};
  ASSERT_EQ(::setrlimit(static_cast<__rlimit_resource>(what), &both), 0);
}

// The error of `what`, or no_error.
template <class What>
std::error_code error_of(const What& what) {
  try {
    what();
  } catch (const std::system_error& e) {
    std::printf("  says: %s\n", e.what());
    return e.code();
  }
  return {};
}

// ---- RLIMIT_FSIZE --------------------------------------------------------------------------------------------------

TEST(FileSizeLimit, ThatTheProgramMayRaiseIsOfNoMatter) {
  EXPECT_EQ(run_limited("SharesMemory", [] { set_limit(RLIMIT_FSIZE, 4096, RLIM_INFINITY); }), 0);
}

TEST(FileSizeLimit, ThatIsTooLowForTheFamilyIsOneClearError) {
  EXPECT_EQ(run_limited("HasNoFamily", [] { set_limit(RLIMIT_FSIZE, 4096, 4096); }), 0);
}

TEST(FileSizeLimit, MakesTheArenaSmaller) {
  EXPECT_EQ(run_limited("HasASmallArena", [] { set_limit(RLIMIT_FSIZE, 2ULL << 30, 2ULL << 30); }), 0);
}

TEST(Limited, DISABLED_SharesMemory) {
  const arena_usage before = settled();
  {
    const auto numbers = covey::make_shared<covey::vector<int>>(1'000'000, 1);
    covey::process p{[](covey::shared_ptr<covey::vector<int>> v) {
                       v->resize(3'000'000, 2);
                       return v->back();
                     },
                     numbers};
    EXPECT_EQ(p.join().code(), 2);
    // What goes through a file of its own does not, and says so instead of ending the program.
    const std::string long_argument(1 << 20, 'x');
    EXPECT_EQ(error_of([&] { covey::process([](const std::string&) {}, long_argument); }), std::errc::file_too_large);
    EXPECT_EQ(covey::process([] { return 3; }).join().code(), 3);
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

TEST(Limited, DISABLED_HasNoFamily) {
  EXPECT_EQ(error_of([] { (void)covey::make_shared<int>(1); }), std::errc::file_too_large);
  EXPECT_EQ(error_of([] { covey::process([] {}); }), std::errc::file_too_large);
}

TEST(Limited, DISABLED_HasASmallArena) {
  EXPECT_LE(covey::detail::family.arena_bytes, 2ULL << 30);
  const auto s = covey::make_shared<covey::string>("small is enough");
  covey::process p{[](covey::shared_ptr<covey::string> t) { return static_cast<int>(t->size()); }, s};
  EXPECT_EQ(p.join().code(), 15);
  EXPECT_EQ(error_of([] { (void)covey::make_shared_array<char>(3ULL << 30); }), std::errc::not_enough_memory);
}

// Its check of virtual tables reads through a pipe.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool checked_through_pipes = true;
#else
constexpr bool checked_through_pipes = false;
#endif
#else
constexpr bool checked_through_pipes = false;
#endif

#if defined(__has_feature)
constexpr bool has_large_shadows = __has_feature(thread_sanitizer);
#else
constexpr bool has_large_shadows = false;
#endif

// ---- no space left on device ---------------------------------------------------------------------------------------

// From now on the kernel has no page more for this process to reserve.
void leave_no_space() {
  const auto refuse = [](std::uint32_t call, std::uint32_t error) {
    return std::vector<sock_filter>{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
                                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error)};
  };
  std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const auto& part : {refuse(SYS_fallocate, ENOSPC), refuse(SYS_madvise, EFAULT)})
    filter.insert(filter.end(), part.begin(), part.end());
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog all{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) < 0)
    throw std::system_error(errno, std::system_category(), "seccomp");
}

TEST(Space, ThatIsNotThereIsAnErrorAndLosesNothing) {
  const arena_usage before = settled();
  {
    const auto numbers = covey::make_shared<covey::vector<int>>(1000, 7);
    const covey::queue<std::string> q{10};
    const covey::queue<std::vector<char>> lent{{.items = 10, .bytes = 4 << 20}};
    const covey::broadcast<std::string> news{{.items = 10, .bytes = 4 << 20}};
    const auto heard = news.subscribe();
    const covey::guarded<std::string> box{"small"};
    const auto name = "exhausted." + std::to_string(::getpid());
    covey::process poor{
        [](covey::shared_ptr<covey::vector<int>> v, covey::queue<std::string> out,
           covey::queue<std::vector<char>> lends, covey::broadcast<std::string> tells,
           covey::guarded<std::string> holds, const std::string& named) {
          out.put("before");
          tells.put("before");
          leave_no_space();
          int errors = 0;
          errors += error_of([] { (void)covey::make_shared_array<char>(1 << 20); }) == std::errc::no_space_on_device;
          errors += error_of([&] { out.put(std::string(1 << 20, 'x')); }) == std::errc::no_space_on_device;
          errors += error_of([] { covey::queue<int>{100}; }) == std::errc::no_space_on_device;
          // Also the tenth time: what could not be had takes no room in the queue.
          for (int i = 0; i < 10; ++i)
            errors += error_of([&] { (void)lends.try_loan(1 << 20); }) == std::errc::no_space_on_device;
          errors += error_of([&] { tells.put(std::string(1 << 20, 'x')); }) == std::errc::no_space_on_device;
          errors += error_of([&] { holds.store(std::string(1 << 20, 'x')); }) == std::errc::no_space_on_device;
          errors += error_of([&] { (void)covey::create<long>(named, 1L); }) == std::errc::no_space_on_device;
          try {
            for (;;) v->insert(v->end(), 1000, 7);
          } catch (const std::bad_alloc&) {
            ++errors;
          }
          out.put("afterwards");  // what lies in reserved memory goes on
          tells.put("afterwards");
          return errors;
        },
        numbers,
        q,
        lent,
        news,
        box,
        name};
    EXPECT_EQ(poor.join().code(), 17);
    EXPECT_EQ(box.load(), "small");
    EXPECT_EQ(heard.get(), "before");
    EXPECT_EQ(heard.get(), "afterwards");
    EXPECT_EQ(lent.size(), 0U);
    EXPECT_EQ(*covey::create<long>(name, 2L), 2);
    EXPECT_EQ(q.get(), "before");
    EXPECT_EQ(q.get(), "afterwards");
    q.task_done();
    EXPECT_EQ(q.size(), 0U);
    EXPECT_EQ(numbers->size() % 1000, 0U);
    EXPECT_TRUE(std::ranges::all_of(*numbers, [](int n) { return n == 7; }));
    numbers->resize(1'000'000);  // others have room
    q.put(std::string(1 << 20, 'y'));
    EXPECT_EQ(q.get()->size(), 1U << 20);
    q.task_done();
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

// ---- descriptors ---------------------------------------------------------------------------------------------------

TEST(DescriptorLimit, OfTheProgramIsAnErrorAndLosesNothing) {
  if (checked_through_pipes) GTEST_SKIP() << "the sanitizer itself needs descriptors, and takes their lack for errors";
  EXPECT_EQ(run_limited("RunsOutOfDescriptors", [] {}), 0);
}

TEST(DescriptorLimit, OfTheKeeperIsAnErrorAndLosesNothing) {
  EXPECT_EQ(run_limited("OverloadsTheKeeper", [] {}), 0);
}

TEST(DescriptorLimit, TooLowForTheFamilyIsOneClearError) {
  if (checked_through_pipes) GTEST_SKIP() << "the sanitizer itself needs descriptors, and takes their lack for errors";
  EXPECT_EQ(run_limited("HasNoDescriptors", [] { set_limit(RLIMIT_NOFILE, 7, 7); }), 0);
}

TEST(Limited, DISABLED_RunsOutOfDescriptors) {
  const arena_usage before = settled();
  {
    covey::queue<covey::shared_ptr<int>> q{100};
    const auto kept = covey::make_shared<int>(5);
    rlimit old{};
    ::getrlimit(RLIMIT_NOFILE, &old);
    // Highest in use: from here on, nothing can be opened.
    const int highest = ::dup(0);
    ::close(highest);
    set_limit(RLIMIT_NOFILE, static_cast<rlim_t>(highest), old.rlim_max);
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(error_of([&] { covey::process([](covey::shared_ptr<int>) {}, kept); }), std::errc::too_many_files_open);
    }
    const std::string name = "limited." + std::to_string(::getpid());
    EXPECT_EQ(error_of([&] { covey::pollable{q}; }), std::errc::too_many_files_open);
    EXPECT_EQ(error_of([&] { (void)covey::create<int>(name, 1); }), std::errc::too_many_files_open);
    EXPECT_EQ(error_of([&] { (void)covey::open_or_create<int>(name, 1); }), std::errc::too_many_files_open);
    EXPECT_EQ(error_of([&] { (void)covey::attach<int>(name); }), std::errc::too_many_files_open);
    // What needs no descriptor goes on: memory, messages, references.
    for (int i = 0; i < 50; ++i) q.put(covey::make_shared<int>(i));
    auto in = q.reader();
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(**in.get(), i);
      in.task_done();
    }
    set_limit(RLIMIT_NOFILE, old.rlim_cur, old.rlim_max);
    EXPECT_EQ(covey::process([](covey::shared_ptr<int> n) { return *n; }, kept).join().code(), 5);
    EXPECT_EQ(*covey::create<int>(name, 6), 6);
    // In a worker: its line to the keeper is not made yet, so even memory is refused; afterwards all is well.
    covey::process worker{[](covey::event go) {
                            rlimit mine{};
                            ::getrlimit(RLIMIT_NOFILE, &mine);
                            const rlimit none{0, mine.rlim_max};
                            ::setrlimit(RLIMIT_NOFILE, &none);
                            const auto refused = error_of([] { covey::process([] {}); });
                            ::setrlimit(RLIMIT_NOFILE, &mine);
                            go.set();
                            return refused == std::errc::too_many_files_open ? *covey::make_shared<int>(7) : 1;
                          },
                          covey::event()};
    EXPECT_EQ(worker.join().code(), 7);
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

// The keeper may open `more` beside what it has open now.
void limit_the_keeper(rlim_t more) {
  const pid_t keeper = covey::detail::family.book->keeper_pid.load();
  const std::filesystem::directory_iterator open("/proc/" + std::to_string(keeper) + "/fd");
  const auto limit = static_cast<rlim_t>(std::distance(begin(open), end(open))) + more;
  const rlimit both{limit, limit};
  ASSERT_EQ(::prlimit(keeper, RLIMIT_NOFILE, &both, nullptr), 0);
}

// A start takes seven descriptors of the keeper's for its time, and a worker that lives keeps one.
TEST(Limited, DISABLED_OverloadsTheKeeper) {
  const arena_usage before = settled();
  {
    covey::event go;
    const auto shared = covey::make_shared<std::atomic<int>>(0);
    const auto lives = covey::make_shared<std::atomic<std::size_t>>(0U);
    limit_the_keeper(12);
    std::vector<covey::process> workers;
    std::error_code refused;
    while (workers.size() < 40 && !refused) {
      refused = error_of([&] {
        workers.emplace_back(
            [](covey::event e, covey::shared_ptr<std::atomic<int>> n, covey::shared_ptr<std::atomic<std::size_t>> l) {
              ++*l;
              e.wait();
              ++*n;
            },
            go, shared, lives);
      });
      EXPECT_TRUE(eventually([&] { return *lives == workers.size(); }));
    }
    EXPECT_EQ(refused, std::errc::too_many_files_open);
    EXPECT_GT(workers.size(), 1U);
    go.set();
    const auto started = static_cast<int>(workers.size());
    int succeeded = 0;
    for (auto& w : workers) succeeded += w.join().success();
    EXPECT_EQ(succeeded, started);
    EXPECT_EQ(*shared, started);
    workers.clear();
    EXPECT_EQ(covey::process([] { return 4; }).join().code(), 4);
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

TEST(Limited, DISABLED_HasNoDescriptors) {
  EXPECT_EQ(error_of([] { (void)covey::make_shared<int>(1); }), std::errc::too_many_files_open);
}

// ---- memory --------------------------------------------------------------------------------------------------------

// A control group of its own below this process's, v1 or v2; gone with it.
class small_group {
 public:
  explicit small_group(std::uint64_t bytes) {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      const auto second = line.find(':', line.find(':') + 1);
      const std::string path = line.substr(second + 1);
      if (line.find(":memory:") != std::string::npos)
        try_at("/sys/fs/cgroup/memory" + path, "memory.limit_in_bytes", bytes);
      if (line.starts_with("0::")) try_at("/sys/fs/cgroup" + path, "memory.max", bytes);
    }
  }
  small_group(const small_group&) = delete;
  small_group& operator=(const small_group&) = delete;
  ~small_group() {
    if (!folder_.empty()) (void)eventually([&] { return ::rmdir(folder_.c_str()) == 0; });
  }

  explicit operator bool() const { return !folder_.empty(); }
  void enter() const { std::ofstream(folder_ + "/cgroup.procs") << ::getpid(); }

 private:
  void try_at(const std::string& parent, const char* limit, std::uint64_t bytes) {
    const std::string folder = parent + "/covey_test." + std::to_string(::getpid());
    if (!folder_.empty() || ::mkdir(folder.c_str(), 0755) < 0) return;
    folder_ = folder;
    if (!(std::ofstream(folder + "/" + limit) << bytes << std::flush)) {
      ::rmdir(folder.c_str());
      folder_.clear();
    }
  }
  std::string folder_;
};

TEST(MemoryLimit, OfAContainerIsAnExceptionAndNotAKill) {
  if (has_large_shadows) GTEST_SKIP() << "the sanitizer's own memory fills the control group";
  const small_group group(128 << 20);
  if (!group) GTEST_SKIP() << "this process may not make a control group with a memory limit";
  EXPECT_EQ(run_limited("FillsItsContainer", [&] { group.enter(); }), 0);
}

TEST(MemoryLimit, OfAContainerIsAnExceptionForAllWhoFillItTogether) {
  if (has_large_shadows) GTEST_SKIP() << "the sanitizer's own memory fills the control group";
  const small_group group(192 << 20);
  if (!group) GTEST_SKIP() << "this process may not make a control group with a memory limit";
  EXPECT_EQ(run_limited("IsFilledBySeveral", [&] { group.enter(); }), 0);
}

// Fills the container; how many arrays it got.
std::size_t fill_with_arrays(std::vector<covey::shared_array<char>>& arrays) {
  try {
    for (;;) {
      arrays.push_back(covey::make_shared_array<char>(300'000));
      std::memset(arrays.back().data(), 'x', arrays.back().size());
    }
  } catch (const std::exception&) {
    return arrays.size();
  }
}

// The first one looked how much there is before the others took it.
TEST(Limited, DISABLED_IsFilledBySeveral) {
  const covey::event looked;
  const covey::latch others_full{3};
  const covey::latch all_full{4};
  std::vector<covey::process> fillers;
  fillers.emplace_back(
      [](covey::event has_looked, covey::latch before, covey::latch full) {
        std::vector<covey::shared_array<char>> arrays{covey::make_shared_array<char>(300'000)};
        has_looked.set();
        before.wait();
        fill_with_arrays(arrays);
        full.arrive_and_wait();  // nobody makes room for the others
        return 0;
      },
      looked, others_full, all_full);
  for (int i = 0; i < 3; ++i)
    fillers.emplace_back(
        [](covey::event somebody_looked, covey::latch me_too, covey::latch full) {
          somebody_looked.wait();
          std::vector<covey::shared_array<char>> arrays;
          const std::size_t filled = fill_with_arrays(arrays);
          me_too.count_down();
          full.arrive_and_wait();
          return filled >= 10 ? 0 : 1;
        },
        looked, others_full, all_full);
  for (covey::process& p : fillers) EXPECT_EQ(p.join().code(), 0);
}

TEST(Limited, DISABLED_FillsItsContainer) {
  const arena_usage before = settled();
  {
    EXPECT_EQ(error_of([] { (void)covey::make_shared_array<char>(256 << 20); }), std::errc::not_enough_memory);
    const auto numbers = covey::make_shared<covey::vector<covey::vector<char>>>();
    EXPECT_THROW(
        {
          for (;;) numbers->emplace_back(12 << 20, 'x');
        },
        std::bad_alloc);
    EXPECT_GE(numbers->size(), 3U);
    for (const auto& part : *numbers) EXPECT_EQ(part.back(), 'x');
    numbers->clear();
    std::vector<covey::shared_array<char>> the_rest;
    (void)fill_with_arrays(the_rest);
    EXPECT_THROW(
        {
          for (;;)
            numbers->emplace_back(50 << 10, 'z');  // many small ones fit where the large were, and fill it as well
        },
        std::bad_alloc);
    EXPECT_GE(numbers->size(), 500U);
    numbers->clear();
    the_rest.clear();
    using small = std::array<char, 30'000>;
    const auto fill_with_objects = [] {
      std::vector<covey::shared_ptr<small>> objects;
      for (;;) objects.push_back(covey::make_shared<small>());
    };
    EXPECT_EQ(error_of(fill_with_objects), std::errc::not_enough_memory);
    EXPECT_EQ(covey::process(
                  [](covey::shared_ptr<covey::vector<covey::vector<char>>> v) {
                    v->emplace_back(8 << 20, 'y');
                    return static_cast<int>(v->size());
                  },
                  numbers)
                  .join()
                  .code(),
              1);
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

}  // namespace
