// References, the heap and containers of covey/memory, killed at their instructions: whatever the dead were about to
// do, others can go on with the same objects, and all memory comes back with them.
#include <gtest/gtest.h>
#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/stepper.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace {

using covey::testing::last_process;
using covey::testing::step;
using covey::testing::stepped;

struct nothing {
  nothing() { covey::event{}.set(); }  // the line to the keeper is open
};

void expect_memory_can_be_had(nothing&, const last_process&) {
  const auto all = covey::make_shared<covey::vector<int>>(1000U, 7);
  EXPECT_EQ(all->back(), 7);
}

TEST(StepperMemory, MakeAndDrop) {
  step("mutex made and dropped", stepped<nothing>{.run =
                                                      [](nothing&) {
                                                        covey::mutex m;
                                                        m.lock();
                                                        m.unlock();
                                                      },
                                                  .check = expect_memory_can_be_had});
  step("make_shared<int> made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::make_shared<int>(3); }, .check = expect_memory_can_be_had});
  // With a destructor, who drops it asks whether it is the last.
  step("make_shared<vector> made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::make_shared<covey::vector<int>>(8U, 1); },
                        .check = expect_memory_can_be_had});
  step("shared_array made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::make_shared_array<int>(3000); },
                        .check = expect_memory_can_be_had});
  step("guarded made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::guarded<int>(3); }, .check = expect_memory_can_be_had});
}

