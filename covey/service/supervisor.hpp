/// @file
/// supervisor: keeps a program of processes alive.
#pragma once

#include <chrono>
#include <covey/process/process.hpp>
#include <covey/service/supervisor_view.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace covey {

/// What a supervisor does about the others when one child ends.
enum class restart_strategy {
  one_for_one,  ///< nothing: only the one that ended starts again
};
/// Only the child that ended starts again.
inline constexpr restart_strategy one_for_one = restart_strategy::one_for_one;

/// When a child that ended starts again.
enum class restart_kind {
  permanent,  ///< always
  transient,  ///< unless it exited with code 0
  temporary,  ///< never
};
/// Starts again however it ended; the default.
inline constexpr restart_kind permanent = restart_kind::permanent;
/// Starts again unless it exited with code 0.
inline constexpr restart_kind transient = restart_kind::transient;
/// Never starts again.
inline constexpr restart_kind temporary = restart_kind::temporary;

/// A function and its arguments, packed at once, started as a process any number of times. The objects that handles in
/// the arguments name live at least as long as this. A queue's reader() or writer() is a role that is lost between two
/// starts: give a supervised child the queue itself.
///
/// Safety: thread-compatible.
class supervised_call {
 public:
  /// Nothing to run.
  supervised_call() = default;

  /// What process's constructor takes: `f` may take a std::stop_token first; its number is the exit code.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, supervised_call>)
  supervised_call(F&& f, Args&&... args) {  // NOLINT(google-explicit-constructor): .run = web_main
    using kept = detail::kept<F>;
    const kept& callable = f;
    call_ = detail::pack_call<detail::run_as_process>(callable, std::forward<Args>(args)...);
    takes_token_ = detail::call_parameters<kept, Args...>::has;
    for (const std::uint64_t id : call_.attachments) held_.push_back(detail::region::hold(id));
  }

  /// Whether there is something to run.
  explicit operator bool() const noexcept { return call_.entry != 0; }

 private:
  friend class supervisor;
  detail::packed_call call_;
  bool takes_token_ = false;
  std::vector<detail::region> held_;  // of call_.attachments: in no process's hands between two starts but ours
};

/// A child of a supervisor.
struct child_options {
  std::string name{};                     ///< needed, and its own; at most 31 bytes are shown
  supervised_call run{};                  ///< a function, or {function, arguments…}
  restart_kind restart = permanent;       ///< what to do when it ended
  /// How many restarts it may have within `within`. Who gives one of the two is counted alone; the others together.
  std::optional<unsigned> max_restarts{};
  std::optional<std::chrono::milliseconds> within{};       ///< see max_restarts
  std::chrono::milliseconds stop_grace = std::chrono::seconds{5};  ///< from SIGTERM to SIGKILL when it is stopped
};

/// Something that happened to a supervisor or a child of it.
struct supervisor_event {
  /// What it was.
  enum class kind {
    started,     ///< the child's process runs
    ended,       ///< it ended, or could not be started
    restarting,  ///< it will be started after `delay`
    stopping,    ///< it was asked to stop
    gave_up,     ///< too many restarts: all children are stopped now
  };
  kind what = kind::started;          ///< what it was
  std::string child{};                ///< whose; with gave_up the last straw's
  pid_t pid = 0;                      ///< of the process; 0 when there is none
  std::optional<exit_status> status{};       ///< with ended, how; nothing when it could not be started
  std::chrono::milliseconds delay{0};        ///< with restarting
  std::string text{};                 ///< with ended how, with gave_up why, in words
};

/// How a supervisor behaves.
struct supervisor_options {
  restart_strategy strategy = one_for_one;  ///< what an end means to the others
  unsigned max_restarts = 5;                ///< more than so many restarts …
  std::chrono::milliseconds within = std::chrono::seconds{10};  ///< … in so long a time, and it gives up
  /// Called in run()'s thread at each event, for logs. What it throws stops all children and comes out of run().
  std::function<void(const supervisor_event&)> on_event{};
};

/// Keeps a program of processes alive: starts its children in order, starts again what ends, stops all in reverse
/// order.
///
/// A child that ends is started again at once; if it ends again within `within`, after 10 ms, then 20, 40 … at most
/// 500 ms. More than max_restarts restarts within `within`, and the supervisor gives up: it stops all and says why.
/// A child is stopped by SIGTERM, which a function that takes a std::stop_token sees as a request (and which ends a
/// child whose function has not begun); after its stop_grace by SIGKILL; and is always joined before the next one is
/// asked.
///
/// Safety:  add(), stop(), view() and reason() are thread-safe, stop() also signal-safe. Not movable.
/// Death:   however a child ends, only it is concerned. When the process of the supervisor dies, the kernel kills its
///          children; a view shows the last state.
/// Fork:    only the process that made it may use it.
/// Design:  docs/design/supervisor.md. Example: examples/tour_08_supervisor.cpp
class supervisor {
 public:
  /// Throws std::system_error when no shared memory can be had.
  explicit supervisor(supervisor_options options = {});
  supervisor(const supervisor&) = delete;
  supervisor& operator=(const supervisor&) = delete;
  ~supervisor();

  /// Adds a child, to be started after those before it: by run(), or at once when that is at work. Throws
  /// std::invalid_argument when it has no name, another's name or nothing to run, and std::length_error when there are
  /// supervised_children_max already.
  void add(child_options child);

  /// Starts all children and keeps them alive until SIGTERM or SIGINT comes, stop() is called, `stop` is requested, or
  /// no child runs and none will be started again. Returns 0 then, and 1 when it gave up; all children are joined in
  /// every case. Until it returns it takes the place of the program's handlers of the two signals, in whichever thread
  /// they arrive; where a signal is ignored (a covey::process ignores SIGINT) or blocked in every thread it is left
  /// alone. May be called again; one call at a time.
  [[nodiscard]] int run(std::stop_token stop = {});

  /// Lets run() stop the children and return; the next run() when none is at work. Does not wait.
  void stop() noexcept;

  /// Why run() returned, in one sentence; empty before.
  [[nodiscard]] std::string reason() const;

  /// A handle by which any process sees the children.
  [[nodiscard]] supervisor_view view() const;

 private:
  class state;
  std::unique_ptr<state> state_;
};

}  // namespace covey
