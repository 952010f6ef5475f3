/// @file
/// Processes begin, are watched and end.
#pragma once

#include <covey/process/backtrace.hpp>
#include <covey/process/exit_status.hpp>
#include <covey/process/process.hpp>
