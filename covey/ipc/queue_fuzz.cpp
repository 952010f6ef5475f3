// Words of a queue that is in use are overwritten as the input says, between puts, takes, counts and closings as the
// input says: whatever it is, the queue says that it is damaged or goes on, without a crash, a hang, or a message that
// nobody put; and when nobody has the queue any more, its memory goes.
#include <covey/base/check.hpp>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/memory/holdings.hpp>
#include <covey/testing/fuzz_input.hpp>

#include <optional>

namespace {

namespace d = covey::detail;
using covey::testing::check_uniform;
using covey::testing::fuzz_input;
using covey::testing::uniform_message;

constexpr std::size_t items = 4;
constexpr std::size_t lanes = 256;
constexpr std::size_t slots_used = 16;  // of the first lane

// The words that participants write: the header, its first two lanes, and some slots of the first.
std::uint64_t* word_at(const d::queue_core& q, std::size_t n) {
  auto* const words = reinterpret_cast<std::uint64_t*>(q.memory().data());
  const std::size_t of_header = (offsetof(d::queue_header, lanes) + 2 * sizeof(d::lane_control)) / 8;
  const std::size_t of_slots = slots_used * sizeof(d::message_slot) / 8;
  n %= of_header + of_slots;
  return n < of_header ? words + n : words + d::slots_offset(lanes) / 8 + (n - of_header);
}

void step(fuzz_input& in, const d::queue_core& q) {
  const d::deadline now = std::chrono::steady_clock::now();
  switch (in.next<std::uint8_t>() % 12) {
    case 0:
    case 1: {
      const std::size_t n = in.next<std::uint16_t>();
      const auto value = in.next<std::uint64_t>();
      if (d::alive(value)) break;  // a lock that a living participant has is waited for, as is right
      *word_at(q, n) = value;
      break;
    }
    case 2: *word_at(q, in.next<std::uint16_t>()) = *word_at(q, in.next<std::uint16_t>()); break;
    case 3: {  // a small change is more like something true
      *word_at(q, in.next<std::uint16_t>()) += static_cast<std::uint64_t>(in.next<std::int8_t>());
      break;
    }
    case 4:
    case 5:
    case 6: {
      const auto bytes = uniform_message(in.next<std::uint8_t>());
      (void)q.put(d::queue_core::outgoing{.bytes = bytes}, now, nullptr);
      break;
    }
    case 7:
    case 8: {
      d::queue_core::taken m;
      if (q.get(m, now, nullptr) == d::queue_core::get_result::got) check_uniform(m.bytes);
      break;
    }
    case 9: (void)q.size(); break;
    case 10: (void)q.join(now, nullptr); break;
    default: {
      (void)q.failed();
      (void)q.size_approx();
      d::queue_core::incoming m;
      if (q.get_failed(m)) {
        m.expect_unchanged();
        check_uniform(m.bytes);
      }
    }
  }
}

// Which queue it was.
std::uint64_t run(fuzz_input in) {
  const d::queue_core q{covey::queue_options{.items = items, .bytes = 64 << 10}};
  COVEY_CHECK(reinterpret_cast<d::queue_header*>(q.memory().data())->shape.lanes == lanes,
              "the slots are where we look");
  const auto first = uniform_message(1);
  COVEY_CHECK(q.put(d::queue_core::outgoing{.bytes = first}, std::nullopt, nullptr), "a new queue has room");
  struct at_the_end {
    ~at_the_end() { d::acknowledge_all(); }  // else what is in hand keeps the queue
  } const done;
  while (!in.empty()) try {
      step(in, q);
    } catch (const covey::queue_damaged&) {
      break;
    } catch (const covey::queue_closed&) {
      break;
    } catch (const covey::no_consumers&) {
      // A role was overwritten with one of the dead.
    } catch (const covey::no_producers&) {
      // So here.
    } catch (const std::length_error&) {
      // No lane is free.
    } catch (const std::system_error&) {
      // The lock names this very thread, or no memory can be had.
    }
  return q.memory().id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint64_t id = run(fuzz_input({data, size}));
  COVEY_CHECK(!d::take_if_counted(id), "nothing of it is kept");
  return 0;
}