// Transport memory is made by whoever makes the object, and is gone when its last holder is.
TEST(StepperMemory, MakeAndDropTransport) {
  step("queue made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::queue<int>(); }, .check = expect_memory_can_be_had});
  step("priority_queue made and dropped", stepped<nothing>{.run = [](nothing&) { (void)covey::priority_queue<int>(); },
                                                           .check = expect_memory_can_be_had});
  step("broadcast made, subscribed and dropped", stepped<nothing>{.run =
                                                                      [](nothing&) {
                                                                        const covey::broadcast<int> b;
                                                                        (void)b.subscribe();
                                                                      },
                                                                  .check = expect_memory_can_be_had});
  step("pipe made and dropped",
       stepped<nothing>{.run = [](nothing&) { (void)covey::make_pipe<int>(); }, .check = expect_memory_can_be_had});
}

// ---- a handle in shared memory
// -------------------------------------------------------------------------------------------

struct shelf {
  covey::shared_ptr<int> item;
};

struct empty_shelf {
  covey::shared_ptr<shelf> place = covey::make_shared<shelf>();
  covey::shared_ptr<int> item = covey::make_shared<int>(3);
};

struct full_shelf {
  covey::shared_ptr<shelf> place = covey::make_shared<shelf>();
  covey::shared_ptr<int> item;
  full_shelf() { place->item = covey::make_shared<int>(3); }
};

TEST(StepperMemory, PutsAHandleIntoASharedObject) {
  step("shared_ptr = in shared memory",
       stepped<empty_shelf>{.run = [](empty_shelf& w) { w.place->item = w.item; },
                            .check =
                                [](empty_shelf& w, const last_process& last) {
                                  EXPECT_TRUE(!last.finished || w.place->item == w.item);
                                  if (w.place->item) {
                                    EXPECT_EQ(*w.place->item, 3);
                                  }
                                  EXPECT_EQ(*w.item, 3);
                                  w.place->item = w.item;
                                  w.item.reset();
                                  EXPECT_EQ(*w.place->item, 3);
                                }});
}

TEST(StepperMemory, TakesAHandleOutOfASharedObject) {
  step("shared_ptr copied from shared memory", stepped<full_shelf>{.run = [](full_shelf& w) { w.item = w.place->item; },
                                                                   .check =
                                                                       [](full_shelf& w, const last_process&) {
                                                                         w.item = w.place->item;
                                                                         w.place.reset();
                                                                         EXPECT_EQ(*w.item, 3);
                                                                       }});
}

TEST(StepperMemory, DropsAHandleInASharedObject) {
  step("shared_ptr.reset in shared memory", stepped<full_shelf>{.run = [](full_shelf& w) { w.place->item.reset(); },
                                                                .check =
                                                                    [](full_shelf& w, const last_process& last) {
                                                                      EXPECT_TRUE(!last.finished || !w.place->item);
                                                                      if (w.place->item) {
                                                                        EXPECT_EQ(*w.place->item, 3);
                                                                      }
                                                                      w.place->item = covey::make_shared<int>(4);
                                                                      EXPECT_EQ(*w.place->item, 4);
                                                                    }});
}

// ---- weak_ptr
// ------------------------------------------------------------------------------------------------------------

// Only a shared object holds what is locked: the keeper is asked for it.
struct weakly_known : full_shelf {
  covey::weak_ptr<int> seen{place->item};
};

void expect_kept_by_the_shelf_alone(weakly_known& w) {
  {
    const auto item = w.seen.lock();
    ASSERT_TRUE(item);
    EXPECT_EQ(*item, 3);
  }
  w.place->item.reset();
  EXPECT_TRUE(covey::testing::eventually([&] { return w.seen.expired(); }));
  EXPECT_FALSE(w.seen.lock());
}

TEST(StepperMemory, LocksAWeakPtr) {
  const auto check = [](weakly_known& w, const last_process&) { expect_kept_by_the_shelf_alone(w); };
  step("weak_ptr.lock and keep",
       stepped<weakly_known>{.run = [](weakly_known& w) { w.item = w.seen.lock(); }, .check = check});
  step("weak_ptr.lock and drop",
       stepped<weakly_known>{.run = [](weakly_known& w) { (void)w.seen.lock(); }, .check = check});
}

// The object goes while somebody stands anywhere in lock(): he has it whole, or not at all.
TEST(StepperMemory, LocksAWeakPtrToWhatGoes) {
  struct world : weakly_known {
    covey::shared_ptr<int> found = covey::make_shared<int>(0);
  };
  step("weak_ptr.lock of what goes, stopped and going on",
       stepped<world>{.run =
                          [](world& w) {
                            const auto item = w.seen.lock();
                            *w.found = item ? *item : -1;
                          },
                      .check =
                          [](world& w, const last_process& last) {
                            EXPECT_TRUE(*w.found == 3 || *w.found == -1 || !last.finished) << *w.found;
                            w.place->item.reset();
                            EXPECT_TRUE(covey::testing::eventually([&] { return w.seen.expired(); }));
                            EXPECT_FALSE(w.seen.lock());
                          },
                      .while_stopped = [](world& w) { w.place->item.reset(); },
                      .goes_on = true});
}

// ---- the heap
// ------------------------------------------------------------------------------------------------------------

struct texts {
  covey::vector<int> numbers;
  covey::vector<covey::string> lines;
};

struct one_heap {
  covey::shared_ptr<texts> all = covey::make_shared<texts>();
  one_heap() {
    all->numbers.reserve(4);
    all->lines.reserve(2);
    all->numbers.assign({1, 2, 3});
  }
};

// Of the container that was being changed nothing is promised; of its heap all.
void expect_heap_usable(one_heap& w) {
  covey::vector<int> more(w.all->numbers.get_allocator());
  for (int i = 0; i < 20; ++i) more.push_back(i);
  EXPECT_EQ(more.back(), 19);
  const auto allocator = w.all->numbers.get_allocator();
  covey::allocator<std::byte> bytes(allocator);
  for (const std::size_t n : {8U, 5000U}) {
    std::byte* const p = bytes.allocate(n);
    bytes.deallocate(p, n);
  }
}

TEST(StepperMemory, PushBackWithRoom) {
  step("vector.push_back with room", stepped<one_heap>{.run = [](one_heap& w) { w.all->numbers.push_back(4); },
                                                       .check =
                                                           [](one_heap& w, const last_process& last) {
                                                             const auto size = w.all->numbers.size();
                                                             EXPECT_TRUE(size == 4 || (size == 3 && !last.finished))
                                                                 << size;
                                                             EXPECT_EQ(w.all->numbers[2], 3);
                                                             expect_heap_usable(w);
                                                           }});
}

TEST(StepperMemory, PushBackThatAllocates) {
  step("vector.push_back that allocates", stepped<one_heap>{.run =
                                                                [](one_heap& w) {
                                                                  w.all->numbers.push_back(4);
                                                                  w.all->numbers.push_back(5);
                                                                },
                                                            .check =
                                                                [](one_heap& w, const last_process& last) {
                                                                  if (last.returned) {
                                                                    EXPECT_EQ(w.all->numbers.size(), 5U);
                                                                  }
                                                                  expect_heap_usable(w);
                                                                },
                                                            .recover = expect_heap_usable});
}

TEST(StepperMemory, PushBackOfAText) {
  step("vector<string>.push_back",
       stepped<one_heap>{
           .run = [](one_heap& w) { w.all->lines.emplace_back("a text that does not fit into its own object"); },
           .check = [](one_heap& w, const last_process&) { expect_heap_usable(w); },
           .recover = expect_heap_usable,
           .brief = true});
}

struct crowded {
  covey::shared_ptr<covey::vector<covey::string>> lines = covey::make_shared<covey::vector<covey::string>>();
  crowded() {
    lines->reserve(2);
    lines->emplace_back("the first text, which is in a block of its own");
    lines->emplace_back("the second text, which is in a block of its own");
  }
};

// Half of the texts are in the old array and half in the new one, or in both.
TEST(StepperMemory, PushBackThatMovesTextsAndTheEndOfWhatItLeft) {
  step("vector<string>.push_back that moves, then the last drop",
       stepped<crowded>{.run = [](crowded& w) { w.lines->emplace_back("the third text, for which there is no room"); },
                        .check = [](crowded& w, const last_process&) { w.lines = {}; },
                        .recover = [](crowded& w) { w.lines = {}; }});
}

struct directory {
  covey::shared_ptr<covey::map<int, covey::string>> names = covey::make_shared<covey::map<int, covey::string>>();
  std::uint64_t without = 0, with = 0;  // number 3

  void fill() {
    for (const int n : {1, 2, 4}) emplace(n);
    emplace(3);
    with = usage().used;
    names->erase(3);
    without = usage().used;
  }
  void emplace(int n) const { names->emplace(n, "a text that does not fit into its own object"); }
  void reclaim() const { (void)covey::reclaim_stranded(names); }
  [[nodiscard]] covey::detail::heap_usage usage() const { return covey::detail::heap_of(names.get()).usage(); }
};

// Whoever had put it there, and whoever was killed over it: nothing is lost, and all that is stranded comes back.
void expect_nothing_is_lost(const directory& w) {
  const std::uint64_t stranded = covey::stranded_bytes(w.names);
  EXPECT_EQ(covey::reclaim_stranded(w.names), stranded);
  const covey::detail::heap_usage u = w.usage();
  EXPECT_EQ(u.stranded, 0U);
  EXPECT_TRUE(u.used == w.without || u.used == w.with) << u.used;
}

template <class World>
void step_reclaimed(const std::string& name, void (*run)(World&)) {
  step(name, stepped<World>{.run = run,
                            .check = [](World& w, const last_process&) { expect_nothing_is_lost(w); },
                            .recover = [](World& w) { w.reclaim(); }});
}

struct almost_full_directory : directory {
  almost_full_directory() { fill(); }
};

struct full_directory : directory {
  full_directory() {
    fill();
    emplace(3);
  }
};

// Its first node: memory is had, and divided.
struct empty_directory : directory {
  empty_directory() {
    directory other;
    other.emplace(3);
    with = other.usage().used;
  }
};

TEST(StepperMemory, WhatAMapWasGivenComesBack) {
  step_reclaimed<almost_full_directory>("map.emplace, reclaimed", [](auto& w) { w.emplace(3); });
  step_reclaimed<empty_directory>("map.emplace of the first, reclaimed", [](auto& w) { w.emplace(3); });
}

TEST(StepperMemory, WhatAMapHadTakenOutComesBack) {
  step_reclaimed<full_directory>("map.erase, reclaimed", [](auto& w) { w.names->erase(3); });
}

// The next block is divided otherwise than the one that somebody was killed over: another size, at another multiple.
struct rack {
  covey::shared_ptr<std::array<unsigned char*, 32>> blocks = covey::make_shared<std::array<unsigned char*, 32>>();
  std::size_t count = 0;

  rack() { add(16); }
  unsigned char* add(std::size_t bytes) {
    return (*blocks)[count++] = static_cast<unsigned char*>(covey::detail::heap_of(blocks.get()).allocate(bytes, 8));
  }
};

TEST(StepperMemory, NothingThatIsLinkedComesBack) {
  for (const std::size_t bytes : {64U, 80U, 4096U, 6000U})
    step("allocate " + std::to_string(bytes) + ", reclaimed",
         stepped<rack>{.run = [bytes](rack& w) { w.add(bytes); },
                       .check =
                           [](rack& w, const last_process&) {
                             (*w.blocks)[1] = nullptr;
                             w.count = 2;
                             constexpr std::size_t size = 112;
                             unsigned char* const kept = w.add(size);
                             std::memset(kept, 7, size);
                             (void)covey::reclaim_stranded(w.blocks);
                             while (w.count < w.blocks->size()) std::memset(w.add(64), 9, 64);
                             EXPECT_EQ(std::count(kept, kept + size, 7), static_cast<std::ptrdiff_t>(size));
                           },
                       .recover = [](rack& w) { (void)covey::reclaim_stranded(w.blocks); },
                       .brief = true});
}

TEST(StepperMemory, AllocatesAndFreesALargeBlock) {
  step("allocate+deallocate 5000",
       stepped<one_heap>{.run =
                             [](one_heap& w) {
                               covey::allocator<std::byte> bytes(w.all->numbers.get_allocator());
                               std::byte* const p = bytes.allocate(5000);
                               bytes.deallocate(p, 5000);
                             },
                         .check = [](one_heap& w, const last_process&) { expect_heap_usable(w); },
                         .recover = expect_heap_usable});
}

// ---- a handle on its way
// ---------------------------------------------------------------------------------------------------

struct mail {
  covey::queue<covey::event> q{covey::queue_options{.items = 4, .bytes = 4096}};
  covey::event e;
};

struct mail_on_its_way {
  covey::queue<covey::event> q{covey::queue_options{.items = 4, .bytes = 4096}};
  mail_on_its_way() {
    covey::event e;
    e.set();
    q.put(e);
  }
};

TEST(StepperMemory, PutsAHandleIntoAQueue) {
  step("queue.put of a handle", stepped<mail>{.run = [](mail& w) { w.q.put(w.e); },
                                              .check =
                                                  [](mail& w, const last_process& last) {
                                                    const auto got = w.q.try_get();
                                                    EXPECT_TRUE(!last.returned || got);
                                                    if (got) {
                                                      EXPECT_EQ(*got, w.e);
                                                      w.q.task_done();
                                                    }
                                                  },
                                              .recover = [](mail& w) { (void)w.q.size(); },
                                              .brief = true});
}

TEST(StepperMemory, GetsAHandleFromAQueue) {
  step("queue.get of a handle", stepped<mail_on_its_way>{.run = [](mail_on_its_way& w) { (void)w.q.get(); },
                                                         .check =
                                                             [](mail_on_its_way& w, const last_process&) {
                                                               const auto got = w.q.try_get();
                                                               ASSERT_TRUE(got);
                                                               EXPECT_TRUE(got->is_set());
                                                               w.q.task_done();
                                                             },
                                                         .recover = [](mail_on_its_way& w) { (void)w.q.size(); },
                                                         .brief = true});
}

}  // namespace
