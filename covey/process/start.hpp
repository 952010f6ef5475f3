/// @file
/// Starting a worker: what the starter sends and what the worker does with it.
#pragma once

#include <covey/memory/family.hpp>
#include <covey/process/callable.hpp>
#include <string>
#include <vector>

namespace covey::detail {

/// What a worker is told in its payload.
struct worker_brief {
  std::uint64_t entry = 0;
  bool takes_token = false;
  std::uint32_t umask = 0;
  std::string name;
  std::vector<std::string> environment;
  std::vector<std::byte> call;
};

/// A worker that was started.
struct started_worker {
  process_id id = 0;
  pid_t pid = -1;
  unique_fd pidfd;
};

/// Starts a worker that runs `call` with the caller's stdio, working directory, umask and environment.
result<started_worker> start_worker(const packed_call& call, bool takes_token, const std::string& name);

/// Runs `f` as the whole life of this process: stop token, crash records, escaped exceptions, flushed stdio.
[[noreturn]] void live_as_worker(const std::string& name, bool takes_token,
                                 const std::function<int(std::stop_token)>& f) noexcept;

/// The four words of a request that carry a name.
void put_name(std::span<std::uint64_t, 4> words, const std::string& name);

}  // namespace covey::detail
