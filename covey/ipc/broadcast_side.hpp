/// @file
/// What one thread of one process has to do with one broadcast: the lanes' regions, and its own lane.
#pragma once

#include <covey/ipc/broadcast_writer.hpp>
#include <covey/ipc/side_table.hpp>

namespace covey::detail {

/// Safety: the thread's own.
struct broadcast_side {
  explicit broadcast_side(const broadcast_memory& memory) : messages(memory) {}

  broadcast_messages messages;
  std::optional<broadcast_writer> writer{};  // from the first put on

  // For side_table.
  using shared_view = broadcast_memory;
  static constexpr std::array kinds{region_kind::broadcast};
  static broadcast_memory look_at(const region& r) { return broadcast_memory(r); }
  void leave() noexcept {
    if (writer) writer->leave();
  }
  static void before_thread_ends() {}
};

/// The side of this thread. Made at the first call; gone with the thread, or with the last handle of the process.
/// Throws queue_damaged.
inline broadcast_side& side_of_broadcast(const region& r) {
  broadcast_side& side = side_table<broadcast_side>::of(r);
  if (is_damaged(side.messages.m.id)) throw queue_damaged();
  return side;
}

/// Where to sleep, once it was said that somebody will.
class poll_sleeper {
 public:
  explicit poll_sleeper(poll_word& word) : word_(word) {}
  /// First true: look again. Then it sleeps.
  bool arm() {
    if (armed_) return false;
    armed_ = word_.arm();
    return true;
  }
  void sleep(std::uint32_t deaths, const deadline& until, const stop_word* stop) {
    park(*armed_->word, armed_->expected, deaths, until, stop);
    armed_.reset();
  }

 private:
  poll_word& word_;
  std::optional<wait_word> armed_;
};

}  // namespace covey::detail
