/// @file
/// Long-lived workers are kept alive: supervisor.
#pragma once

#include <covey/service/supervisor.hpp>
#include <covey/service/supervisor_view.hpp>
