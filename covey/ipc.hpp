/// @file
/// Values travel between processes: queue.
#pragma once

#include <covey/ipc/queue.hpp>
