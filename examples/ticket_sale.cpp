// A ticket sale: eight processes sell a hundred tickets. Every tenth ticket costs its seller his life, in the middle of
// the sale; somebody repairs what he left, another one takes his place, and no ticket is sold twice or lost.
#include <fmt/format.h>
#include <signal.h>
#include <covey/memory.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

namespace {

constexpr int tickets = 100;

struct sale {
  int left = tickets;  // tickets 1 … left are for sale
  std::array<int, tickets + 1> times_sold{};  // the truth: what customers have in hand

  void repair() { left = static_cast<int>(std::count(times_sold.begin() + 1, times_sold.end(), 0)); }
};

void sell(covey::shared_ptr<sale> s, covey::mutex counter, covey::latch all_are_here) {
  all_are_here.wait();
  for (;;) {
    try {
      const std::scoped_lock held{counter};
      if (s->left == 0) return;
      const int ticket = s->left;
      ++s->times_sold[static_cast<std::size_t>(ticket)];
      if (ticket % 10 == 0) ::raise(SIGKILL);  // the customer has it, and it still counts as being for sale
      --s->left;
    } catch (const covey::owner_died&) {
      counter.recover([&] { s->repair(); });
    }
  }
}

}  // namespace

int main() {
  auto s = covey::make_shared<sale>();
  const covey::mutex counter;
  covey::latch all_are_here{1};
  std::vector<covey::process> sellers;
  for (int i = 0; i < 8; ++i) sellers.emplace_back(sell, s, counter, all_are_here);
  all_are_here.count_down();

  int killed = 0;
  for (auto& seller : sellers)
    while (seller.join().signal() == SIGKILL) {
      ++killed;
      seller = covey::process(sell, s, counter, all_are_here);
    }

  const auto sold = [&](int times) { return std::count(s->times_sold.begin() + 1, s->times_sold.end(), times); };
  fmt::print("sellers killed: {}\n", killed);
  fmt::print("left {}, sold once {}, never {}, more than once {}\n", s->left, sold(1), sold(0),
             tickets - sold(0) - sold(1));
}
