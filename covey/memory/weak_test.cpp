// Who keeps an object and who does not, who may write to it, and arrays of any size. Writes that are not allowed end
// real processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/busy_heap.hpp>
#include <covey/testing/settle.hpp>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <mutex>
#include <numeric>
#include <thread>

#if defined(__has_feature)
constexpr bool under_tsan = __has_feature(thread_sanitizer);
#else
constexpr bool under_tsan = false;
#endif

namespace {

using namespace std::chrono_literals;
using covey::detail::arena_usage;
using covey::testing::comes_back_to;
using covey::testing::eventually;
using covey::testing::settled;

// ---- weak_ptr ------------------------------------------------------------------------------------------------------

TEST(WeakPtr, GivesTheObjectWhileSomebodyHoldsIt) {
  const arena_usage before = settled();
  covey::weak_ptr<covey::string> weak;
  EXPECT_TRUE(weak.expired());
  EXPECT_EQ(weak.lock(), nullptr);
  {
    const auto text = covey::make_shared<covey::string>("here");
    weak = text;
    EXPECT_FALSE(weak.expired());
    EXPECT_EQ(*weak.lock(), "here");
    const covey::weak_ptr<const covey::string> as_const = text;
    EXPECT_EQ(*as_const.lock(), "here");
    covey::process other{[](covey::weak_ptr<covey::string> w) { return w.lock() && *w.lock() == "here" ? 0 : 1; },
                         weak};
    EXPECT_EQ(other.join().code(), 0);
  }
  EXPECT_TRUE(eventually([&] { return weak.expired(); }));
  EXPECT_EQ(weak.lock(), nullptr);
  EXPECT_TRUE(comes_back_to(before));
}

TEST(WeakPtr, KeepsNothingAliveInsideObjectsAndMessages) {
  struct node {
    covey::shared_ptr<node> child;
    covey::weak_ptr<node> parent;
  };
  const arena_usage before = settled();
  {
    covey::queue<covey::weak_ptr<node>> q{4};
    {
      auto top = covey::make_shared<node>();
      top->child = covey::make_shared<node>();
      top->child->parent = top;  // a circle that would never be freed, were this a shared_ptr
      EXPECT_EQ(top->child->parent.lock(), top);
      q.put(top);
    }
    auto in = q.reader();
    const auto late = in.get();
    in.task_done();
    ASSERT_TRUE(late);
    EXPECT_TRUE(eventually([&] { return late->expired(); }));
    EXPECT_EQ(late->lock(), nullptr);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(WeakPtr, DoesNotGiveWhatIsBeingDestroyed) {
  struct tomb {
    covey::weak_ptr<tomb> self;
    covey::shared_ptr<std::atomic<int>> seen;
    ~tomb() {
      const covey::weak_ptr<tomb> weak = self;
      covey::process other{[](covey::weak_ptr<tomb> w) { return w.lock() == nullptr && w.expired() ? 1 : 2; }, weak};
      *seen = other.join().code() + (weak.lock() == nullptr ? 10 : 20);
    }
  };
  const auto seen = covey::make_shared<std::atomic<int>>(0);
  {
    const auto t = covey::make_shared<tomb>();
    t->self = t;
    t->seen = seen;
  }
  EXPECT_EQ(*seen, 11);
}

// Readers race with the last holder: either they get the object whole, or nothing.
TEST(WeakPtr, GivesAllOrNothingWhenTheLastHolderLetsGo) {
  struct thing {
    int value = 7;
    ~thing() { value = 0; }
  };
  const arena_usage before = settled();
  {
    covey::queue<covey::weak_ptr<thing>> q{8};
    std::vector<covey::process> readers;
    for (int i = 0; i < 2; ++i)
      readers.emplace_back(
          [](covey::queue_reader<covey::weak_ptr<thing>> in) {
            while (const auto weak = in.get())
              if (const auto strong = weak->lock(); strong && strong->value != 7) return 1;
            return 0;
          },
          q.reader());
    for (int i = 0; i < 500; ++i) {
      const auto t = covey::make_shared<thing>();
      q.put(t);
    }
    q.close();
    for (auto& r : readers) EXPECT_EQ(r.join().code(), 0);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(WeakPtr, OfNonsenseIsExpired) {
  for (const std::uint64_t nonsense : {~0ULL, 1ULL << 32 | 0xfffff, 5ULL, 1ULL << 63}) {
    covey::detail::encoder out;
    covey::detail::encode(out, nonsense);
    covey::detail::decoder in{out.bytes};
    const auto weak = covey::weak_ptr<int>::decode_handle(in);
    EXPECT_TRUE(weak.expired());
    EXPECT_EQ(weak.lock(), nullptr);
  }
  const auto number = covey::make_shared<double>(1);
  covey::detail::encoder out;
  covey::weak_ptr<double>(number).encode_handle(out);
  covey::detail::decoder in{out.bytes};
  EXPECT_EQ(covey::weak_ptr<int>::decode_handle(in).lock(), nullptr);
}

// ---- read_only -----------------------------------------------------------------------------------------------------

struct page {
  covey::string text = "as it was written";
  covey::mutex lock;
  covey::shared_ptr<std::atomic<int>> visits = covey::make_shared<std::atomic<int>>(0);
};

TEST(ReadOnly, CanBeReadAndLockedButNotChanged) {
  const auto p = covey::make_shared<page>();
  covey::process reader{[](covey::read_only<page> r) {
                          auto lock = r->lock;
                          const std::scoped_lock held(lock);
                          ++*r->visits;
                          return r->text == "as it was written" ? 0 : 1;
                        },
                        covey::read_only(p)};
  EXPECT_EQ(reader.join().code(), 0);
  EXPECT_EQ(*p->visits, 1);
  covey::process writer{[](covey::read_only<page> r) { const_cast<char&>(r->text[0]) = 'X'; }, covey::read_only(p)};
  EXPECT_EQ(writer.join().signal(), SIGSEGV);
  EXPECT_EQ(p->text, "as it was written");
  // It faults in an atomic operation, which the thread sanitizer does under a lock that the handler of the fault wants.
  if (under_tsan) return;
  covey::process wild{[](covey::read_only<page> r) { const_cast<covey::string&>(r->text).assign(1000, 'X'); },
                      covey::read_only(p)};
  EXPECT_EQ(wild.join().signal(), SIGSEGV);
  EXPECT_EQ(p->text, "as it was written");
}

TEST(ReadOnly, IsWritableExactlyWhileTheProcessHasASharedPtrToo) {
  const auto p = covey::make_shared<int>(1);
  covey::process both{[](covey::read_only<int> r, covey::shared_ptr<int> w) {
                        *w = 2;
                        auto copy = w;
                        w.reset();
                        *copy = 3;
                        copy.reset();
                        const auto again = r;
                        const_cast<int&>(*again) = 4;
                      },
                      covey::read_only(p), p};
  EXPECT_EQ(both.join().signal(), SIGSEGV);
  EXPECT_EQ(*p, 3);
  covey::process later{[](covey::read_only<int> r, covey::queue_reader<covey::shared_ptr<int>> in) {
                         const auto w = in.get();
                         const_cast<int&>(*r) = 5;
                         return *r;
                       },
                       covey::read_only(p),
                       [&] {
                         covey::queue<covey::shared_ptr<int>> q{1};
                         q.put(p);
                         return q.reader();
                       }()};
  EXPECT_EQ(later.join().code(), 5);
}

TEST(ReadOnly, OfAnArrayCanBeReadButNotChanged) {
  const arena_usage before = settled();
  {
    const auto numbers = covey::make_shared_array<int>(10'000);
    for (int i = 0; i < 10'000; ++i) numbers[static_cast<std::size_t>(i)] = i;
    const covey::read_only only(numbers);
    EXPECT_EQ(only.span().data(), numbers.data());
    covey::process reader{[](covey::read_only<int[]> r) {
                            return std::accumulate(r.begin(), r.end(), 0L) == 49'995'000L && r[9'999] == 9'999 ? 0 : 1;
                          },
                          only};
    EXPECT_EQ(reader.join().code(), 0);
    covey::process writer{[](covey::read_only<int[]> r) { const_cast<int&>(r[5]) = 0; }, only};
    EXPECT_EQ(writer.join().signal(), SIGSEGV);
    EXPECT_EQ(numbers[5], 5);
    EXPECT_TRUE(covey::read_only<int[]>().empty());
    covey::detail::encoder out;
    only.encode_handle(out);
    const std::uint64_t more = 1'000'000;
    std::memcpy(out.bytes.data() + out.bytes.size() - 8, &more, 8);
    covey::detail::decoder in{out.bytes};
    EXPECT_THROW((void)covey::read_only<int[]>::decode_handle(in), covey::bad_message);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(ReadOnly, KeepsTheObjectAndItsLastHolderDestroysIt) {
  struct witness {
    covey::shared_ptr<std::atomic<int>> out;
    covey::vector<int> numbers = covey::vector<int>(1000);
    ~witness() { *out = ::getpid(); }
  };
  const arena_usage before = settled();
  {
    const auto out = covey::make_shared<std::atomic<int>>(0);
    covey::event go;
    covey::process reader;
    {
      auto w = covey::make_shared<witness>(out);
      reader = covey::process{[](covey::read_only<witness> r, covey::event e) {
                                e.wait();
                                return r->numbers.size() == 1000 ? 0 : 1;
                              },
                              covey::read_only(w), go};
      const covey::read_only mine(w);
      w.reset();
      EXPECT_EQ(mine->numbers.size(), 1000U);
    }
    go.set();
    EXPECT_EQ(reader.join().code(), 0);
    EXPECT_EQ(*out, reader.pid());
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(ReadOnly, RefusesToLieInSharedMemory) {
  struct wrong {
    covey::read_only<int> inside;
  };
  const auto p = covey::make_shared<int>(1);
  const covey::read_only r(p);
  EXPECT_THROW(covey::make_shared<wrong>(wrong{r}), std::logic_error);
}

TEST(ReadOnly, IsCountedRightByManyThreads) {
  const auto p = covey::make_shared<std::atomic<int>>(1);
  const covey::read_only<std::atomic<int>> base(p);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, weak = covey::weak_ptr<std::atomic<int>>(p)] {
      for (int i = 0; i < 5000; ++i) {
        const covey::read_only<std::atomic<int>> r = base;
        const auto w = weak.lock();
        *w = r->load();
      }
    });
  threads.clear();
  EXPECT_EQ(*base, 1);
}

// ---- stranded memory -----------------------------------------------------------------------------------------------

// What the dead had in hand stays with its object; an object that is made anew, from what is whole in it, has none.
TEST(StrandedBytes, GoWithTheObjectThatIsReplacedInRecovery) {
  struct shelf {
    covey::vector<covey::string> names;
    covey::vector<covey::string> scratch;
  };
  struct cupboard {
    covey::shared_ptr<shelf> now = covey::make_shared<shelf>();
  };
  const arena_usage before = settled();
  {
    const auto shared = covey::make_shared<cupboard>();
    for (int i = 0; i < 100; ++i) shared->now->names.emplace_back("a name that is too long for a small string");
    covey::mutex m;
    std::uint64_t stranded = 0;
    for (int tried = 0; tried < 500 && stranded == 0; ++tried) {
      covey::event working;
      covey::process worker{[](covey::shared_ptr<cupboard> c, covey::mutex lock, covey::event e) {
                              const std::scoped_lock held(lock);
                              covey::testing::allocate_until_killed(c->now->scratch, e);
                            },
                            shared, m, working};
      working.wait();
      std::this_thread::sleep_for(std::chrono::microseconds(tried));
      worker.kill();
      worker.join();
      stranded = covey::stranded_bytes(shared->now);
      m.recover([&] {
        const auto old = shared->now;
        shared->now = covey::make_shared<shelf>();
        shared->now->names = old->names;
      });
    }
    EXPECT_GT(stranded, 0U);
    EXPECT_EQ(covey::stranded_bytes(shared->now), 0U);
    EXPECT_EQ(shared->now->names.size(), 100U);
  }
  EXPECT_TRUE(comes_back_to(before));
}

// ---- shared_array --------------------------------------------------------------------------------------------------

TEST(SharedArray, IsASpanOfTheSameElementsInAllProcesses) {
  const arena_usage before = settled();
  {
    const auto numbers = covey::make_shared_array<std::uint64_t>(100'000);
    EXPECT_EQ(numbers.size(), 100'000U);
    EXPECT_TRUE(std::ranges::all_of(numbers, [](auto n) { return n == 0; }));
    covey::process p{[](covey::shared_array<std::uint64_t> there) {
                       std::uint64_t i = 0;
                       for (auto& n : there.span()) n = i++;
                     },
                     numbers};
    EXPECT_EQ(p.join().code(), 0);
    for (std::size_t i = 0; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], i);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedArray, ConstructsItsElements) {
  struct point {
    int x = 3;
    int y = 4;
  };
  const auto points = covey::make_shared_array<point>(1000);
  EXPECT_TRUE(std::ranges::all_of(points, [](const point& p) { return p.x == 3 && p.y == 4; }));
  const auto none = covey::make_shared_array<int>(0);
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(covey::shared_array<int>().span().empty());
}

TEST(SharedArray, LiesInOtherObjectsAndMessages) {
  struct holder {
    covey::shared_array<int> inside;
  };
  const arena_usage before = settled();
  {
    const auto h = covey::make_shared<holder>(covey::make_shared_array<int>(10));
    h->inside[9] = 9;
    covey::process p{[](covey::shared_ptr<holder> there) { return there->inside.span()[9]; }, h};
    EXPECT_EQ(p.join().code(), 9);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedArray, ThatIsLargerThanMemoryIsAnException) {
  const arena_usage before = settled();
  EXPECT_THROW((void)covey::make_shared_array<char>(std::size_t{1} << 43), std::system_error);
  EXPECT_THROW((void)covey::make_shared_array<char>(covey::detail::memory_left_approx() + (1 << 20)),
               std::system_error);
  EXPECT_THROW((void)covey::make_shared_array<std::uint64_t>(~std::size_t{0} / 4), std::bad_array_new_length);
  EXPECT_THROW((void)covey::make_shared_array<char>(std::size_t{1} << 62), std::system_error);
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedArray, RefusesAMessageThatLiesAboutItsSize) {
  const auto numbers = covey::make_shared_array<int>(10);
  for (const std::uint64_t size : {1'000'000ULL, ~0ULL}) {
    covey::detail::encoder out;
    numbers.encode_handle(out);
    std::memcpy(out.bytes.data() + 8, &size, 8);
    covey::detail::decoder in{out.bytes};
    EXPECT_THROW((void)covey::shared_array<int>::decode_handle(in), covey::bad_message);
  }
}

std::int64_t mapped_pages(const covey::shared_array<char>& a) {
  constexpr std::uint64_t present = 1ULL << 63;
  std::vector<std::uint64_t> pages(a.size() / 4096);
  std::ifstream map("/proc/self/pagemap", std::ios::binary);
  map.seekg(static_cast<std::streamoff>(reinterpret_cast<std::uintptr_t>(a.data()) / 4096 * sizeof pages[0]));
  map.read(reinterpret_cast<char*>(pages.data()), static_cast<std::streamsize>(pages.size() * sizeof pages[0]));
  EXPECT_TRUE(map.good());
  return std::ranges::count_if(pages, [](std::uint64_t page) { return (page & present) != 0; });
}

TEST(SharedArray, IsMappedWhenItIsMadeIfThatWasAskedFor) {
  constexpr std::int64_t pages = 2048;
  EXPECT_EQ(mapped_pages(covey::make_shared_array<char>(pages * 4096, {.populate = true})), pages);
  EXPECT_LT(mapped_pages(covey::make_shared_array<char>(pages * 4096)), pages / 8);
}

// What the kernel says in the line that begins with `name` of the mapping that `p` lies in.
std::string of_mapping(const void* p, const std::string& name) {
  std::ifstream maps("/proc/self/smaps");
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  bool there = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) there = begin <= at && at < end;
    if (there && line.starts_with(name)) return line.substr(name.size());
  }
  return {};
}

TEST(SharedArray, InHugePagesIsAsGoodWithoutThem) {
  const auto big = covey::make_shared_array<char>(8 << 20, {.huge_pages = true});
  std::ranges::fill(big, 'x');
  EXPECT_EQ(std::ranges::count(big, 'x'), 8 << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(big.data()) / (2 << 20) * (2 << 20) + covey::detail::object_offset<char>,
            reinterpret_cast<std::uintptr_t>(big.data()));
  // The kernel was asked for them, whether it gives any or not.
  EXPECT_NE(of_mapping(big.data(), "VmFlags:").find(" hg"), std::string::npos);
  const auto usual = covey::make_shared_array<char>(8 << 20);
  EXPECT_EQ(of_mapping(usual.data(), "VmFlags:").find(" hg"), std::string::npos);
  const std::string why = covey::shared_array<char>::why_no_huge_pages();
  if (!why.empty()) GTEST_SKIP() << why;
  EXPECT_GE(std::strtoull(of_mapping(big.data(), "ShmemPmdMapped:").c_str(), nullptr, 10), 4U << 10);
}

}  // namespace
