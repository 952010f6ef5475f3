/// @file
/// process: a function that runs in a process of its own, as easy as a thread.
#pragma once

#include <sys/types.h>
#include <chrono>
#include <covey/base/unique_fd.hpp>
#include <covey/memory/deadline.hpp>
#include <covey/memory/waitable.hpp>
#include <covey/process/callable.hpp>
#include <covey/process/exit_status.hpp>
#include <functional>
#include <optional>
#include <string>

namespace covey {

/// How a process is started and ended.
struct process_options {
  std::string name{};    ///< shown by tools and ps; at most 31 bytes are kept. Default: `process`
  bool daemon = false;   ///< the destructor kills it rather than waiting for it
  /// How long the destructor waits after it requested a stop; then SIGTERM, the same time again, and SIGKILL. Without a
  /// value it waits for ever, like std::jthread.
  std::optional<std::chrono::milliseconds> stop_grace{};
};

/// A function running in a process of its own.
///
/// The process is forked from the program as it was before main: it sees globals as they were then, and the caller's
/// stdio, working directory, umask and environment; it has no other descriptor that the program was started with. It
/// ignores SIGINT and SIGQUIT, which a terminal sends to everybody:
/// whoever started it decides. When the function returns, stdio is flushed and the process ends without running static
/// destructors. It never outlives its starter: when that ends, however it ends, the kernel kills it.
///
/// Safety:  thread-compatible. Move-only.
/// Death:   a crash, kill or escaped exception is in status(); nobody else is harmed. When its function
///          calls exec, what it held is as after a death, and it ends when the other program does.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/code-and-values.md. Example: examples/tour_01_process.cpp
class process {
 public:
  /// No process.
  process() noexcept = default;

  /// Starts `f(args…)` over there. Arguments are converted to f's parameters here, then travel. `f` may take a
  /// std::stop_token first: request_stop() and SIGTERM then request its stop. What f returns, if it is a number, is the
  /// exit code. Throws std::system_error when no process can be had.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, process> &&
             !std::is_same_v<std::remove_cvref_t<F>, process_options>)
  explicit process(F&& f, Args&&... args)
      : process(process_options{}, std::forward<F>(f), std::forward<Args>(args)...) {}

  /// The same, with options.
  template <class F, class... Args>
  process(process_options options, F&& f, Args&&... args);

  /// Forks the caller on the spot and runs `f` in the child, which may capture anything and sees all memory as it is
  /// now. Throws std::system_error (resource_deadlock_would_occur) when this process has a second thread, whose locks
  /// would stay locked for ever in the child.
  static process forked(const std::function<int()>& f, process_options options = {});

  /// For covey: starts a call that was packed before. The caller holds its attachments until this returns.
  static process from_packed(process_options options, const detail::packed_call& call, bool takes_token);

  process(process&& other) noexcept;
  process& operator=(process&& other) noexcept;

  /// Requests a stop and joins; see process_options for the ways to bound this.
  ~process();

  /// Blocks until it ended, and says how. May be called again.
  exit_status join();

  /// Nothing when it did not end within `timeout`.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<exit_status> join_for(const std::chrono::duration<Rep, Period>& timeout) {
    return join_by(detail::deadline_in(timeout));
  }

  /// Nothing when it did not end by `until`. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<exit_status> join_until(const std::chrono::time_point<Clock, Duration>& until) {
    return join_by(detail::steady(until));
  }

  /// Requests the stop of a function that takes a std::stop_token; does nothing to others. Does not wait.
  void request_stop() noexcept;

  /// Sends SIGTERM. Does not wait.
  void terminate() noexcept;

  /// Sends SIGKILL. Does not wait.
  void kill() noexcept;

  /// Whether it is running. False also for no process.
  [[nodiscard]] bool alive() const noexcept;

  /// Whether there is a process that nobody has joined yet.
  [[nodiscard]] bool joinable() const noexcept { return id_ != 0 && !status_; }

  /// How it ended; nothing while it runs. Never blocks.
  [[nodiscard]] std::optional<exit_status> status();

  /// Its process id, as the system knows it.
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// Its name.
  [[nodiscard]] const std::string& name() const noexcept { return options_.name; }

  /// A pidfd, for poll and epoll: readable when it ended. Owned by this object.
  [[nodiscard]] int native_handle() const noexcept { return pidfd_.get(); }

  /// For wait_any: ready when it ended, or there is none.
  [[nodiscard]] auto wait_hook() const noexcept { return end_hook{this}; }

  /// Its number in the family; for covey's own structures.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

 private:
  struct end_hook {
    const process* p;
    [[nodiscard]] bool ready() const noexcept { return !p->alive(); }
    [[nodiscard]] detail::wait_word arm() const noexcept { return {}; }  // its death is the family's
    [[nodiscard]] detail::wait_descriptor polled() const noexcept;
    void settle() const noexcept;
    [[nodiscard]] bool must_look_again() const noexcept;
  };

  void start(const detail::packed_call& call, bool takes_token);
  std::optional<exit_status> join_by(const detail::deadline& until);
  void send(int signal) const noexcept;
  void end_politely() noexcept;
  exit_status collect();

  std::uint64_t id_ = 0;
  pid_t pid_ = -1;
  bool takes_token_ = false;
  bool forked_ = false;
  unique_fd pidfd_;
  process_options options_;
  std::optional<exit_status> status_;
};

namespace detail {

/// Runs a packed call in its process; the result is the exit code.
using process_entry_point = int (*)(decoder& in, std::stop_token token);

template <class F, class Parameters>
struct run_as_process {
  static int run(decoder& in, std::stop_token token) {
    int code = 0;
    const auto finish = [&]<class... R>(R&&... result) {
      constexpr bool number = (std::is_convertible_v<R, int> && ...);
      static_assert(number,
                    "covey: a process returns its exit code (a number or nothing); for a value use a process_pool");
      if constexpr (number) ((code = static_cast<int>(result)), ...);
    };
    run_packed<F, Parameters::has>(in, std::move(token), finish, typename Parameters::type{});
    return code;
  }
};

}  // namespace detail

template <class F, class... Args>
process::process(process_options options, F&& f, Args&&... args) : options_(std::move(options)) {
  using kept = detail::kept<F>;
  const kept& callable = f;
  start(detail::pack_call<detail::run_as_process>(callable, std::forward<Args>(args)...),
        detail::call_parameters<kept, Args...>::has);
}

}  // namespace covey
