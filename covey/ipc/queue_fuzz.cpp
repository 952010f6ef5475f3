// Words of a queue that is in use are overwritten as the input says, between puts, takes, counts and closings as the
// input says: whatever it is, the queue says that it is damaged or goes on, without a crash, a hang, or a message that
// nobody put; and when nobody has the queue any more, its memory goes.
#include <covey/base/check.hpp>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/memory/holdings.hpp>

#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace {

namespace d = covey::detail;

class reader {
 public:
  explicit reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  template <class T>
  T next() {
    T value{};
    const std::size_t n = std::min(sizeof value, bytes_.size());
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

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

// A message says of each byte what it must be.
std::vector<std::byte> message_of(std::uint8_t size) {
  return std::vector<std::byte>(std::size_t{size} * (size % 7 == 0 ? 40U : 1U), std::byte{size});
}

void check(std::span<const std::byte> got) {
  if (got.empty()) return;
  const auto size = std::to_integer<std::uint8_t>(got[0]);
  COVEY_CHECK(got.size() == message_of(size).size(), "a message is as long as it was put");
  for (const std::byte b : got) COVEY_CHECK(b == got[0], "a message is what was put");
}

void step(reader& in, const d::queue_core& q) {
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
      const auto bytes = message_of(in.next<std::uint8_t>());
      (void)q.put(d::queue_core::outgoing{.bytes = bytes}, now, nullptr);
      break;
    }
    case 7:
    case 8: {
      d::queue_core::taken m;
      if (q.get(m, now, nullptr) == d::queue_core::get_result::got) check(m.bytes);
      break;
    }
    case 9: (void)q.size(); break;
    case 10: (void)q.join(now, nullptr); break;
    default: {
      (void)q.failed();
      (void)q.size_approx();
      d::queue_core::incoming m;
      if (q.get_failed(m)) check(m.bytes);
    }
  }
}

// Which queue it was.
std::uint64_t run(reader in) {
  const d::queue_core q{covey::queue_options{.items = items, .bytes = 64 << 10}};
  COVEY_CHECK(reinterpret_cast<d::queue_header*>(q.memory().data())->shape.lanes == lanes,
              "the slots are where we look");
  const auto first = message_of(1);
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
  const std::uint64_t id = run(reader({data, size}));
  COVEY_CHECK(!d::take_if_counted(id), "nothing of it is kept");
  return 0;
}
