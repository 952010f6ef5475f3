/// @file
/// What all other folders need: results and errors, descriptors, checks.
#pragma once

#include <covey/base/check.hpp>
#include <covey/base/result.hpp>
#include <covey/base/unique_fd.hpp>
