/// @file
/// Workers agree, also when one dies: mutexes, semaphores, conditions, events, barriers, guarded values.
#pragma once

#include <covey/sync/barrier.hpp>
#include <covey/sync/condition_variable.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>
#include <covey/sync/latch.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/sync/named_mutex.hpp>
#include <covey/sync/once.hpp>
#include <covey/sync/permits.hpp>
#include <covey/sync/recursive_mutex.hpp>
#include <covey/sync/semaphore.hpp>
#include <covey/sync/shared_mutex.hpp>
