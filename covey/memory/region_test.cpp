// Regions come and go with those who hold them: what is left is read from the ledger and from the arena's file. Holders
// are killed for real.
#include <covey/memory/region.hpp>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory/named.hpp>
#include <covey/memory/shared_array.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>

#include <array>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::arena_in_use;
using covey::detail::arena_usage;
using covey::detail::family;
using covey::detail::region;
using covey::detail::region_kind;
using covey::detail::region_request;
using covey::testing::comes_back_to;
using covey::testing::eventually;
using covey::testing::settled;

// A plain region as an argument.
struct memory {
  using covey_handle = void;
  region r;
  void encode_handle(covey::detail::encoder& out) const { r.encode(out); }
  static memory decode_handle(covey::detail::decoder& in) { return {region::decode(in, region_kind::plain)}; }
};

int& first_int(const region& r) { return *reinterpret_cast<int*>(r.data()); }

TEST(Region, IsZeroedWholePagesOfItsOwn) {
  const region a(region_request{.bytes = 5000});
  const region b(region_request{.bytes = 1});
  EXPECT_EQ(a.size(), 8192U);
  EXPECT_EQ(b.size(), 4096U);
  for (std::uint64_t i = 0; i < a.size(); ++i) ASSERT_EQ(a.data()[i], std::byte{0});
  EXPECT_NE(a, b);
}

TEST(Region, LiesAtTheSameAddressInEveryProcess) {
  const memory m{region(region_request{.bytes = 4096})};
  first_int(m.r) = 41;
  covey::process p{[](memory there, std::uint64_t address) {
                     if (reinterpret_cast<std::uint64_t>(there.r.data()) != address) return 1;
                     return first_int(there.r)++ == 41 ? 0 : 2;
                   },
                   m, reinterpret_cast<std::uint64_t>(m.r.data())};
  EXPECT_EQ(p.join().code(), 0);
  EXPECT_EQ(first_int(m.r), 42);
}

// Which files of /dev/shm this process has open or mapped.
std::string files_in_dev_shm() {
  std::string found;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the one of this loop
    const std::string file = std::filesystem::read_symlink(fd, gone).string();
    if (file.starts_with("/dev/shm")) found += file + " ";
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(" /dev/shm") != std::string::npos) found += line + " ";
  return found;
}

