/// @file
/// pigeon::wire: bytes ⇄ messages of each protocol; pure functions, no I/O, no clock.
#pragma once

#include <pigeon/wire/charset.hpp>
#include <pigeon/wire/ipmsg.hpp>
