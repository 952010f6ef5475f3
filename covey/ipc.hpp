/// @file
/// Values travel between processes: queues in several orders, broadcasts, and pipes.
#pragma once

#include <covey/ipc/broadcast.hpp>
#include <covey/ipc/lifo_queue.hpp>
#include <covey/ipc/pipe.hpp>
#include <covey/ipc/priority_queue.hpp>
#include <covey/ipc/queue.hpp>
#include <covey/ipc/room.hpp>
