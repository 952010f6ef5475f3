// Two objects of each kind that can be given to others: their regions have no page in common, by the keeper's book. So
// whoever was given one has nothing mapped that the control words of another lie in.
#include <gtest/gtest.h>
#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/pipe.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/memory.hpp>
#include <covey/process/process.hpp>
#include <covey/sync.hpp>

#include <algorithm>
#include <map>
#include <memory>

namespace {

using covey::detail::family;
using covey::detail::page_bytes;

struct range {
  std::uint64_t begin, end;
};

// All that live, by index and generation.
std::map<std::uint64_t, range> regions_now() {
  std::map<std::uint64_t, range> all;
  for (std::uint32_t i = 0; i < family.book->regions_used; ++i) {
    const auto& r = family.book->regions[i];
    const std::uint64_t generation = r.generation;
    if (generation % 2 == 1) all[i | generation << 32] = {r.offset, r.offset + r.bytes};
  }
  return all;
}

struct grant {
  std::string what;
  range where;
};

class Grants : public testing::Test {
 protected:
  // Keeps what `make` makes; the regions that are there then are that one's, with those of its lanes.
  template <class Make>
  void grant_one(const std::string& what, const Make& make) {
    const auto before = regions_now();
    kept_.push_back(std::make_shared<decltype(make())>(make()));
    std::size_t made = 0;
    for (const auto& [id, where] : regions_now()) {
      if (before.contains(id)) continue;
      grants_.push_back({what + " " + std::to_string(kept_.size()), where});
      ++made;
    }
    EXPECT_GE(made, 1U) << what << " lies in what was there before";
  }
  template <class Make>
  void grant_two(const std::string& what, const Make& make) {
    grant_one(what, make);
    grant_one(what, make);
  }

  std::vector<grant> grants_;

 private:
  std::vector<std::shared_ptr<void>> kept_;
};

// What they need of a queue is there once somebody has put and got.
template <class Queue>
Queue used() {
  Queue q;
  q.put(1);
  (void)q.get();
  return q;
}

struct texts {
  covey::vector<covey::string> all;
};

TEST_F(Grants, HaveNoPageInCommon) {
  const covey::event warm;  // what a process needs once
  grant_two("mutex", [] { return covey::mutex(); });
  grant_two("recursive_mutex", [] { return covey::recursive_mutex(); });
  grant_two("shared_mutex", [] { return covey::shared_mutex(); });
  grant_two("semaphore", [] { return covey::counting_semaphore<>(1); });
  grant_two("permits", [] { return covey::permits(1); });
  grant_two("event", [] { return covey::event(); });
  grant_two("latch", [] { return covey::latch(1); });
  grant_two("barrier", [] { return covey::barrier(2); });
  grant_two("condition_variable", [] { return covey::condition_variable(); });
  grant_two("once_flag", [] { return covey::once_flag(); });
  grant_two("guarded<int>", [] { return covey::guarded<int>(1); });
  grant_two("guarded<string>", [] { return covey::guarded<std::string>("text"); });
  grant_two("queue", used<covey::queue<int>>);
  grant_two("priority_queue", used<covey::priority_queue<int>>);
  grant_two("lifo_queue", used<covey::lifo_queue<int>>);
  grant_two("pipe", [] {
    auto ends = covey::make_pipe<int>();
    ends.first.put(1);
    (void)ends.second.get();
    return ends;
  });
  grant_two("broadcast and subscriber", [] {
    const covey::broadcast<int> b;
    auto s = b.subscribe();
    b.put(1);
    (void)s.get();
    return std::pair(b, std::move(s));
  });
  grant_two("shared_ptr<int>", [] { return covey::make_shared<int>(1); });
  grant_two("shared_ptr of containers", [] {
    auto t = covey::make_shared<texts>();
    t->all.emplace_back(10'000, 'x');
    return t;
  });
  grant_two("shared_array", [] { return covey::make_shared_array<int>(10'000); });

  for (const auto& [what, where] : grants_) {
    EXPECT_EQ(where.begin % page_bytes, 0U) << what;
    EXPECT_EQ(where.end % page_bytes, 0U) << what;
    EXPECT_LT(where.begin, where.end) << what;
    EXPECT_LE(where.end, family.arena_bytes) << what;
  }
  std::ranges::sort(grants_, {}, [](const grant& g) { return g.where.begin; });
  for (std::size_t i = 1; i < grants_.size(); ++i)
    EXPECT_LE(grants_[i - 1].where.end, grants_[i].where.begin) << grants_[i - 1].what << ", " << grants_[i].what;
}

}  // namespace
