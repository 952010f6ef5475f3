/// @file
/// What pigeon's exit code says. docs/pigeon.md and --help list the same.
#pragma once

namespace pigeon {

/// What a command came to.
enum exit_code : int {
  exit_done = 0,       ///< done
  exit_refused = 1,    ///< the office said no; or `serve` could not start, or gave up
  exit_usage = 2,      ///< the command line makes no sense
  exit_no_office = 3,  ///< no office is running on this data folder
  exit_no_answer = 4,  ///< the office is there, but did not answer in time
};

}  // namespace pigeon
