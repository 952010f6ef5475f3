// A waiter publishes "I wait for lock L, which O owned when O had released r locks" in pages that it alone writes.
// The owner raises its `releases` before it gives a lock up, so the sentence is true as long as the waiter's epoch and
// the owner's `releases` are what they were. A cycle of sentences that are all unchanged when they are read again was
// true as a whole between the two readings: a deadlock, and no false alarm.
#include <covey/sync/deadlock.hpp>

#include <array>
#include <chrono>
#include <cstring>

namespace covey {
namespace detail {
namespace {

constexpr std::size_t cycle_max = 64;  // longer ones are not looked for

lock_wait* record_of(participant name) noexcept {
  return cell_of(name) < threads_max ? &cells_of(slot_of(name)).waits[cell_of(name)] : nullptr;
}

std::uint32_t releases_of(participant name) noexcept {
  const lock_wait* const r = record_of(name);
  return r != nullptr ? r->releases.load(std::memory_order_seq_cst) : 0;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

// "`who` waits for `lock`, which `on` owns."
struct sentence {
  participant who;
  participant on;
  std::uint64_t since_ns;
  std::uint32_t lock;
  std::uint32_t epoch;
  std::uint32_t on_releases;

  [[nodiscard]] bool still_true() const noexcept {
    const lock_wait* const r = record_of(who);
    return alive(who) && alive(on) && r->epoch.load(std::memory_order_seq_cst) == epoch &&
           releases_of(on) == on_releases;
  }
};

// What `who` says now; its `lock` is 0 when it does not wait, or says something else at this moment.
sentence said_by(participant who) noexcept {
  sentence s{who, 0, 0, 0, 0, 0};
  const lock_wait* const r = record_of(who);
  if (r == nullptr) return s;
  s.epoch = r->epoch.load(std::memory_order_seq_cst);
  s.on = r->on.load(std::memory_order_seq_cst);
  s.since_ns = r->since_ns.load(std::memory_order_seq_cst);
  s.on_releases = r->on_releases.load(std::memory_order_seq_cst);
  const std::uint32_t lock = r->lock.load(std::memory_order_seq_cst);
  if (s.epoch % 2 == 0 && r->who.load(std::memory_order_seq_cst) == who && s.still_true()) s.lock = lock;
  return s;
}

struct cycle {
  std::array<sentence, cycle_max> sentences;
  std::size_t length = 0;  // 0: there is none

  [[nodiscard]] bool still_true() const noexcept {
    for (std::size_t i = 0; i < length; ++i)
      if (!sentences[i].still_true()) return false;
    return true;
  }
};

// From what this thread says on to the one who says that it waits for this thread.
cycle find_cycle() noexcept {
  cycle c;
  const participant me = this_name();
  participant next = me;
  for (std::size_t n = 0; n < cycle_max; ++n) {
    const sentence s = said_by(next);
    if (s.lock == 0) return c;
    c.sentences[n] = s;
    next = s.on & ~name_flags;
    if (next != me) continue;
    c.length = n + 1;
    return c;
  }
  return c;
}

std::string tell(const cycle& c) {
  std::string text = "covey: waiting would never end: " + in_words(c.sentences[0].who);
  for (std::size_t i = 0; i < c.length; ++i) {
    const sentence& s = c.sentences[i];
    text +=
        (i == 0 ? " waits for lock " : ", which waits for lock ") + std::to_string(s.lock) + " of " + in_words(s.on);
  }
  return text;
}

// Changes this thread's record so that nobody believes half of it.
template <class Change>
void rewrite(const Change& change) noexcept {
  lock_wait& r = *record_of(this_name());
  const std::uint32_t epoch = r.epoch.load(std::memory_order_relaxed) | 1;
  r.epoch.store(epoch, std::memory_order_seq_cst);
  change(r);
  r.epoch.store(epoch + 1, std::memory_order_seq_cst);
}

}  // namespace

std::string in_words(participant name) {
  const process_entry& p = family.book->processes[slot_of(name)];
  const std::string process(p.name, ::strnlen(p.name, sizeof p.name));
  return process + " (pid " + std::to_string(pid_of(p)) + ", thread " + std::to_string(cell_of(name)) + ")";
}

void note_release() noexcept { record_of(this_name())->releases.fetch_add(1, std::memory_order_seq_cst); }

told_wait::told_wait(std::uint32_t lock) noexcept : lock_(lock), since_ns_(now_ns()) {}

told_wait::~told_wait() {
  rewrite([](lock_wait& r) { r.lock.store(0, std::memory_order_seq_cst); });
}

bool told_wait::look(participant owner, const std::function<bool()>& owns) const {
  const std::uint32_t releases = releases_of(owner);
  if (!owns()) return false;  // before: so `releases` are those of a time when it owned it
  rewrite([&](lock_wait& r) {
    r.who.store(this_name(), std::memory_order_seq_cst);
    r.on.store(owner, std::memory_order_seq_cst);
    r.since_ns.store(since_ns_, std::memory_order_seq_cst);
    r.on_releases.store(releases, std::memory_order_seq_cst);
    r.lock.store(lock_, std::memory_order_seq_cst);
  });
  const cycle c = find_cycle();
  if (c.length == 0 || !c.still_true()) return false;
  const auto later = [](const sentence& a, const sentence& b) {
    return a.since_ns != b.since_ns ? a.since_ns > b.since_ns : a.who > b.who;
  };
  for (std::size_t i = 1; i < c.length; ++i)
    if (later(c.sentences[i], c.sentences[0])) return true;  // that one will find it
  throw deadlock_detected(tell(c));
}

}  // namespace detail

deadlock_detected::deadlock_detected(const std::string& cycle)
    : std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur), cycle) {}

}  // namespace covey
