// Who destroys a shared object is written by its destructor into a journal, itself shared. Holders are killed for real.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>

#include <mutex>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::arena_in_use;
using covey::detail::arena_usage;
using covey::detail::family;
using covey::testing::comes_back_to;
using covey::testing::eventually;
using covey::testing::settled;

struct journal {
  std::atomic<int> destroyed = 0;
  std::atomic<pid_t> by = 0;
};

// Says when and by whom it was destroyed.
struct witness {
  covey::shared_ptr<journal> out;
  covey::string text = "what was written is read by others, whoever wrote it";
  explicit witness(covey::shared_ptr<journal> j) : out(std::move(j)) {}
  ~witness() {
    out->by = ::getpid();
    ++out->destroyed;
  }
};

TEST(SharedPtr, IsOneObjectForAllProcesses) {
  const auto numbers = covey::make_shared<covey::vector<int>>();
  numbers->push_back(1);
  covey::process p{[](covey::shared_ptr<covey::vector<int>> n, std::uint64_t address) {
                     n->push_back(2);
                     return reinterpret_cast<std::uint64_t>(n.get()) == address ? 0 : 1;
                   },
                   numbers, reinterpret_cast<std::uint64_t>(numbers.get())};
  EXPECT_EQ(p.join().code(), 0);
  EXPECT_EQ(*numbers, (covey::vector<int>{1, 2}));
}

TEST(SharedPtr, BehavesAsAPointer) {
  covey::shared_ptr<int> none;
  EXPECT_FALSE(none);
  EXPECT_EQ(none, nullptr);
  auto a = covey::make_shared<int>(3);
  covey::shared_ptr<int> b = a;
  EXPECT_EQ(a, b);
  EXPECT_EQ(*b, 3);
  covey::shared_ptr<const int> c = a;
  EXPECT_EQ(c, a);
  EXPECT_EQ(*c, 3);
  b = std::move(a);
  EXPECT_EQ(a, nullptr);  // NOLINT(bugprone-use-after-move): a promise
  b.reset();
  EXPECT_FALSE(b);
  EXPECT_EQ(*c, 3);
  c = nullptr;
  const auto& self = c;
  c = self;
  EXPECT_EQ(c, nullptr);
}

TEST(SharedPtr, MakesAggregatesAndPassesArguments) {
  struct point {
    int x, y;
  };
  EXPECT_EQ(covey::make_shared<point>(1, 2)->y, 2);
  EXPECT_EQ(*covey::make_shared<covey::string>("text"), "text");
  EXPECT_EQ(covey::make_shared<covey::vector<int>>(3U, 7)->size(), 3U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(covey::make_shared<std::max_align_t>().get()) % alignof(std::max_align_t),
            0U);
  struct alignas(256) wide {
    char c;
  };
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(covey::make_shared<wide>().get()) % 256, 0U);
}

