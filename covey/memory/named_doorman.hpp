/// @file
/// The thread that answers for a named segment in each process that holds it.
#pragma once

#include <sys/types.h>

#include <covey/base/unique_fd.hpp>
#include <covey/memory/named_wire.hpp>
#include <thread>
#include <vector>

namespace covey::detail {

/// Answers those who connect to `listener` with `welcome`, the descriptors of `memory` and of `listener` itself, or
/// with a refusal. Every holder of the segment has one; whichever is first accepts. Nothing it does for a peer can
/// block it.
class named_doorman {
 public:
  /// Keeps `listener` and `memory` in use until destroyed, without owning them. Throws std::system_error.
  named_doorman(int listener, int memory, named_answer welcome);
  named_doorman(const named_doorman&) = delete;
  named_doorman& operator=(const named_doorman&) = delete;
  ~named_doorman();

 private:
  struct guest;

  void run() noexcept;
  [[nodiscard]] bool admits(int socket) const noexcept;
  void answer(int socket, std::span<const std::byte> hello) const;

  const int listener_;
  const int memory_;
  const named_answer welcome_;
  uid_t owner_ = 0;  // of the name, as the kernel knows it
  gid_t group_ = 0;
  unique_fd stop_;
  std::thread thread_;
};

}  // namespace covey::detail
