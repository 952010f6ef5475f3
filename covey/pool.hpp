/// @file
/// Work runs elsewhere and its answer returns: process_pool, future.
#pragma once

#include <covey/pool/errors.hpp>
#include <covey/pool/future.hpp>
#include <covey/pool/process_pool.hpp>
