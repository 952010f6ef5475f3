/// @file
/// Who takes part in a measurement: forked processes, processes of a covey family, or threads. All of them start by
/// start(), never return from what they do, and end when their workers object ends.
#pragma once

#include <sys/types.h>
#include <functional>
#include <vector>

namespace bench {

/// Plain children, for subjects that know nothing of covey.
class forked_workers {
 public:
  forked_workers() = default;
  forked_workers(const forked_workers&) = delete;
  forked_workers& operator=(const forked_workers&) = delete;
  ~forked_workers();

  pid_t start(const std::function<void()>& work);
  void kill_last();  // returns when it is gone

 private:
  std::vector<pid_t> pids_;
};

/// Does nothing any more, for as long as the program runs.
[[noreturn]] void stay() noexcept;

/// For queues that live within one process. A reader that waits looks now and then whether it should stay().
class thread_workers {
 public:
  thread_workers() = default;
  thread_workers(const thread_workers&) = delete;
  thread_workers& operator=(const thread_workers&) = delete;
  ~thread_workers();  // returns when all of them stay, so that what they used may go

  pid_t start(const std::function<void()>& work);
  [[nodiscard]] static bool ending() noexcept;

 private:
  int started_ = 0;
};

/// From now on each worker gets one processor, in turn.
void pin_workers() noexcept;

/// For the `n`th worker, by itself, first of all.
void take_place(std::size_t n) noexcept;

/// What a child does with its work: an exception becomes one line and exit code 1.
[[noreturn]] void work_and_exit(const std::function<void()>& work) noexcept;

}  // namespace bench
