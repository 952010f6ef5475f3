/// @file
/// Values travel between processes: queue.
#pragma once

#include <covey/ipc/pipe.hpp>
#include <covey/ipc/queue.hpp>
