/// @file
/// The descriptors that the program was started with, which are not the family's to keep open.
#pragma once

namespace covey::detail {

/// Notes what is open, but for stdio. The start-up code calls it before anything of the program runs (wrap_main.cpp),
/// so that what static initialization opens is not taken for inherited: workers have copies of the objects that use it.
void note_inherited_descriptors() noexcept;

/// Closes what was noted and is still the same file. The guard calls it: else whoever waits for the program to close a
/// pipe that it was given would wait for the end of the family.
void close_inherited_descriptors() noexcept;

}  // namespace covey::detail
