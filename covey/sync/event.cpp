// One word: bit 0 is the flag, bit 1 says that somebody sleeps. A setter killed between its store and its wake leaves
// the wake to `deaths`.
#include <covey/sync/event.hpp>

#include <climits>
#include <covey/memory/park.hpp>
#include <new>

namespace covey {
namespace {

constexpr std::uint32_t flag = 1;
constexpr std::uint32_t sleepers = 2;

}  // namespace

struct event::state {
  std::atomic<std::uint32_t> word{0};

  bool wait(const detail::deadline& until, const detail::stop_word* stop) noexcept {
    const auto is_set = [this] { return (word.load(std::memory_order_acquire) & flag) != 0; };  // pairs with set()
    if (is_set() || detail::spin_until(is_set)) return true;
    for (;;) {
      const std::uint32_t deaths = detail::deaths_seen();
      const std::uint32_t seen = word.fetch_or(sleepers, std::memory_order_acquire);
      if ((seen & flag) != 0) return true;
      if (detail::park(word, sleepers, deaths, until, stop) != detail::wake_reason::woken) return is_set();
    }
  }
};

event::event() : region_(detail::region_request{.bytes = sizeof(state), .kind = detail::region_kind::event}) {
  new (region_.data()) state;
}

event::state& event::shared() const { return *reinterpret_cast<state*>(region_.data()); }

void event::set() noexcept {
  if ((shared().word.exchange(flag, std::memory_order_release) & sleepers) != 0) detail::unpark(shared().word, INT_MAX);
}

void event::clear() noexcept { shared().word.fetch_and(~flag, std::memory_order_relaxed); }

bool event::is_set() const noexcept { return (shared().word.load(std::memory_order_acquire) & flag) != 0; }

void event::wait() const { shared().wait(std::nullopt, nullptr); }

bool event::wait_for(std::chrono::nanoseconds timeout, std::stop_token stop) const {
  const detail::stop_word stopped(std::move(stop));
  return shared().wait(detail::deadline_in(timeout), &stopped);
}

bool event::wait_until(std::chrono::steady_clock::time_point until, std::stop_token stop) const {
  const detail::stop_word stopped(std::move(stop));
  return shared().wait(until, &stopped);
}

event event::decode_handle(detail::decoder& in) {
  return event(detail::region::decode(in, detail::region_kind::event));
}

}  // namespace covey