TEST(SharedPtr, FreesWhatAConstructorThatThrewHadTaken) {
  struct thrower {
    covey::vector<int> numbers = covey::vector<int>(100'000);
    thrower() { throw std::logic_error("no"); }
  };
  const arena_usage before = settled();
  EXPECT_THROW(covey::make_shared<thrower>(), std::logic_error);
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, DestroysItsObjectOnceInTheProcessOfTheLastHolder) {
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    {
      const auto w = covey::make_shared<witness>(j);
      const auto copy = w;
      covey::process(([](covey::shared_ptr<witness>) {}), w).join();
      EXPECT_EQ(j->destroyed, 0);
    }
    EXPECT_EQ(j->destroyed, 1);
    EXPECT_EQ(j->by, ::getpid());
    covey::event go;
    covey::process other;
    {
      auto w = covey::make_shared<witness>(j);
      other = covey::process{[](covey::shared_ptr<witness> mine, covey::event e) {
                               e.wait();
                               mine.reset();
                             },
                             w, go};
    }
    EXPECT_EQ(j->destroyed, 1);
    go.set();
    other.join();
    EXPECT_EQ(j->destroyed, 2);
    EXPECT_EQ(j->by, other.pid());
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, DestroysItsObjectOnceWhenAllLetGoAtTheSameTime) {
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    for (int round = 1; round <= 20; ++round) {
      covey::event go;
      std::vector<covey::process> holders;
      {
        const auto w = covey::make_shared<witness>(j);
        for (int i = 0; i < 6; ++i)
          holders.emplace_back(
              [](covey::shared_ptr<witness> mine, covey::event e) {
                e.wait();
                mine.reset();
              },
              w, go);
      }
      go.set();
      holders.clear();
      EXPECT_EQ(j->destroyed, round);
    }
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, DestroysItsObjectOnceWhenThreadsLetGoAndTakeFromMessages) {
  const auto j = covey::make_shared<journal>();
  for (int round = 1; round <= 50; ++round) {
    covey::queue<covey::shared_ptr<witness>> q{4};
    std::jthread taker([in = q.reader()]() mutable {
      for (int i = 0; i < 4; ++i) {
        const auto taken = in.get();
        in.task_done();  // from here `taken` may be the last
      }
    });
    {
      const auto w = covey::make_shared<witness>(j);
      for (int i = 0; i < 4; ++i) q.put(w);
    }
    taker.join();
    (void)eventually([&] { return j->destroyed >= round; });
    ASSERT_EQ(j->destroyed, round);
  }
}

TEST(SharedPtr, IsHeldByAMessage) {
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    covey::queue<covey::shared_ptr<witness>> q{4};
    q.put(covey::make_shared<witness>(j));
    EXPECT_EQ(j->destroyed, 0);
    covey::process reader{[](covey::queue_reader<covey::shared_ptr<witness>> in) {
                            const auto w = in.get();
                            return w && (*w)->text.starts_with("what was written") ? 0 : 1;
                          },
                          q.reader()};
    EXPECT_EQ(reader.join().code(), 0);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, GoesWithoutItsDestructorWhenTheLastHolderIsKilled) {
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    {
      covey::event holds;
      auto w = covey::make_shared<witness>(j);
      covey::process holder{covey::process_options{.daemon = true},
                            [](covey::shared_ptr<witness>, covey::event e) {
                              e.set();
                              for (;;) ::pause();
                            },
                            w, holds};
      holds.wait();
      w.reset();
      holder.kill();
      holder.join();
    }
    EXPECT_TRUE(eventually([&] { return arena_in_use().regions == before.regions + 1; }));
    EXPECT_EQ(j->destroyed, 0);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, IsFreedWhenAProcessDiesInTheDestructor) {
  struct deadly {
    covey::vector<int> numbers = covey::vector<int>(100'000);
    ~deadly() { ::kill(::getpid(), SIGKILL); }
  };
  const arena_usage before = settled();
  EXPECT_EQ(covey::process([] { (void)covey::make_shared<deadly>(); }).join().signal(), SIGKILL);
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, HoldsOtherObjectsFromInside) {
  struct node {
    explicit node(covey::shared_ptr<journal> j) : w(covey::make_shared<witness>(std::move(j))) {}
    covey::shared_ptr<witness> w;
    covey::vector<covey::shared_ptr<node>> children;
    covey::mutex m;
  };
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    {
      const auto top = covey::make_shared<node>(j);
      top->children.push_back(covey::make_shared<node>(j));
      top->children[0]->children.push_back(covey::make_shared<node>(j));
      covey::process p{[](covey::shared_ptr<node> n) {
                         const std::scoped_lock held(n->children[0]->m);
                         n->children[0]->children[0]->w->text = "changed by a process that was given the top only";
                         n->children.push_back(covey::make_shared<node>(n->w->out));
                       },
                       top};
      EXPECT_EQ(p.join().code(), 0);
      EXPECT_EQ(top->children[0]->children[0]->w->text, "changed by a process that was given the top only");
      EXPECT_EQ(top->children[1]->w->text, "what was written is read by others, whoever wrote it");
      const auto kept = top->children[1];
      top->children.pop_back();
      EXPECT_EQ(j->destroyed, 0);
      EXPECT_TRUE(kept->w);
    }
    EXPECT_EQ(j->destroyed, 4);
  }
  EXPECT_TRUE(comes_back_to(before));
}

TEST(SharedPtr, RefusesAMessageOfAnotherType) {
  const auto number = covey::make_shared<int>(1);
  covey::detail::encoder out;
  number.encode_handle(out);
  covey::detail::decoder in{out.bytes};
  EXPECT_THROW(covey::shared_ptr<double>::decode_handle(in), covey::bad_message);
  in = covey::detail::decoder{out.bytes};
  EXPECT_EQ(*covey::shared_ptr<const int>::decode_handle(in), 1);
}

TEST(SharedPtr, DestroysOnceAlsoWhenKeepersAreKilledMeanwhile) {
  const arena_usage before = settled();
  {
    const auto j = covey::make_shared<journal>();
    std::atomic<bool> stop = false;
    std::jthread killer([&] {
      while (!stop) {
        const pid_t keeper = family.book->keeper_pid;
        ::kill(keeper, SIGKILL);
        (void)eventually([&] { return stop || family.book->keeper_pid != keeper; });
        std::this_thread::sleep_for(2ms);
      }
    });
    for (int i = 1; i <= 300; ++i) {
      {
        const auto w = covey::make_shared<witness>(j);
      }
      ASSERT_EQ(j->destroyed, i);
    }
    stop = true;
  }
  EXPECT_TRUE(comes_back_to(before));
}

// Many processes change one map under a mutex and are killed at random; who finds the owner dead repairs by starting
// the map afresh, since its inside may be half changed.
TEST(SharedPtr, AMapSurvivesTheDeathOfThoseWhoChangeIt) {
  struct table {
    std::optional<covey::unordered_map<int, covey::string>> map{std::in_place};
    std::atomic<std::uint64_t> changes = 0;
    std::atomic<int> repairs = 0;
  };
  const arena_usage before = settled();
  {
    const auto shared = covey::make_shared<table>();
    covey::mutex m;
    const auto change = [](covey::shared_ptr<table> t, covey::mutex lock, unsigned seed) {
      std::mt19937 random(seed);
      // Not destroyed: its nodes may be linked wrongly. Their memory goes with the root.
      const auto repair = [&] {
        new (&t->map) std::optional<covey::unordered_map<int, covey::string>>(std::in_place);
        ++t->repairs;
      };
      for (;;) try {
          const std::scoped_lock held(lock);
          auto& map = *t->map;
          const int key = static_cast<int>(random() % 500);
          if (random() % 2 == 0)
            map[key].append(1 + random() % 200, static_cast<char>('a' + key % 26));
          else
            map.erase(key);
          if (map.size() > 400) map.clear();
          ++t->changes;
        } catch (const covey::owner_died&) {
          lock.recover(repair);
        }
    };
    std::mt19937 random(3);
    std::vector<covey::process> workers;
    int kills = 0;
    const auto until = std::chrono::steady_clock::now() + 2s;
    for (unsigned seed = 0; std::chrono::steady_clock::now() < until; seed += 4) {
      while (workers.size() < 4)
        workers.emplace_back(covey::process_options{.daemon = true}, change, shared, m,
                             seed + static_cast<unsigned>(workers.size()));
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
      std::swap(workers[random() % workers.size()], workers.back());
      workers.pop_back();
      ++kills;
    }
    workers.clear();
    const auto fresh = [&] {
      new (&shared->map) std::optional<covey::unordered_map<int, covey::string>>(std::in_place);
    };
    m.recover(fresh);
    auto& heap = reinterpret_cast<covey::detail::root*>(covey::detail::object_around(shared.get()))->memory;
    for (const auto& [key, text] : *shared->map)
      EXPECT_EQ(text.find_first_not_of(static_cast<char>('a' + key % 26)), covey::string::npos);
    shared->map->clear();
    const auto idle = heap.usage();
    for (int i = 0; i < 1000; ++i) (*shared->map)[i] = "the heap works as ever, for texts that need memory too";
    shared->map->clear();
    EXPECT_EQ(heap.usage().stranded, idle.stranded);  // the maps that nobody destroyed
    EXPECT_GE(idle.stranded, idle.used / 2);
    EXPECT_GT(shared->changes, 1000U);
    std::printf("kills=%d changes=%lu repairs=%d used=%lu stranded=%lu committed=%lu\n", kills, shared->changes.load(),
                shared->repairs.load(), idle.used, idle.stranded, idle.committed);
  }
  EXPECT_TRUE(comes_back_to(before));
}

}  // namespace
