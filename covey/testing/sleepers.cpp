// Who runs what: the test's process, which has one thread, forks the others. Each sleeper says in shared memory who he
// is before he waits, and what came of it afterwards, and does not end: that would be a death, which wakes others.
#include <covey/testing/sleepers.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <covey/process/process.hpp>
#include <covey/testing/settle.hpp>
#include <covey/testing/victims.hpp>
#include <exception>
#include <new>
#include <span>
#include <string_view>
#include <thread>

namespace covey::testing {
namespace {

enum class end : int { none, right, wrong, after_a_death };

struct sleeper {
  std::atomic<pid_t> thread{0};
  std::atomic<end> came_to{end::none};
  char thrown[128] = {};
};

// What all see, also processes that are forked later.
struct page {
  std::array<sleeper, 4> sleepers{};
  std::atomic<bool> inside{false};
};

class shared_page {
 public:
  shared_page()
      : at_(::mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        page_(at_ == MAP_FAILED ? throw std::bad_alloc() : new(at_) page) {}
  shared_page(const shared_page&) = delete;
  shared_page& operator=(const shared_page&) = delete;
  ~shared_page() { ::munmap(at_, sizeof(page)); }
  page* operator->() const { return page_; }

 private:
  void* at_;
  page* page_;
};

process forked(const std::function<void()>& f) {
  return process::forked(
      [&]() -> int {
        f();
        until_killed();
      },
      {.name = "forked", .daemon = true});
}

void sleep_as(sleeper& me, const std::function<bool()>& wait) {
  me.thread = static_cast<pid_t>(::syscall(SYS_gettid));
  const std::uint32_t deaths = detail::deaths_seen();
  bool right = false;
  try {
    right = wait();
  } catch (const std::exception& e) {
    std::string_view(e.what()).copy(me.thrown, sizeof me.thrown - 1);
  }
  me.came_to = !right ? end::wrong : detail::deaths_seen() == deaths ? end::right : end::after_a_death;
}

// Those of a wait.
std::span<sleeper> sleepers_of(const shared_page& p, const wait_to_end& w) {
  return std::span(p->sleepers).first(w.sleepers);
}

// Naps are over: from now on only a wake ends it.
bool until_all_sleep(std::span<const sleeper> all) {
  return eventually([&] {
    return std::all_of(all.begin(), all.end(), [](const sleeper& s) {
      return s.thread != 0 && sleeps_in({SYS_futex_waitv, SYS_ppoll}, s.thread);
    });
  });
}

// False: right, but perhaps by a death.
bool expect_end(std::span<const sleeper> all, const wait_to_end& w) {
  (void)eventually(
      [&] { return std::all_of(all.begin(), all.end(), [](const sleeper& s) { return s.came_to != end::none; }); });
  bool certain = true;
  for (const sleeper& s : all) {
    const end e = s.came_to;
    EXPECT_NE(e, end::none) << w.name << (s.thread == 0 ? ": nobody slept" : ": nobody woke it");
    EXPECT_NE(e, end::wrong) << w.name << ": ended otherwise. " << s.thrown;
    certain = certain && e != end::after_a_death;
  }
  return certain;
}

void end_and_forget(std::vector<process>& all) {
  for (process& p : all) {
    kill_and_join(p);
    learn_death_of(p.id());
  }
}

}  // namespace

#ifndef __has_feature
#define __has_feature(x) 0
#endif

void Sleeper::SetUp() {
  if (__has_feature(thread_sanitizer)) GTEST_SKIP() << "the sanitizer has a thread of its own, so nothing is forked";
}

std::stop_token never_stopped() {
  static const std::stop_source never;
  return never.get_token();
}

bool woken_in_processes(const wait_to_end& w) {
  const shared_page p;
  const auto all = sleepers_of(p, w);
  std::vector<process> processes;
  w.around([&] {
    for (sleeper& s : all) processes.push_back(forked([&] { sleep_as(s, w.wait); }));
    EXPECT_TRUE(until_all_sleep(all)) << w.name;
  });
  const bool certain = expect_end(all, w);
  end_and_forget(processes);
  return certain;
}

bool woken_in_threads(const wait_to_end& w) {
  const shared_page p;
  const auto all = sleepers_of(p, w);
  std::vector<process> processes;
  processes.push_back(forked([&] {
    detail::naps = false;  // in processes they sleep after a nap, here without
    w.around([&] {
      for (sleeper& s : all)
        std::thread([&] {
          sleep_as(s, w.wait);
          until_killed();
        }).detach();
      p->inside = until_all_sleep(all);
    });
    until_killed();
  }));
  const bool certain = expect_end(all, w);
  EXPECT_TRUE(p->inside) << w.name;
  end_and_forget(processes);
  return certain;
}

bool told_of_death(const wait_to_end& w) {
  const shared_page p;
  const auto all = sleepers_of(p, w);
  std::vector<process> processes;
  processes.push_back(forked([&] {
    w.around([&] {
      p->inside = true;
      until_killed();
    });
  }));
  EXPECT_TRUE(eventually([&] { return p->inside.load(); })) << w.name;
  for (sleeper& s : all) processes.push_back(forked([&] { sleep_as(s, w.wait); }));
  EXPECT_TRUE(until_all_sleep(all)) << w.name;
  processes.front().kill();
  (void)expect_end(all, w);
  end_and_forget(processes);
  return true;
}

}  // namespace covey::testing
