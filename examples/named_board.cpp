// Two programs that know nothing of each other meet at a name: run it twice at the same time.
#include <fmt/format.h>
#include <array>
#include <chrono>
#include <covey/memory.hpp>
#include <covey/sync.hpp>
#include <cstring>
#include <mutex>
#include <string_view>

namespace {

// Numbers and covey's offset types only; a std::string in here would not compile.
struct note {
  std::array<char, 32> from{};
};
struct board {
  covey::named_mutex lock{};
  covey::named_event full{};
  int count = 0;
  std::array<note, 2> notes{};
};

void pin_up(board& b, std::string_view from) try {
  const std::scoped_lock held{b.lock};
  if (b.count == 2) return;
  from.copy(b.notes[static_cast<std::size_t>(b.count)].from.data(), 31);
  if (++b.count == 2) b.full.set();
} catch (const covey::owner_died&) {
  b.lock.recover([] {});  // a note without a count is pinned over
  pin_up(b, from);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fmt::print(stderr, "usage: named_board NAME FROM, twice at the same time\n"), 2;
  const auto b = covey::open_or_create<board>(argv[1]);  // made by whoever comes first
  pin_up(*b, argv[2]);
  if (!b->full.wait_for(std::chrono::seconds(30))) return fmt::print("nobody else came\n"), 1;
  for (const note& n : b->notes) fmt::print("{} read a note from {}\n", argv[2], n.from.data());
}  // the last one to end takes the board along
