/// @file
/// Objects and containers that several processes share: make_shared, shared_ptr, weak_ptr, read_only, shared_array,
/// allocator, vector, string, maps; and by name, between programs: open_or_create.
#pragma once

#include <covey/memory/allocator.hpp>
#include <covey/memory/containers.hpp>
#include <covey/memory/errors.hpp>
#include <covey/memory/named.hpp>
#include <covey/memory/read_only.hpp>
#include <covey/memory/shared_array.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/memory/weak_ptr.hpp>
