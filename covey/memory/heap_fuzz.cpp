// Words of a heap that is in use are overwritten as the input says, between allocations and deallocations as the input
// says: whatever it is, the heap refuses or goes on, without a crash, a hang, or a block outside its region.
#include <covey/base/check.hpp>
#include <covey/memory/allocator.hpp>
#include <covey/memory/heap_inspection.hpp>
#include <covey/memory/heap_layout.hpp>
#include <covey/memory/region.hpp>
#include <covey/testing/fuzz_input.hpp>

#include <cstring>
#include <new>
#include <span>
#include <vector>

namespace {

using covey::detail::heap;
using covey::detail::region;
using covey::detail::root;
using covey::testing::fuzz_input;

constexpr std::uint64_t region_bytes = 1 << 20;
constexpr std::uint64_t first_committed = 64 << 10;
constexpr std::uint64_t limit = region_bytes - covey::detail::heap_layout::starts_bytes(0, region_bytes);

// One for all inputs: its pages are given once, and what an input left is overwritten by the next heap.
region& memory() {
  static region r({.bytes = region_bytes, .committed = first_committed, .kind = covey::detail::region_kind::object});
  return r;
}

struct block {
  void* p;
  std::size_t bytes;
  std::size_t align;
};

void step(fuzz_input& in, heap& h, std::vector<block>& blocks) {
  switch (in.next<std::uint8_t>() % 8) {
    case 0: {  // a word of the heap itself
      auto* const words = reinterpret_cast<std::uint64_t*>(&h);
      const std::size_t at = in.next<std::uint8_t>() % (sizeof h / 8);
      const auto word = in.next<std::uint64_t>();
      if (at == 0 && covey::detail::alive(word)) break;  // a live owner is waited for, as is right
      words[at] = word;
      break;
    }
    case 1: {  // a word of what it handed out
      const std::size_t at = in.next<std::uint16_t>() * 8 % first_committed;
      const auto word = in.next<std::uint64_t>();
      if (at >= sizeof(root)) std::memcpy(memory().data() + at, &word, sizeof word);
      break;
    }
    case 2: {
      if (blocks.empty()) break;
      const std::size_t at = in.next<std::uint8_t>() % blocks.size();
      h.deallocate(blocks[at].p, blocks[at].bytes, blocks[at].align);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    }
    case 3: (void)h.usage(); break;
    case 6: (void)h.reclaim(); break;
    case 7: {
      std::uint64_t to_search = region_bytes;
      (void)covey::detail::inspect_heap(memory().id(), to_search);
      break;
    }
    default: {
      const std::size_t bytes = in.next<std::uint16_t>();
      const std::size_t align = std::size_t{1} << in.next<std::uint8_t>() % 13;
      void* const p = h.allocate(bytes, align);
      const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(p) - memory().data());
      COVEY_CHECK(offset + bytes <= region_bytes, "a block lies in its region");
      std::memset(p, 0x5a, std::min<std::size_t>(bytes, 64));
      blocks.push_back({p, bytes, align});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto* const made = reinterpret_cast<root*>(memory().data());
  auto& h = *new (&made->memory) heap(sizeof(root), first_committed, limit);
  fuzz_input in({data, size});
  std::vector<block> blocks;
  while (!in.empty()) try {
      step(in, h, blocks);
    } catch (const std::bad_alloc&) {
      // Full, or told to be.
    } catch (const covey::memory_damaged&) {
      COVEY_CHECK(!h.sound_approx(), "damage is remembered");
    } catch (const std::system_error&) {
      // The lock names this very thread.
    }
  return 0;
}
