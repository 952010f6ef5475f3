// Tour 5: shared state. A hundred tickets, sold by tasks; one seller is killed inside the critical section.
#include <fmt/format.h>
#include <signal.h>
#include <covey/memory.hpp>
#include <covey/pool.hpp>
#include <covey/sync.hpp>

#include <mutex>
#include <ranges>

namespace {

struct sale {
  explicit sale(int tickets) : left(tickets) {}
  int left;
  int sold = 0;
  covey::vector<int> numbers{};  // in the same shared memory as the sale
};

// Whatever the dead had half done, the numbers sold are the truth.
void repair(sale& s) {
  s.sold = static_cast<int>(s.numbers.size());
  s.left = 100 - s.sold;
}

void sell_one(int customer, covey::shared_ptr<sale> s, covey::mutex lock) {
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

struct stock {
  int left = 0;
};

// One is killed in the middle of its update, and has changed nothing.
void take_one(int customer, covey::guarded<stock> box) {
  box.update([&](stock& s) {
    --s.left;
    if (customer == 50) ::raise(SIGKILL);
  });
}

}  // namespace

int main() {
  auto tickets = covey::make_shared<sale>(100);  // in shared memory, at the same address everywhere
  covey::mutex m;
  covey::process_pool pool;
  const auto outcomes = pool.map_outcomes(sell_one, std::views::iota(0, 200), tickets, m);
  fmt::print("tasks lost: {}\n", std::ranges::count_if(outcomes, [](const auto& o) { return !o; }));

  m.recover([&] { repair(*tickets); });  // does nothing if a seller has done it
  covey::guarded<stock> box{stock{100}};  // needs no repair
  const auto taken = pool.map_outcomes(take_one, std::views::iota(0, 100), box);
  fmt::print("updates lost: {}, left {}\n", std::ranges::count_if(taken, [](const auto& o) { return !o; }),
             box.load().left);

  const std::scoped_lock held{m};
  fmt::print("left {}, sold {}, numbers {}\n", tickets->left, tickets->sold, tickets->numbers.size());
}
