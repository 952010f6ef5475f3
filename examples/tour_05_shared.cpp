// Tour 5: shared state. A hundred tickets, sold by tasks; then again, and one seller is killed inside the critical
// section.
#include <fmt/format.h>
#include <signal.h>
#include <covey/memory.hpp>
#include <covey/pool.hpp>
#include <covey/sync.hpp>

#include <mutex>
#include <ranges>

namespace {

struct sale {
  int left = 0;
};

// A sale that keeps books.
struct fair {
  explicit fair(int tickets) : left(tickets) {}
  int left;
  int sold = 0;
  covey::vector<int> numbers{};  // in the same shared memory as the fair
};

// Whatever the dead had half done, the numbers sold are the truth.
void repair(fair& s) {
  s.sold = static_cast<int>(s.numbers.size());
  s.left = 100 - s.sold;
}

void sell_one(int customer, covey::shared_ptr<fair> s, covey::mutex lock) {
  try {
    const std::scoped_lock held{lock};
    if (s->left == 0) return;
    s->numbers.push_back(101 - s->left);
    if (s->numbers.size() == 50) ::raise(SIGKILL);  // the number is taken, but not yet counted
    --s->left;
    ++s->sold;
  } catch (const covey::owner_died&) {
    lock.recover([&] { repair(*s); });
    sell_one(customer, s, lock);
  }
}

// One is killed in the middle of its update, and has changed nothing.
void take_one(int customer, covey::guarded<sale> box) {
  box.update([&](sale& s) {
    --s.left;
    if (customer == 50) ::raise(SIGKILL);
  });
}

}  // namespace

int main() {
  covey::process_pool pool;
  auto tickets = covey::make_shared<sale>(100);  // in shared memory, at the same address everywhere
  covey::mutex m;
  pool.map(
      [](int, covey::shared_ptr<sale> s, covey::mutex lock) {
        std::scoped_lock held{lock};
        if (s->left > 0) --s->left;
      },
      std::views::iota(0, 200), tickets, m);
  fmt::print("tickets left: {}\n", tickets->left);

  auto stalls = covey::make_shared<fair>(100);
  const auto outcomes = pool.map_outcomes(sell_one, std::views::iota(0, 200), stalls, m);
  fmt::print("tasks lost: {}\n", std::ranges::count_if(outcomes, [](const auto& o) { return !o; }));
  m.recover([&] { repair(*stalls); });  // does nothing if a seller has done it

  covey::guarded<sale> box{sale{100}};
  box.update([](sale& s) { --s.left; });  // needs no repair
  const auto taken = pool.map_outcomes(take_one, std::views::iota(0, 100), box);
  fmt::print("updates lost: {}, left {}\n", std::ranges::count_if(taken, [](const auto& o) { return !o; }),
             box.load().left);

  const std::scoped_lock held{m};
  fmt::print("left {}, sold {}, numbers {}\n", stalls->left, stalls->sold, stalls->numbers.size());
}
