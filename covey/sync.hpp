/// @file
/// Workers agree, also when one dies: mutex, event.
#pragma once

#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>
