/// @file
/// Last words: what a process writes into its own cells when it crashes or an exception escapes, and how others read
/// them.
#pragma once

#include <covey/memory/ledger.hpp>
#include <covey/process/exit_status.hpp>
#include <exception>

namespace covey::detail {

/// Catches the signals of crashes in this process from now on: frames go into the own cells, then the signal does its
/// work.
void record_crashes() noexcept;

/// Writes the exception that escapes this process's function.
void record_exception(const std::exception_ptr& e) noexcept;

/// Writes the code with which this process is about to exit: known even when nobody is left to reap it.
void record_code(int code) noexcept;

/// Adds what a dead process left to `status`. Nothing read is trusted: the dead may have scribbled over it.
void read_last_words(std::uint32_t slot, exit_status& status);

}  // namespace covey::detail
