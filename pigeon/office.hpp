/// @file
/// pigeon::office: who is here, and what was said; state and policy, no sockets.
#pragma once

#include <pigeon/office/courier.hpp>
#include <pigeon/office/hub.hpp>
#include <pigeon/office/messages.hpp>
#include <pigeon/office/roster.hpp>
#include <pigeon/office/store.hpp>
#include <pigeon/office/text.hpp>
