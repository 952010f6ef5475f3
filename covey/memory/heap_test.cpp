// A heap in a region of its own: what it gives is checked by filling it, and where the bytes are by counting them.
// Owners die as threads that end while they hold the lock, and as processes killed at random.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/memory/allocator.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using covey::detail::heap;
using covey::detail::heap_usage;

struct nothing {};

// A root with an empty heap.
class HeapTest : public ::testing::Test {
 protected:
  covey::shared_ptr<nothing> root_ = covey::make_shared<nothing>();
  heap& heap_ = reinterpret_cast<covey::detail::root*>(covey::detail::object_around(root_.get()))->memory;
};

struct block {
  std::byte* p;
  std::size_t bytes;
  std::size_t align;
  std::byte fill;
};

TEST_F(HeapTest, GivesBlocksOfTheSizeAndAlignmentThatDoNotOverlap) {
  std::mt19937 random(1);
  std::vector<block> blocks;
  for (int i = 0; i < 20'000; ++i) {
    if (!blocks.empty() && random() % 100 < 47) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      const block b = blocks.back();
      for (const std::size_t at : {std::size_t{0}, b.bytes / 2, b.bytes - 1}) ASSERT_EQ(b.p[at], b.fill);
      heap_.deallocate(b.p, b.bytes, b.align);
      blocks.pop_back();
      continue;
    }
    const std::size_t bytes = 1 + (random() % 50 == 0 ? random() % 100'000 : random() % 600);
    const std::size_t align = 1U << (random() % 20 == 0 ? random() % 13 : random() % 7);
    auto* const p = static_cast<std::byte*>(heap_.allocate(bytes, align));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0U);
    ASSERT_TRUE(heap_.contains(p) && heap_.contains(p + bytes - 1));
    const auto fill = static_cast<std::byte>(random());
    std::memset(p, static_cast<int>(fill), bytes);
    blocks.push_back({p, bytes, align, fill});
  }
  EXPECT_EQ(heap_.usage().stranded, 0U);
  for (const block& b : blocks) heap_.deallocate(b.p, b.bytes, b.align);
  const heap_usage after = heap_.usage();
  EXPECT_EQ(after.used, 0U);
  EXPECT_EQ(after.stranded, 0U);
}

TEST_F(HeapTest, UsesFreedBlocksAgain) {
  std::vector<void*> blocks;
  for (int i = 0; i < 1000; ++i) blocks.push_back(heap_.allocate(48, 8));
  for (void* p : blocks) heap_.deallocate(p, 48, 8);
  const std::uint64_t committed = heap_.usage().committed;
  for (int i = 0; i < 1000; ++i) blocks[static_cast<std::size_t>(i)] = heap_.allocate(48, 8);
  EXPECT_EQ(heap_.usage().committed, committed);
  for (void* p : blocks) heap_.deallocate(p, 48, 8);
}

TEST_F(HeapTest, JoinsFreeNeighboursOfLargeBlocks) {
  constexpr std::size_t bytes = 64 << 10;
  for (const auto& order : {std::array{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 3, 0, 2}}) {
    std::array<void*, 4> parts{};
    for (void*& p : parts) p = heap_.allocate(bytes, 8);
    for (const int i : order) heap_.deallocate(parts[static_cast<std::size_t>(i)], bytes, 8);
    const std::uint64_t committed = heap_.usage().committed;
    void* const whole = heap_.allocate(4 * bytes, 8);
    EXPECT_EQ(heap_.usage().committed, committed);
    heap_.deallocate(whole, 4 * bytes, 8);
  }
}

TEST_F(HeapTest, ThrowsBadAllocWhenFullAndGoesOn) {
  EXPECT_THROW((void)heap_.allocate(std::size_t{1} << 60, 8), std::bad_alloc);
  EXPECT_THROW((void)heap_.allocate(static_cast<std::size_t>(-1), 8), std::bad_alloc);
  EXPECT_THROW((void)heap_.allocate(16, 8192), std::bad_alloc);
  const std::size_t most = std::size_t{1} << 36;  // more than any root has
  EXPECT_THROW((void)heap_.allocate(most, 8), std::bad_alloc);
  heap_.deallocate(heap_.allocate(100, 8), 100, 8);
  EXPECT_EQ(heap_.usage().used, 0U);
}

TEST_F(HeapTest, IsOneHeapForManyThreads) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 5'000; ++i) {
        const std::size_t bytes = 1 + random() % 5000;
        auto* const p = static_cast<unsigned char*>(heap_.allocate(bytes, 8));
        p[0] = static_cast<unsigned char>(t);
        p[bytes - 1] = static_cast<unsigned char>(t);
        ASSERT_EQ(p[0], t);
        heap_.deallocate(p, bytes, 8);
      }
    });
  threads.clear();
  EXPECT_EQ(heap_.usage().used, 0U);
  EXPECT_EQ(heap_.usage().stranded, 0U);
}

// Workers take and give back as fast as they can and are killed at random: the heap stays valid, and what is stranded
// is at most one block (or chunk) in the heap's hand and one in the worker's, for each death.
TEST_F(HeapTest, StaysValidWhenItsUsersAreKilled) {
  const auto hammer = [](covey::shared_ptr<nothing> root, unsigned seed) {
    heap& h = reinterpret_cast<covey::detail::root*>(covey::detail::object_around(root.get()))->memory;
    std::mt19937 random(seed);
    for (;;) {
      const std::size_t bytes = 1 + random() % 9000;
      auto* const p = static_cast<unsigned char*>(h.allocate(bytes, 8));
      std::memset(p, 0xff, bytes);  // no block is in the lists while it is ours
      h.deallocate(p, bytes, 8);
    }
  };
  std::mt19937 random(7);
  int kills = 0;
  std::vector<covey::process> workers;
  const auto until = std::chrono::steady_clock::now() + 2s;
  for (unsigned seed = 0; std::chrono::steady_clock::now() < until; ++seed) {
    while (workers.size() < 4)
      workers.emplace_back(covey::process_options{.daemon = true}, hammer, root_,
                           seed * 4 + static_cast<unsigned>(workers.size()));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
    std::swap(workers[random() % workers.size()], workers.back());
    workers.pop_back();
    ++kills;
  }
  kills += static_cast<int>(workers.size());
  workers.clear();
  const heap_usage after = heap_.usage();
  // A killed worker had at most one block that it knew of, and one in the heap's hand.
  EXPECT_LE(after.used, static_cast<std::uint64_t>(kills) * 9216);
  EXPECT_LE(after.stranded, static_cast<std::uint64_t>(kills) * (9216 + (64U << 10)));
  std::printf("kills=%d used=%lu stranded=%lu committed=%lu\n", kills, after.used, after.stranded, after.committed);
  std::vector<void*> blocks;
  for (std::size_t bytes = 1; bytes < 9000; bytes += 7) blocks.push_back(heap_.allocate(bytes, 8));
  std::size_t bytes = 1;
  for (void* p : blocks) {
    heap_.deallocate(p, bytes, 8);
    bytes += 7;
  }
  EXPECT_EQ(heap_.usage().used, after.used);
  EXPECT_EQ(heap_.usage().stranded, after.stranded);  // nothing points to it
}

}  // namespace
