/// @file
/// Objects and containers that several processes share: make_shared, shared_ptr, allocator, vector, string, maps.
#pragma once

#include <covey/memory/allocator.hpp>
#include <covey/memory/containers.hpp>
#include <covey/memory/shared_ptr.hpp>
