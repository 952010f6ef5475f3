/// @file
/// What all other folders need: results and errors, descriptors, checks, values as bytes.
#pragma once

#include <covey/base/check.hpp>
#include <covey/base/codec.hpp>
#include <covey/base/exceptions.hpp>
#include <covey/base/result.hpp>
#include <covey/base/travel.hpp>
#include <covey/base/unique_fd.hpp>
