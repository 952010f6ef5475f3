// Two ways to sleep: in one futex_waitv on all words, as everywhere in covey; or, when there is a descriptor among
// them, in one poll() on all descriptors, one of which a thread of watcher.cpp makes readable when a word changes.
// Either way the order is: deaths, arm, look, sleep.
#include <covey/process/wait_any.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <covey/base/unique_fd.hpp>
#include <covey/memory/thread_object.hpp>
#include <covey/process/watcher.hpp>
#include <covey/sync/gate.hpp>
#include <system_error>

namespace covey::detail {
namespace {

using clock = std::chrono::steady_clock;
using targets = std::span<wait_target* const>;

constexpr std::size_t waits_max = FUTEX_WAITV_MAX;
constexpr std::size_t words_max = waits_max - 2;  // and the deaths, and the stop
constexpr std::size_t few = 4;
constexpr std::chrono::milliseconds a_moment{2};

[[noreturn]] void refuse_so_many(std::size_t n) {
  throw std::system_error(std::make_error_code(std::errc::argument_list_too_long),
                          "covey: wait_any takes at most " + std::to_string(words_max) +
                              " objects besides processes and descriptors, and was given " + std::to_string(n));
}

std::optional<std::size_t> first_ready(targets all) {
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i]->ready()) return i;
  return std::nullopt;
}

// Those that have words. The fence puts the looks that follow behind the armings: whoever changes an object afterwards
// finds it armed.
std::vector<wait_word>& arm_all(targets all, std::vector<wait_word>& words) {
  words.clear();
  for (wait_target* t : all)
    if (const wait_word w = t->arm(); w.word != nullptr) words.push_back(w);
  if (words.size() > words_max) refuse_so_many(words.size());
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return words;
}

// Until then nobody needs to wake us; see look_again_after.
clock::time_point next_look(targets all, const deadline& until) {
  const bool soon = std::any_of(all.begin(), all.end(), [](const wait_target* t) { return t->must_look_again(); });
  const auto next = clock::now() + (soon ? std::chrono::nanoseconds(a_moment) : look_again_after);
  return until ? std::min(*until, next) : next;
}

