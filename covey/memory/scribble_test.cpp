// A process fills all shared memory that it may write with random bytes: what it was granted, and its own cells. Those
// who share nothing with it notice nothing; those who share an object with it get errors from covey, not crashes.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/memory.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>

#include <cstring>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::arena_in_use;
using covey::detail::arena_usage;
using covey::testing::eventually;
using covey::testing::settled;

// Random bytes over the first 256 KiB of each writable mapping of covey's; how many mappings that were.
int scribble(unsigned seed) {
  struct mapping {
    std::uint64_t begin, end;
  };
  std::vector<mapping> all;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    mapping m{};
    char rights[5] = {};
    if (line.find("memfd:covey:") == std::string::npos) continue;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &m.begin, &m.end, rights) == 3 && rights[1] == 'w') all.push_back(m);
  }
  std::mt19937_64 random(seed);
  for (const mapping& m : all)
    for (std::uint64_t at = m.begin; at < std::min(m.end, m.begin + (256 << 10)); at += 8)
      *reinterpret_cast<volatile std::uint64_t*>(at) = random();
  return static_cast<int>(all.size());
}

struct shelf {
  covey::vector<covey::string> names;
  covey::unordered_map<int, covey::string> map;
  covey::shared_ptr<covey::string> inner = covey::make_shared<covey::string>("a text of its own, in memory of its own");
  covey::shared_array<int> numbers = covey::make_shared_array<int>(100);
  covey::mutex lock;
  ~shelf() { names.clear(); }

  void fill() {
    for (int i = 0; i < 500; ++i) {
      names.emplace_back("a name that is too long for a small string");
      map[i] = names.back();
    }
  }
};

TEST(Scribble, IsNotNoticedByThoseWhoShareNothing) {
  const arena_usage before = settled();
  {
    const auto own = covey::make_shared<shelf>();
    own->fill();
    covey::event go;
    covey::process neighbour{[](covey::shared_ptr<shelf> s, covey::event stop) {
                               while (!stop.is_set()) {
                                 auto lock = s->lock;
                                 const std::scoped_lock held(lock);
                                 s->names.pop_back();
                                 s->names.emplace_back("a name that is too long for a small string");
                                 if (s->map.size() != 500 || s->inner->size() != 39) return 1;
                               }
                               return 0;
                             },
                             own, go};
    for (unsigned seed = 0; seed < 20; ++seed) {
      const auto granted = covey::make_shared<shelf>();
      granted->fill();
      covey::process wild{[](covey::shared_ptr<shelf> s, unsigned n) {
                            const auto held = *s;
                            (void)held.inner->size();
                            return scribble(n) >= 3 ? 0 : 1;
                          },
                          granted, seed};
      (void)wild.join();  // with a code, or by a signal: what it does after this is its own affair
      covey::process fresh{[] { return static_cast<int>(covey::make_shared<covey::string>("works")->size()); }};
      EXPECT_EQ(fresh.join().code(), 5);
    }
    go.set();
    EXPECT_EQ(neighbour.join().code(), 0);
    EXPECT_EQ(own->names.size(), 500U);
    for (const auto& [number, name] : own->map) EXPECT_EQ(name, "a name that is too long for a small string");
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

// The wild one is killed right after, so that nothing of its end depends on what it did to itself.
template <class... Granted>
void let_scribble(unsigned seed, const Granted&... granted) {
  covey::process wild{[](unsigned n, Granted...) {
                        scribble(n);
                        ::kill(::getpid(), SIGKILL);
                      },
                      seed, granted...};
  EXPECT_EQ(wild.join().signal(), SIGKILL);
}

TEST(Scribble, OverAnObjectIsAnErrorForThoseWhoHoldItAndNotACrash) {
  const arena_usage before = settled();
  for (unsigned seed = 0; seed < 50; ++seed) {
    auto s = covey::make_shared<shelf>();
    s->fill();
    const auto heap = &covey::detail::heap_of(s.get());
    const std::uint64_t id = covey::detail::region_around(s.get());
    void* const block = heap->allocate(100, 8);
    let_scribble(seed, s);
    EXPECT_THROW((void)heap->allocate(100, 8), covey::memory_damaged);
    EXPECT_THROW((void)covey::stranded_bytes(s), covey::memory_damaged);
    heap->deallocate(block, 100, 8);
    EXPECT_THROW((void)*s->inner, covey::memory_damaged);
    EXPECT_THROW((void)s->numbers.span(), covey::memory_damaged);
    EXPECT_THROW((void)covey::shared_ptr<covey::string>(s->inner), covey::memory_damaged);
    covey::mutex own;
    EXPECT_THROW(own = std::move(s->lock), covey::memory_damaged);
    EXPECT_TRUE(own.try_lock());  // it is the one that it was
    settled();
    EXPECT_TRUE(covey::detail::is_damaged(id));
    covey::process other{[](covey::shared_ptr<shelf>) { return 3; }, s};  // may still be sent and held
    EXPECT_EQ(other.join().code(), 3);
    s.reset();  // without its destructor, which would follow its pointers
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

TEST(Scribble, OverAnObjectDoesNotHarmItsLastHolder) {
  const arena_usage before = settled();
  for (unsigned seed = 100; seed < 130; ++seed) {
    auto s = covey::make_shared<shelf>();
    s->fill();
    let_scribble(seed, s);
    s.reset();
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use() == before; }));
}

TEST(Scribble, OverTheHeapAloneIsFoundByWhoeverComesToIt) {
  std::mt19937_64 random(1);
  int found = 0;
  for (int round = 0; round < 2000; ++round) {
    static auto s = covey::make_shared<shelf>();
    if (!covey::detail::heap_of(s.get()).sound_approx()) s = covey::make_shared<shelf>();
    auto& heap = covey::detail::heap_of(s.get());
    auto* const words = reinterpret_cast<std::uint64_t*>(&heap);
    // One word of the lists; small numbers now and then, which are nearly right.
    words[2 + random() % (sizeof(heap) / 8 - 2)] = random() >> (random() % 64);
    try {
      std::vector<std::pair<void*, std::size_t>> blocks;
      for (std::size_t i = 0; i < 40; ++i) {
        const std::size_t bytes = 1 + (random() % 4 == 0 ? random() % 20'000 : random() % 300);
        blocks.emplace_back(heap.allocate(bytes, 8), bytes);
      }
      for (const auto& [p, bytes] : blocks) heap.deallocate(p, bytes, 8);
      (void)heap.usage();
    } catch (const covey::memory_damaged&) {
      ++found;
    } catch (const std::bad_alloc&) {
      // What it was told of its limits is believed as long as the ledger allows it.
    }
  }
  EXPECT_GT(found, 500);
}

// A lock word names its owner: nonsense names nobody, and who is nobody is dead.
TEST(Scribble, OverAMutexLeavesItToBeRecovered) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    covey::mutex m;
    let_scribble(seed, m);
    for (int attempt = 0; attempt < 3; ++attempt) try {
        const std::scoped_lock held(m);
        break;
      } catch (const covey::owner_died&) {
        m.recover([] {});
      }
    const std::scoped_lock held(m);
  }
}

}  // namespace
