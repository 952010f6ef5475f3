/// @file
/// What the commands print. Each returns the exit code, and throws request_error.
#pragma once

#include <cstdint>
#include <pigeon/main/client.hpp>
#include <string>

namespace pigeon {

/// How to print.
struct output {
  bool json = false;    ///< for programs
  bool colour = false;  ///< for people at a terminal
};

/// Whether stdout is a terminal whose owner does not mind colours (NO_COLOR, TERM=dumb).
[[nodiscard]] bool wants_colour();

int people_command(const office_client& office, output how);  ///< who is here
int send_command(const office_client& office, const std::string& who, const std::string& text, output how);  ///< writes
int history_command(const office_client& office, const std::string& who, std::uint32_t limit,
                    output how);  ///< what was said
int status_command(const office_client& office, output how);  ///< what runs

}  // namespace pigeon
