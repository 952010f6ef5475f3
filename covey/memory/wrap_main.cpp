// Runs between static initialization and the program's main: the linker option --wrap=main makes the C start-up code
// call this.
#include <covey/memory/fork.hpp>

extern "C" {
int __real_main(int argc, char** argv, char** envp);  // NOLINT: the names are the linker's
int __wrap_main(int argc, char** argv, char** envp) {  // NOLINT
  covey::detail::found_before_main();
  return __real_main(argc, argv, envp);
}
}
