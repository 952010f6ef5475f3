// Words of a queue under one lock are overwritten as the input says, between its operations, also by somebody who knows
// how checksums are made, or dies in the lock: whatever it is, the queue says that it is damaged or goes on, without a
// crash, a hang, or a message that nobody put; and when nobody has the queue any more, its memory goes.
#include <covey/ipc/ordered_core.hpp>
#include <covey/ipc/ordered_layout.hpp>
#include <covey/memory/holdings.hpp>
#include <covey/testing/fuzz_input.hpp>

#include <thread>

namespace {

namespace d = covey::detail;
using covey::testing::check_uniform;
using covey::testing::fuzz_input;
using covey::testing::uniform_message;

constexpr std::size_t items = 4;
constexpr std::size_t descriptors = items + 64;
constexpr std::size_t roles_used = 8, descriptors_used = 12, blocks_used = 24;

d::ordered_header& header_of(const d::ordered_core& q) {
  return *reinterpret_cast<d::ordered_header*>(q.memory().data());
}

// The words that participants write: the header, descriptors, indexes, and of some blocks the link and what follows.
std::uint64_t& word_of(const d::ordered_core& q, std::size_t n) {
  auto* const words = reinterpret_cast<std::uint64_t*>(q.memory().data());
  constexpr std::size_t of_header = offsetof(d::ordered_header, roles) / 8 + roles_used;
  constexpr std::size_t of_descriptors = descriptors_used * sizeof(d::message_descriptor) / 8;
  constexpr std::size_t of_index = descriptors * sizeof(std::uint32_t) / 8;
  constexpr std::size_t descriptors_at = (sizeof(d::ordered_header) + 63) / 64 * 8;
  constexpr std::size_t index_at = descriptors_at + descriptors * sizeof(d::message_descriptor) / 8;
  constexpr std::size_t blocks_at =
      (index_at + of_index + d::page_bytes / 8 - 1) / (d::page_bytes / 8) * d::page_bytes / 8;
  n %= of_header + of_descriptors + of_index + 2 * blocks_used;
  if (n < of_header) return words[n];
  if ((n -= of_header) < of_descriptors) return words[descriptors_at + n];
  if ((n -= of_descriptors) < of_index) return words[index_at + n];
  n -= of_index;
  return words[blocks_at + n / 2 * (d::block_bytes / 8) + n % 2];
}

// Somebody who lived, and does no more.
d::participant dead() {
  static const d::participant name = [] {
    d::participant n = 0;
    std::thread([&] { n = d::this_name(); }).join();
    return n;
  }();
  return name;
}

std::uint64_t any_state(fuzz_input& in, std::uint64_t key) {
  const auto kind = in.next<std::uint8_t>();
  const auto deliveries = in.next<std::uint8_t>() & 127U;
  switch (kind % 8) {
    case 0: return d::slot_state::in_hand_of(dead(), deliveries).word ^ key;
    case 1: return d::slot_state::in_hand_of(d::this_name(), deliveries).word ^ key;
    default: return d::slot_state::at(d::slot_kind{kind % 8U - 2}, in.next<std::uint8_t>(), deliveries).word ^ key;
  }
}

void overwrite(fuzz_input& in, const d::ordered_core& q) {
  d::ordered_header& h = header_of(q);
  const std::uint64_t key = d::queue_key(q.memory().id());
  auto& lock = reinterpret_cast<std::uint64_t&>(h.locked.lock);
  switch (in.next<std::uint8_t>() % 8) {
    case 0:
    case 1: {
      const std::size_t n = in.next<std::uint16_t>();
      word_of(q, n) = in.next<std::uint64_t>();
      break;
    }
    case 2: word_of(q, in.next<std::uint16_t>()) = word_of(q, in.next<std::uint16_t>()); break;
    case 3: {  // a small change is more like something true
      word_of(q, in.next<std::uint16_t>()) += static_cast<std::uint64_t>(in.next<std::int8_t>());
      break;
    }
    case 4: {
      const std::size_t descriptor = in.next<std::uint8_t>() % descriptors_used;
      word_of(q, offsetof(d::ordered_header, roles) / 8 + roles_used + descriptor * 8) = any_state(in, key);
      break;
    }
    case 5: lock = dead(); break;
    case 6: h.locked.close_books(key); break;
    default: {  // all look for the dead
      --h.locked.books.swept_deaths;
      h.locked.close_books(key);
    }
  }
  if (d::alive(lock)) lock = 0;  // who lives is waited for, as is right
}

void step(fuzz_input& in, const d::ordered_core& q) {
  const d::deadline now = std::chrono::steady_clock::now();
  d::ordered_core::incoming m;
  switch (in.next<std::uint8_t>() % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: overwrite(in, q); break;
    case 5:
    case 6:
    case 7: {
      const auto bytes = uniform_message(in.next<std::uint8_t>());
      (void)q.put(d::ordered_core::outgoing{.bytes = bytes}, in.next<std::uint8_t>(), now, nullptr);
      break;
    }
    case 8:
    case 9:
      if (q.get(m, now, nullptr) == d::ordered_core::get_result::got) check_uniform(m.bytes);
      break;
    case 10: {
      const std::size_t count = q.get_many(in.next<std::uint8_t>() % 8, now, nullptr).count;
      for (std::size_t i = 0; i < count; ++i) {
        q.look_at(i, m);
        check_uniform(m.bytes);
      }
      if (count != 0) q.drop_one_put_back_others(in.next<std::uint8_t>() % count);
      break;
    }
    case 11: (void)q.acknowledge(); break;
    case 12:
      (void)q.failed();
      if (q.get_failed(m)) check_uniform(m.bytes);
      break;
    case 13: (void)q.join(now, nullptr); break;
    case 14:
      (void)q.ready();
      (void)q.size_approx();
      (void)q.size();
      break;
    default:
      if (const auto how = static_cast<std::uint8_t>(in.next<std::uint8_t>() % 8); how < 2)
        q.close(covey::close_mode{how});
  }
}

// Which queue it was.
std::uint64_t run(fuzz_input in) {
  const auto shape = in.next<std::uint8_t>();
  const covey::queue_options options{.items = items,
                                     .bytes = 64 << 10,
                                     .on_death = covey::in_flight_policy{static_cast<std::uint8_t>(shape % 3)},
                                     .deliveries_max = shape % 4U};
  const d::ordered_core q{options, shape % 2 == 0 ? d::queue_order::by_rank : d::queue_order::newest_first};
  COVEY_CHECK(header_of(q).shape.descriptors == descriptors, "the words are where we look");
  struct at_the_end {
    ~at_the_end() { d::acknowledge_all_ordered(); }  // else what is in hand keeps the queue
  } const done;
  while (!in.empty()) try {
      step(in, q);
    } catch (const covey::queue_damaged&) {
      break;
    } catch (const covey::queue_closed&) {
      // The input says so.
    } catch (const covey::no_consumers&) {
      // A role was overwritten with one of the dead.
    } catch (const covey::no_producers&) {
      // So here.
    } catch (const std::length_error&) {
      // Larger than the queue.
    }
  return q.memory().id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint64_t id = run(fuzz_input({data, size}));
  COVEY_CHECK(!d::take_if_counted(id), "nothing of it is kept");
  return 0;
}
