// What the C start-up code calls: before all other code of the program, and, because of the linker option --wrap=main,
// between static initialization and the program's main.
#include <covey/memory/fork.hpp>
#include <covey/memory/inherited.hpp>

namespace {
[[gnu::section(".preinit_array"), gnu::used]] void (*before_all)() noexcept = covey::detail::note_inherited_descriptors;
}  // namespace

extern "C" {
int __real_main(int argc, char** argv, char** envp);  // NOLINT: the names are the linker's
int __wrap_main(int argc, char** argv, char** envp) {  // NOLINT
  covey::detail::found_before_main();
  return __real_main(argc, argv, envp);
}
}
