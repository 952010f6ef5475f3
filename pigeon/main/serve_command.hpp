/// @file
/// `pigeon serve`: the office.
#pragma once

#include <chrono>
#include <pigeon/serve/services.hpp>

namespace pigeon {

/// How often a service may be started again.
struct restart_intensity {
  unsigned max = 10;                        ///< more than so many restarts of one service …
  std::chrono::seconds within = std::chrono::seconds{10};  ///< … in so long a time stop the office
};

/// Runs an office until SIGINT or SIGTERM; returns the exit code. Says on stdout what runs and where, on stderr what
/// went wrong, in one sentence each.
int serve_command(serve::office_options options, restart_intensity intensity);

}  // namespace pigeon
