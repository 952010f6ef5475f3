// Who runs what: each shard has one thread, which is started with it and never ends. It only sleeps, compares words and
// raises eventfds; it takes no name in the family and holds no lock while it sleeps. Whoever watches something changes
// the list under the shard's mutex and then wakes the thread by `changes_`.
#include <covey/process/watcher.hpp>

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <covey/memory/park.hpp>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace covey::detail {
namespace {

timespec kernel_time(std::chrono::steady_clock::time_point t) {
  const std::int64_t ns = std::chrono::nanoseconds(t.time_since_epoch()).count();
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

}  // namespace

class watch_shard {
 public:
  watch_shard() {
    // The process's signals are not for this thread.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread thread([this] { run(); });
      ::pthread_setname_np(thread.native_handle(), "covey-watch");
      thread.detach();
    } catch (...) {
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // False: no room.
  bool watch(const watching* who, int eventfd, std::span<const wait_word> words, std::uint32_t deaths) {
    {
      const std::lock_guard locked(mutex_);
      remove(who);
      if (words_ + words.size() > watched_words_max) return false;
      entries_.push_back({who, eventfd, deaths, {words.begin(), words.end()}});
      words_ += words.size();
      look(entries_.back());
    }
    wake();
    return true;
  }

  void forget(const watching* who) noexcept {
    {
      const std::lock_guard locked(mutex_);
      remove(who);
    }
    wake();  // its words' memory may be unmapped soon, and mapped again as something else
  }

 private:
  struct entry {
    const watching* who;
    int eventfd;
    std::uint32_t deaths;
    std::vector<wait_word> words;
    bool raised = false;
  };

  void remove(const watching* who) noexcept {
    const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) { return e.who == who; });
    if (at == entries_.end()) return;
    words_ -= at->words.size();
    entries_.erase(at);
  }

  static void look(entry& e) {
    if (e.raised) return;
    const bool changed = std::any_of(e.words.begin(), e.words.end(), [](const wait_word& w) {
      return w.word->load(std::memory_order_seq_cst) != w.expected;
    });
    if (!changed && deaths_seen() == e.deaths) return;
    e.raised = true;
    raise(e.eventfd);
  }

  void wake() noexcept {
    changes_.fetch_add(1, std::memory_order_seq_cst);
    ::syscall(SYS_futex, &changes_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

  void raise_all() {
    const std::lock_guard locked(mutex_);
    for (entry& e : entries_)
      if (!std::exchange(e.raised, true)) raise(e.eventfd);
  }

  // Raises what has changed, and says for what to sleep.
  std::size_t look_and_list(std::array<futex_waitv, watched_words_max + 2>& waits) {
    const std::lock_guard locked(mutex_);
    std::size_t n = 0;
    const auto add = [&](const std::atomic<std::uint32_t>& word, std::uint32_t expected, unsigned flags) {
      waits[n++] = {expected, reinterpret_cast<std::uintptr_t>(&word), FUTEX_32 | flags, 0};
    };
    add(changes_, changes_.load(std::memory_order_seq_cst), FUTEX_PRIVATE_FLAG);
    std::optional<std::uint32_t> deaths;  // the first's: where a later one's are others, we look again at once
    for (entry& e : entries_) {
      look(e);
      if (e.raised) continue;
      if (!deaths) deaths = e.deaths;
      for (const wait_word& w : e.words) add(*w.word, w.expected, 0);
    }
    if (deaths) add(family.book->deaths, *deaths, 0);
    return n;
  }

  [[noreturn]] void run() noexcept {
    std::array<futex_waitv, watched_words_max + 2> waits{};
    for (;;) {
      const std::size_t n = look_and_list(waits);
      const auto at = kernel_time(std::chrono::steady_clock::now() + look_again_after);
      const long r = ::syscall(SYS_futex_waitv, waits.data(), n, 0, n > 1 ? &at : nullptr, CLOCK_MONOTONIC);
      if (r < 0 && errno == ETIMEDOUT) raise_all();  // as every sleeper, whoever watches looks again then
    }
  }

  std::atomic<std::uint32_t> changes_{0};
  std::mutex mutex_;
  std::vector<entry> entries_;  // these two: guarded by mutex_
  std::size_t words_ = 0;
};

namespace {

// Never destroyed: their threads run until the process ends.
struct all_shards {
  std::mutex mutex;
  std::vector<std::unique_ptr<watch_shard>> shards;
};

all_shards& all() {
  static auto* const the = new all_shards;
  return *the;
}

}  // namespace

void watching::watch(std::span<const wait_word> words, std::uint32_t deaths) {
  if (words.size() > watched_words_max)
    throw std::system_error(std::make_error_code(std::errc::argument_list_too_long), "covey: too much to wait for");
  if (shard_ != nullptr && shard_->watch(this, eventfd_, words, deaths)) return;
  forget();
  const std::lock_guard locked(all().mutex);
  auto& shards = all().shards;
  for (const auto& s : shards) {
    if (!s->watch(this, eventfd_, words, deaths)) continue;
    shard_ = s.get();
    return;
  }
  shards.push_back(std::make_unique<watch_shard>());
  shard_ = shards.back().get();
  shard_->watch(this, eventfd_, words, deaths);
}

void watching::forget() noexcept {
  // A child forked past covey has neither the shard's thread nor its mutex, which may be locked.
  if (shard_ != nullptr && !is_forked_past()) std::exchange(shard_, nullptr)->forget(this);
}

void raise(int eventfd) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(eventfd, &one, sizeof one);
}

void lower(int eventfd) noexcept {
  std::uint64_t all = 0;
  [[maybe_unused]] const ssize_t n = ::read(eventfd, &all, sizeof all);
}

int make_eventfd() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::system_category(), "eventfd");
  return fd;
}

}  // namespace covey::detail
