// Words of a queue that goes by rank are overwritten as the input says, between its operations, also by somebody who
// knows how they are stored: whatever it is, the queue says that it is damaged or goes on, without a crash, a hang, or
// a message that nobody put; and when nobody has the queue any more, its memory goes.
#include <covey/base/check.hpp>
#include <covey/ipc/queue_core.hpp>
#include <covey/ipc/queue_layout.hpp>
#include <covey/memory/holdings.hpp>
#include <covey/testing/fuzz_input.hpp>

#include <thread>

namespace {

namespace d = covey::detail;
using covey::testing::check_uniform;
using covey::testing::fuzz_input;
using covey::testing::uniform_message;

constexpr std::size_t items = 4;
constexpr std::size_t lanes = 256, slots = 128;
constexpr std::size_t roles_used = 8, lanes_used = 2, slots_used = 12;

d::queue_header& header_of(const d::queue_core& q) { return *reinterpret_cast<d::queue_header*>(q.memory().data()); }

std::uint64_t* words_at(const d::queue_core& q, std::uint64_t offset) {
  return reinterpret_cast<std::uint64_t*>(q.memory().data() + offset);
}
std::uint64_t* slot_words(const d::queue_core& q, std::size_t slot) {
  return words_at(q, d::slots_offset(lanes)) + slot * sizeof(d::message_slot) / 8;
}
std::uint64_t* node_words(const d::queue_core& q, std::size_t slot) {
  return words_at(q, d::slots_offset(lanes) + lanes * slots * sizeof(d::message_slot)) +
         slot * sizeof(d::order_node) / 8;
}

// The words that participants write: the header, its first lanes, and some slots and nodes of the first.
std::uint64_t& word_of(const d::queue_core& q, std::size_t n) {
  constexpr std::size_t of_header = offsetof(d::queue_header, roles) / 8 + roles_used;
  constexpr std::size_t of_lanes = lanes_used * sizeof(d::lane_control) / 8;
  constexpr std::size_t of_slots = slots_used * sizeof(d::message_slot) / 8;
  constexpr std::size_t of_nodes = slots_used * sizeof(d::order_node) / 8;
  n %= of_header + of_lanes + of_slots + of_nodes;
  if (n < of_header) return words_at(q, 0)[n];
  if ((n -= of_header) < of_lanes) return words_at(q, offsetof(d::queue_header, lanes))[n];
  if ((n -= of_lanes) < of_slots) return slot_words(q, 0)[n];
  return node_words(q, 0)[n - of_slots];
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
    case 2: return d::slot_state::put_by(dead()).word ^ key;
    default: return d::slot_state::at(d::slot_kind{kind % 8U - 3}, in.next<std::uint8_t>(), deliveries).word ^ key;
  }
}

void overwrite(fuzz_input& in, const d::queue_core& q) {
  d::queue_header& h = header_of(q);
  const std::uint64_t key = d::queue_key(q.memory().id());
  const std::size_t slot = in.next<std::uint8_t>() % slots_used;
  switch (in.next<std::uint8_t>() % 8) {
    case 0:
    case 1: {
      const std::size_t n = in.next<std::uint16_t>();
      const auto value = in.next<std::uint64_t>();
      if (!d::alive(value)) word_of(q, n) = value;  // who moves quota and lives is waited for, as is right
      break;
    }
    case 2: word_of(q, in.next<std::uint16_t>()) = word_of(q, in.next<std::uint16_t>()); break;
    case 3: {  // a small change is more like something true
      word_of(q, in.next<std::uint16_t>()) += static_cast<std::uint64_t>(in.next<std::int8_t>());
      break;
    }
    case 4: *slot_words(q, slot) = any_state(in, key); break;
    case 5: node_words(q, slot)[0] = d::link_word(key, slot + 1, in.next<std::uint8_t>() % (slots_used + 2)); break;
    case 6: {
      const std::uint64_t at = in.next<std::uint8_t>() % (slots_used + 2);
      h.lanes[0].begin = d::list_begin{in.next<std::uint8_t>(), at}.word(key);
      break;
    }
    default: --h.swept_deaths;  // all look for the dead
  }
}

void check_whole(const d::queue_core::incoming& m) {
  m.expect_unchanged();
  check_uniform(m.bytes);
}

void step(fuzz_input& in, const d::queue_core& q) {
  const d::deadline now = std::chrono::steady_clock::now();
  d::queue_core::incoming m;
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
      (void)q.put(d::queue_core::outgoing{.bytes = bytes, .rank = in.next<std::uint8_t>()}, now, nullptr);
      break;
    }
    case 8:
    case 9:
      if (q.get(m, now, nullptr) == d::queue_core::get_result::got) check_whole(m);
      break;
    case 10: {
      const auto got = q.get_many(in.next<std::uint8_t>() % 8, now, nullptr);
      for (std::size_t i = 0; i < got.count; ++i) {
        d::queue_core::look_at(got, i, m);
        check_whole(m);
      }
      if (got.count != 0) q.drop_one_put_back_others(in.next<std::uint8_t>() % got.count);
      break;
    }
    case 11: (void)q.acknowledge(); break;
    case 12:
      (void)q.failed();
      if (q.get_failed(m)) check_whole(m);
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
  const d::queue_core q{options, shape % 2 == 0 ? d::queue_order::by_rank : d::queue_order::newest_first};
  COVEY_CHECK(header_of(q).shape.lanes == lanes && header_of(q).shape.slots == slots, "the words are where we look");
  struct at_the_end {
    ~at_the_end() { d::acknowledge_all(); }  // else what is in hand keeps the queue
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
      // No lane is free.
    } catch (const std::system_error&) {
      // No memory can be had.
    }
  return q.memory().id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint64_t id = run(fuzz_input({data, size}));
  COVEY_CHECK(!d::take_if_counted(id), "nothing of it is kept");
  return 0;
}