TEST(Region, IsNeverAFileOfDevShm) {
  const auto shared = covey::make_shared_array<char>(1 << 20);
  const covey::queue<std::string> q{10};
  const covey::mutex m;
  const auto named = covey::open_or_create<int>("devshm." + std::to_string(::getpid()), 3);
  q.put(std::string(10'000, 'x'));
  EXPECT_EQ(files_in_dev_shm(), "");
  covey::process p{[](covey::shared_array<char> a, covey::queue<std::string> in, covey::mutex lock) {
                     const std::scoped_lock held(lock);
                     a[0] = in.get()->front();
                     return files_in_dev_shm().empty() ? 0 : 1;
                   },
                   shared, q, m};
  EXPECT_EQ(p.join().code(), 0);
  EXPECT_EQ(shared[0], 'x');
}

TEST(Region, IsNotMappedByThoseWhoDoNotHoldIt) {
  const region mine(region_request{.bytes = 4096});
  covey::process stranger{[](std::uint64_t address) { *reinterpret_cast<volatile int*>(address) = 1; },
                          reinterpret_cast<std::uint64_t>(mine.data())};
  EXPECT_EQ(stranger.join().signal(), SIGSEGV);
  EXPECT_EQ(first_int(mine), 0);
}

TEST(Region, IsFreedWithItsLastHandle) {
  const arena_usage before = settled();
  {
    const region a(region_request{.bytes = 1 << 20});
    const region copy = a;
    EXPECT_EQ(arena_in_use().bytes, before.bytes + (1 << 20));
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, IsReusedEmpty) {
  std::uint64_t id = 0;
  {
    const region a(region_request{.bytes = 4096});
    first_int(a) = 1;
    id = a.id();
  }
  for (int i = 0; i < 100; ++i) {
    const region again(region_request{.bytes = 4096});
    EXPECT_NE(again.id(), id);
    EXPECT_EQ(first_int(again), 0);
    first_int(again) = 1;
  }
}

TEST(Region, OutlivesItsMakerAndGoesWhenTheLastHolderEnds) {
  const arena_usage before = settled();
  {
    covey::event go;
    covey::process holder;
    {
      const memory m{region(region_request{.bytes = 1 << 16})};
      first_int(m.r) = 7;
      holder = covey::process{[](memory there, covey::event e) {
                                e.wait();
                                return first_int(there.r);
                              },
                              m, go};
    }
    go.set();
    EXPECT_EQ(holder.join().code(), 7);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, GoesWhenItsLastHolderIsKilled) {
  const arena_usage before = settled();
  {
    covey::event holds;
    covey::process holder{covey::process_options{.daemon = true},
                          [](covey::event e) {
                            const region own(region_request{.bytes = 1 << 20});
                            e.set();
                            for (;;) ::pause();
                          },
                          holds};
    holds.wait();
    EXPECT_GE(arena_in_use().bytes, before.bytes + (1 << 20));
    holder.kill();
    holder.join();
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, GoesWithArgumentsThatNobodyTook) {
  const arena_usage before = settled();
  for (int i = 0; i < 20; ++i) {
    const memory m{region(region_request{.bytes = 4096})};
    covey::process p{covey::process_options{.daemon = true}, [](memory) { ::pause(); }, m};
    p.kill();  // often before it decodes
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, IsHeldByAnotherRegion) {
  const arena_usage before = settled();
  {
    const region outer(region_request{.bytes = 4096});
    auto* const inside = new (outer.data()) region;
    {
      const region inner(region_request{.bytes = 4096});
      first_int(inner) = 5;
      *inside = inner;
    }
    EXPECT_EQ(first_int(*inside), 5);
    EXPECT_EQ(arena_in_use().regions, before.regions + 2);
    // Not destroyed: the keeper drops what a region holds when the region goes.
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, MayBeReassignedInsideAnotherWithoutKeepingWhatItNamed) {
  const arena_usage before = settled();
  {
    const memory outer{region(region_request{.bytes = 4096})};
    auto* const inside = new (outer.r.data()) region;
    covey::event looked;
    covey::event go;
    *inside = region(region_request{.bytes = 1 << 20});
    covey::process reader{[](memory o, covey::event l, covey::event g) {
                            const auto& there = *reinterpret_cast<const region*>(o.r.data());
                            first_int(there) = 1;
                            l.set();
                            g.wait();
                            return first_int(there);  // another by now: the one before goes
                          },
                          outer, looked, go};
    looked.wait();
    for (int i = 0; i < 50; ++i) {
      *inside = region(region_request{.bytes = 1 << 20});
      first_int(*inside) = 9;
    }
    EXPECT_TRUE(eventually([&] { return arena_in_use().bytes < before.bytes + (5 << 20); }));
    go.set();
    EXPECT_EQ(reader.join().code(), 9);
    inside->~region();
  }
  EXPECT_TRUE(comes_back_to(before));
}

// One thread uses a handle inside a region while others make and drop copies of their own.
TEST(Region, StaysMappedForWhoeverUsesItThroughAnother) {
  const region outer(region_request{.bytes = 4096});
  auto* const inside = new (outer.data()) region;
  *inside = region(region_request{.bytes = 4096});
  std::atomic<bool> stop = false;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      while (!stop) {
        const region copy = *inside;
        (void)copy.size();
      }
    });
  for (int i = 0; i < 20'000; ++i) {
    auto* const value = reinterpret_cast<std::atomic<int>*>(inside->data());
    value->fetch_add(1, std::memory_order_relaxed);
  }
  stop = true;
  threads.clear();
  EXPECT_EQ(first_int(*inside), 20'000);
  inside->~region();
}

TEST(Region, IsHeldByAForkedMemberAsByItsParent) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "the thread sanitizer has a thread of its own, and forked() refuses a program with two";
#endif
#endif
  const arena_usage before = settled();
  {
    covey::event go;
    covey::process child;
    {
      const region m(region_request{.bytes = 1 << 16});
      first_int(m) = 3;
      child = covey::process::forked([m, go]() -> int {
        go.wait();
        return first_int(m);
      });
    }
    go.set();
    EXPECT_EQ(child.join().code(), 3);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, SurvivesItsKeeper) {
  const arena_usage before = settled();
  {
    const memory m{region(region_request{.bytes = 1 << 16})};
    first_int(m.r) = 1;
    for (int i = 0; i < 10; ++i) {
      const pid_t keeper = family.book->keeper_pid;
      ::kill(keeper, SIGKILL);
      const region other(region_request{.bytes = 1 << 16});
      covey::process p{[](memory there) { ++first_int(there.r); }, m};
      EXPECT_EQ(p.join().code(), 0);
      EXPECT_TRUE(eventually([&] { return family.book->keeper_pid != keeper; }));
    }
    EXPECT_EQ(first_int(m.r), 11);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, ThatCannotBeHadIsAnException) {
  const arena_usage before = settled();
  EXPECT_THROW(region(region_request{.bytes = family.arena_bytes * 2, .committed = 0}), std::system_error);
  EXPECT_THROW(region(region_request{.bytes = ~0ULL, .committed = 0}), std::system_error);
  {
    // Address space runs out before anything else does.
    std::vector<region> all;
    const std::uint64_t each = family.arena_bytes / 8;
    EXPECT_THROW(
        {
          for (;;) all.emplace_back(region_request{.bytes = each, .committed = 0});
        },
        std::system_error);
    EXPECT_GE(all.size(), 6U);
    const region small(region_request{.bytes = 4096});
    EXPECT_EQ(first_int(small), 0);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(Region, RefusesToBeDecodedAsAnotherKindOrWhenGone) {
  covey::detail::encoder out;
  {
    const region plain(region_request{.bytes = 4096});
    plain.encode(out);
    covey::detail::decoder in{out.bytes};
    EXPECT_THROW(region::decode(in, region_kind::mutex), covey::bad_message);
  }
  EXPECT_TRUE(eventually([&] {
    covey::detail::decoder in{out.bytes};
    try {
      (void)region::decode(in, region_kind::plain);
    } catch (const covey::bad_message&) {
      return true;
    }
    return false;
  }));
  for (const std::uint64_t nonsense : {~0ULL, 1ULL << 40, 0xffffffffULL}) {
    std::array<std::byte, 8> bytes;
    std::memcpy(bytes.data(), &nonsense, 8);
    covey::detail::decoder in{bytes};
    EXPECT_THROW(region::decode(in, region_kind::plain), covey::bad_message);
  }
}

}  // namespace