timespec kernel_time(std::chrono::nanoseconds t) {
  const auto ns = std::max<std::int64_t>(0, t.count());
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

// While it lives, inspect() sees on which words of shared memory this thread sleeps; as far as there is room.
class shown_sleeps {
 public:
  explicit shown_sleeps(std::span<const wait_word> words) noexcept {
    if (!family.takes_part) return;
    std::uint32_t next = 0;
    for (const wait_word& w : words) {
      const std::uint64_t offset =
          reinterpret_cast<std::uintptr_t>(w.word) - reinterpret_cast<std::uintptr_t>(family.arena);
      if (offset >= family.arena_bytes) continue;
      next = claim(next, offset);
      if (next == more_sleeps_max) return;
      used_[count_++] = static_cast<std::uint8_t>(next++);
    }
  }
  shown_sleeps(const shown_sleeps&) = delete;
  shown_sleeps& operator=(const shown_sleeps&) = delete;
  ~shown_sleeps() {
    if (!family.takes_part) return;  // a child that was forked meanwhile, by a signal's handler: they are its parent's
    for (std::size_t i = 0; i < count_; ++i) cells_.more_sleeps[used_[i]].store(0, std::memory_order_relaxed);
  }

 private:
  // A place from `next` on that tells of `offset` now, or more_sleeps_max. What a process that lived here before left
  // is free.
  [[nodiscard]] std::uint32_t claim(std::uint32_t next, std::uint64_t offset) const noexcept {
    for (; next < more_sleeps_max; ++next) {
      std::uint64_t there = cells_.more_sleeps[next].load(std::memory_order_relaxed);
      const bool taken = there != 0 && there == sleep_note(family.generation, sleep_offset(there));
      const std::uint64_t note = more_sleep_note(family.generation, offset, count_ != 0 ? used_[0] : next);
      if (!taken && cells_.more_sleeps[next].compare_exchange_strong(there, note, std::memory_order_relaxed)) break;
    }
    std::uint32_t used = cells_.more_sleeps_used.load(std::memory_order_relaxed);
    while (next < more_sleeps_max && used <= next &&
           !cells_.more_sleeps_used.compare_exchange_weak(used, next + 1, std::memory_order_relaxed)) {
    }
    return next;
  }

  process_cells& cells_ = cells_of(family.slot);
  std::size_t count_ = 0;
  std::array<std::uint8_t, words_max> used_;
  static_assert(more_sleeps_max <= 256);
};

bool passed(const deadline& until) { return until && *until <= clock::now(); }

// ---- on words ------------------------------------------------------------------------------------------------------

void sleep_on(const std::vector<wait_word>& words, std::uint32_t deaths, clock::time_point until,
              const stop_word& stop) {
  std::array<futex_waitv, waits_max> waits{};
  unsigned n = 0;
  const auto add = [&](const std::atomic<std::uint32_t>& word, std::uint32_t expected, unsigned flags) {
    waits[n++] = {expected, reinterpret_cast<std::uintptr_t>(&word), FUTEX_32 | flags, 0};
  };
  for (const wait_word& w : words) add(*w.word, w.expected, 0);
  add(family.book->deaths, deaths, 0);
  if (stop.word() != nullptr) add(*stop.word(), 0, FUTEX_PRIVATE_FLAG);
  const timespec at = kernel_time(until.time_since_epoch());
  const shown_sleeps shown(words);
  ::syscall(SYS_futex_waitv, waits.data(), n, 0, &at, CLOCK_MONOTONIC);
}

std::optional<std::size_t> wait_on_words(targets all, const deadline& until, std::stop_token token) {
  std::optional<std::size_t> ready;
  const auto look = [&] { return (ready = first_ready(all)).has_value(); };
  if (look() || passed(until)) return ready;
  if (all.size() <= few && own_patience.look(look)) return ready;  // many cost more to look at than a sleep
  const stop_word stop(std::move(token));
  std::vector<wait_word> words;
  words.reserve(all.size());
  for (;;) {
    const std::uint32_t deaths = deaths_seen();
    arm_all(all, words);
    if (look() || passed(until) || stop.stopped()) return ready;
    sleep_on(words, deaths, next_look(all, until), stop);
  }
}

// ---- on descriptors ------------------------------------------------------------------------------------------------

// What the watcher and a stop raise: one for each thread that ever needed it, because making one costs more than a
// wait. A forked child has its parent's, which is not for it.
struct thread_eventfd {
  unique_fd fd{};
  process_id made_by = 0;
};

int own_eventfd() {
  auto& own = thread_object<thread_eventfd>::get();
  if (!own.fd || own.made_by != this_process_id()) own.fd.reset(make_eventfd());
  own.made_by = this_process_id();
  return own.fd.get();
}

struct raise_at_stop {
  int eventfd;
  void operator()() const noexcept { raise(eventfd); }
};

class polling {
 public:
  explicit polling(targets all) : all_(all), watching_(own_eventfd()) {
    polled_.push_back({own_eventfd(), POLLIN, 0});
    for (const wait_target* t : all) {
      const wait_descriptor p = t->polled();
      polled_.push_back({p.fd, p.events, 0});  // a negative one is passed over by poll()
      words_alone_ = words_alone_ || p.fd < 0;
    }
  }

  std::optional<std::size_t> wait(const deadline& until, const std::stop_token& token) {
    const std::stop_callback at_stop(token, raise_at_stop{own_eventfd()});
    for (;;) {
      lower(own_eventfd());
      const std::uint32_t deaths = deaths_seen();
      arm_all(all_, words_);
      if (const auto ready = first_ready(all_); ready || passed(until) || token.stop_requested()) return ready;
      if (words_alone_) watching_.watch(words_, deaths);
      sleep(next_look(all_, until));
    }
  }

 private:
  void sleep(clock::time_point until) {
    const timespec left = kernel_time(until - clock::now());
    const shown_sleeps shown(words_);
    if (::ppoll(polled_.data(), polled_.size(), &left, nullptr) <= 0) return;
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (polled_[i + 1].revents != 0) all_[i]->settle();
  }

  targets all_;
  std::vector<pollfd> polled_;
  std::vector<wait_word> words_;
  bool words_alone_ = false;  // something is here that only its word, or a death, tells of
  watching watching_;
};

}  // namespace

bool poll_now(int fd, short events) noexcept {
  pollfd p{fd, events, 0};
  return fd < 0 || ::poll(&p, 1, 0) > 0;
}

std::optional<std::size_t> wait_for_one(targets all, const deadline& until, std::stop_token stop) {
  family_check();
  const bool with_descriptors =
      std::any_of(all.begin(), all.end(), [](const wait_target* t) { return t->polled().needed; });
  if (!with_descriptors) return wait_on_words(all, until, std::move(stop));
  if (const auto ready = first_ready(all); ready || passed(until)) return ready;
  return polling(all).wait(until, stop);
}

}  // namespace covey::detail
