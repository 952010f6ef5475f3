/// @file
/// Processes begin, are watched and end; and what waits for them and other things together.
#pragma once

#include <covey/process/backtrace.hpp>
#include <covey/process/exit_status.hpp>
#include <covey/process/inspect.hpp>
#include <covey/process/pollable.hpp>
#include <covey/process/process.hpp>
#include <covey/process/wait_any.hpp>
