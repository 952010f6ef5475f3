/// @file
/// What the machine and the container have left. Shared memory is reserved before it is promised, and the kernel, asked
/// for more than there is, kills a process instead of refusing: so covey looks first.
#pragma once

#include <covey/base/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

namespace covey::detail {

/// An estimate, in bytes: what can be reserved without swapping, by the machine and by every memory limit of a control
/// group (v1 and v2) around this process.
std::uint64_t memory_left_approx();

/// An error (ENOMEM) when `bytes` are more than is left. Looks it up after every 64 MiB, or a 64th of what is left;
/// others may take it between the look and the use: 16 MiB are kept back for that.
result<void> expect_memory(std::uint64_t bytes);

/// Reserves [begin, begin + bytes) of the arena, mapped here, in huge pages where the kernel gives them; whether it
/// did. What it left undone is for commit_pages().
bool commit_huge_pages(std::byte* begin, std::uint64_t bytes) noexcept;

/// Why shared memory gets no huge pages on this machine; empty when it may.
std::string why_no_huge_pages();

}  // namespace covey::detail
