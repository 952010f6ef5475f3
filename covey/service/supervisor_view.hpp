/// @file
/// supervisor_view: what a supervisor's children are doing, readable in any process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <covey/memory/region.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace covey {

/// How many children one supervisor has at most.
inline constexpr std::size_t supervised_children_max = 64;

/// Where a supervised child stands. docs/design/supervisor.md draws it.
enum class child_phase : std::uint32_t {
  waiting,     ///< added, not started yet
  running,     ///< its process runs
  restarting,  ///< it ended and starts again in a moment
  stopping,    ///< asked to stop
  ended,       ///< it ended and will not be started again
};

/// The name of a phase, for people: `running`.
[[nodiscard]] const char* to_string(child_phase phase) noexcept;

/// What is known of one child. Travels.
struct child_state {
  std::string name{};                              ///< as it was added; the first 31 bytes
  pid_t pid = 0;                                   ///< of its process, or of its last one; 0 before the first
  std::uint64_t restarts = 0;                      ///< how often it was started again
  child_phase phase = child_phase::waiting;        ///< where it stands
  std::string last_end{};                          ///< how it last ended; empty when it never did
  std::chrono::system_clock::time_point started{}; ///< when its process was last started
};

/// A view of a supervisor's children, for a status page or command: see supervisor::view().
///
/// Handle:  a copy is the same view; give it to any task, process or message.
/// Safety:  process-safe. Readers never block and never disturb the supervisor.
/// Death:   a supervisor killed at any instruction leaves the last whole state; alive() tells.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/supervisor.md
class supervisor_view {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// All children at one instant, in the order of their start. Empty before run(). Throws std::system_error
  /// (resource_unavailable_try_again) when the supervisor published faster than this process could read, 1000 times.
  [[nodiscard]] std::vector<child_state> children() const;

  /// The child of that name; nothing's state (no name) when there is none. Throws like children().
  [[nodiscard]] child_state child(std::string_view name) const;

  /// Whether the supervisor's process is alive. Its children do not outlive it.
  [[nodiscard]] bool alive() const noexcept;

  /// Whether both name the same supervisor.
  bool operator==(const supervisor_view& other) const noexcept { return region_ == other.region_; }

  void encode_handle(detail::encoder& out) const { region_.encode(out); }  ///< for covey
  static supervisor_view decode_handle(detail::decoder& in);                ///< for covey

 private:
  friend class supervisor;
  supervisor_view();  // a new, empty board, written by this process
  explicit supervisor_view(detail::region r) : region_(std::move(r)) {}

  void publish(std::span<const child_state> children) const noexcept;

  detail::region region_;
};

}  // namespace covey
