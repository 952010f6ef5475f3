#include <covey/process/exit_status.hpp>

#include <sys/wait.h>

#include <cstring>
#include <stdexcept>

namespace covey {

bool exit_status::exited() const noexcept { return known_ && WIFEXITED(wait_status_); }

int exit_status::signal() const noexcept { return known_ && WIFSIGNALED(wait_status_) ? WTERMSIG(wait_status_) : 0; }

int exit_status::code() const noexcept {
  if (!known_) return -1;
  return exited() ? WEXITSTATUS(wait_status_) : 128 + signal();
}

void exit_status::check() const {
  if (exception_) std::rethrow_exception(exception_);
  if (!success()) throw std::runtime_error("covey: a process " + describe());
}

std::string exit_status::describe() const {
  if (!known_) return "ended, and nobody was left to learn how";
  if (exited()) return "exited with " + std::to_string(code());
  return "was killed by signal " + std::to_string(signal()) + " (" + ::strsignal(signal()) + ")";
}

}  // namespace covey
