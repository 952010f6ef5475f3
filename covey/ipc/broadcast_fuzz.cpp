// Words of a broadcast are overwritten as the input says, between puts, gets and subscriptions, also by somebody who
// knows how such words are made: whatever it is, the broadcast says that it is damaged or goes on,
// without a crash, a hang, or a message that nobody put; and when nobody has it any more, its memory goes.
#include <covey/ipc/broadcast_core.hpp>
#include <covey/ipc/broadcast_layout.hpp>
#include <covey/memory/holdings.hpp>
#include <covey/testing/fuzz_input.hpp>

#include <array>
#include <optional>

namespace {

namespace d = covey::detail;
using covey::testing::check_uniform;
using covey::testing::fuzz_input;
using covey::testing::uniform_message;

constexpr std::size_t items = 4, subscribers = 3, lanes = 3;

d::broadcast_header& header_of(const d::broadcast_core& b) {
  return *reinterpret_cast<d::broadcast_header*>(b.memory().data());
}

constexpr std::size_t words_of_header = (offsetof(d::broadcast_header, lanes) + lanes * sizeof(d::broadcast_lane)) / 8;
constexpr std::size_t words_in_region =
    ((sizeof(d::broadcast_header) + 63) / 64 * 64 + subscribers * sizeof(d::broadcast_subscription) +
     (items + 1) * sizeof(d::broadcast_place)) /
    8;

// The words that participants write: header with the first lanes, subscriptions, places.
std::uint64_t& word_of(const d::broadcast_core& b, std::size_t n) {
  auto* const words = reinterpret_cast<std::uint64_t*>(b.memory().data());
  constexpr std::size_t all_lanes = (sizeof(d::broadcast_header) + 63) / 64 * 8;
  n %= words_of_header + words_in_region - all_lanes;
  return words[n < words_of_header ? n : n - words_of_header + all_lanes];
}

// And in the region of the first lane, which only its owner can write: the beginning of each header, and a payload's.
std::uint64_t& word_of_lane(const d::broadcast_core& b, std::size_t n) {
  const std::uint64_t id = header_of(b).lanes[0].data.load();
  const d::region data = d::region::hold_if_counted(id);
  if (!data || data.kind() != d::region_kind::lane) return word_of(b, n);
  auto* const words = reinterpret_cast<std::uint64_t*>(data.data());
  constexpr std::size_t header_words = (items + 2) * sizeof(d::message_header) / 8;
  n %= 2 + header_words + 64;
  if (n < 2) return words[n];
  n -= 2;
  if (n < header_words) return words[d::page_bytes / 8 + n];
  return words[2 * d::page_bytes / 8 + n - header_words];
}

void overwrite(fuzz_input& in, const d::broadcast_core& b) {
  d::broadcast_header& h = header_of(b);
  const std::uint64_t key = d::queue_key(b.memory().id());
  switch (in.next<std::uint8_t>() % 9) {
    case 0: {
      const std::size_t n = in.next<std::uint16_t>();
      word_of(b, n) = in.next<std::uint64_t>();
      break;
    }
    case 1: word_of(b, in.next<std::uint16_t>()) = word_of(b, in.next<std::uint16_t>()); break;
    case 2: {  // a small change is more like something true
      word_of(b, in.next<std::uint16_t>()) += static_cast<std::uint64_t>(in.next<std::int8_t>());
      break;
    }
    case 3: {  // a place, or a cursor, that could be one
      const std::size_t n = in.next<std::uint16_t>();
      const auto kind = d::place_kind{in.next<std::uint8_t>() % 4U};
      const std::uint64_t number = in.next<std::uint8_t>() % 16U;
      const bool cursor = in.next<std::uint8_t>() % 2 == 0;
      word_of(b, n) = cursor ? d::slot_state::at(d::slot_kind::queued, number).word ^ key
                             : d::place_word::at(kind, number, in.next<std::uint8_t>() % 3U).word ^ key;
      break;
    }
    case 4: h.lanes[in.next<std::uint8_t>() % lanes].owner = 1; break;  // somebody's who never lived
    case 5: h.lanes[0].owner = in.next<std::uint8_t>() % 2 == 0 ? 0 : d::this_name(); break;
    case 6: h.flags = d::checked_flags(key, in.next<std::uint8_t>() % 4U); break;
    case 7: {
      const std::size_t n = in.next<std::uint16_t>();
      if (auto& word = word_of_lane(b, n); in.next<std::uint8_t>() % 2 == 0)
        word = in.next<std::uint64_t>();
      else
        word += 1;
      break;
    }
    default: --h.swept_deaths;  // all look for the dead
  }
}

struct world {
  d::broadcast_core b;
  std::array<std::optional<d::subscription_core>, subscribers> listeners;
};

void step(fuzz_input& in, world& w) {
  const d::deadline now = std::chrono::steady_clock::now();
  std::optional<d::subscription_core>& listener = w.listeners[in.next<std::uint8_t>() % subscribers];
  if (!listener) listener = w.b.subscribe();
  switch (in.next<std::uint8_t>() % 12) {
    case 0:
    case 1:
    case 2:
    case 3: overwrite(in, w.b); break;
    case 4:
    case 5: {
      const auto bytes = uniform_message(in.next<std::uint8_t>());
      (void)w.b.put(d::broadcast_core::outgoing{.bytes = bytes}, now, nullptr);
      break;
    }
    case 6:
    case 7:
    case 8: {
      d::subscription_core::copied m;
      if (listener->next(m, now, nullptr) != d::subscription_core::get_result::got) break;
      check_uniform(m.payload());
      (void)listener->take(m);
      break;
    }
    case 9: listener.reset(); break;
    case 10:
      (void)listener->ready();
      (void)listener->missed();
      (void)w.b.subscribers();
      break;
    default:
      if (const auto how = static_cast<std::uint8_t>(in.next<std::uint8_t>() % 8); how < 2)
        w.b.close(covey::close_mode{how});
  }
}

// Which broadcast it was.
std::uint64_t run(fuzz_input in) {
  const auto slow = static_cast<std::uint8_t>(in.next<std::uint8_t>() % 3);
  world w{
      .b = d::broadcast_core(
          {.items = items, .bytes = 32 << 10, .subscribers = subscribers, .when_slow = covey::slow_subscriber{slow}}),
      .listeners = {}};
  for (auto& listener : w.listeners) listener = w.b.subscribe();
  while (!in.empty()) try {
      step(in, w);
    } catch (const covey::queue_damaged&) {
      break;
    } catch (const covey::queue_closed&) {
      // The input says so.
    } catch (const covey::too_slow&) {
      // That, too.
    } catch (const std::length_error&) {
      // Larger than the broadcast, or no room for a subscriber.
    }
  return w.b.memory().id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint64_t id = run(fuzz_input({data, size}));
  COVEY_CHECK(!d::take_if_counted(id), "nothing of it is kept");
  return 0;
}
