/// @file
/// What the tests of named memory share: other programs (named_visitor, or named_visitor_other, whose board has the
/// same size and another field; started by fork and exec), and what is left of a name. Each test has a name of its own,
/// so that tests may run at the same time.
#pragma once

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <covey/base/unique_fd.hpp>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

namespace covey::testing {

/// Of the test that runs, in this process.
inline std::string own_name() {
  return std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()) + "." +
         std::to_string(::getpid());
}

/// The program, and its ends of stdin and stdout.
class visitor {
 public:
  /// Starts it.
  explicit visitor(const std::string& name = "named_visitor") {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) < 0 || ::pipe2(out, O_CLOEXEC) < 0) throw std::runtime_error("pipe2");
    const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execl(program.c_str(), program.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_.reset(in[1]);
    from_.reset(out[0]);
  }
  visitor(visitor&&) = delete;
  ~visitor() { kill(); }

  /// A command, one line.
  void tell(const std::string& command) const {
    const std::string line = command + "\n";
    EXPECT_EQ(::write(to_.get(), line.data(), line.size()), static_cast<ssize_t>(line.size())) << command;
  }
  /// Its next line; blocks. Empty when it has ended.
  std::string hear() const {
    std::string line;
    for (char c = 0; ::read(from_.get(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  /// tell(), and its answer.
  std::string ask(const std::string& command) const {
    tell(command);
    return hear();
  }
  /// Whether hear() would not block.
  [[nodiscard]] bool has_said_something() const {
    pollfd p{.fd = from_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) > 0;
  }
  /// Sends it.
  void signal(int s) const { ::kill(pid_, s); }
  /// SIGSTOP, and all its threads have stopped when it returns.
  void stop() const {
    int status = 0;
    ::kill(pid_, SIGSTOP);
    while (::waitpid(pid_, &status, WUNTRACED) != pid_ || !WIFSTOPPED(status)) continue;
  }
  /// SIGKILL, and gone when it returns.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  /// -1 once it was killed.
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  unique_fd to_, from_;
};

/// Whether a socket of this user has the name.
inline bool is_bound(const std::string& name) {
  std::ifstream sockets("/proc/net/unix");
  const std::string path = "@covey/" + std::to_string(::geteuid()) + "/" + name;
  for (std::string line; std::getline(sockets, line);)
    if (line.ends_with(path)) return true;
  return false;
}

/// Whether any process has the memory mapped or open.
inline bool is_held(const std::string& name) {
  const std::string memory = "memfd:covey:" + name;
  std::error_code gone;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream maps(process.path() / "maps");
    for (std::string line; std::getline(maps, line);)
      if (line.find(memory) != std::string::npos) return true;
    for (auto fd = std::filesystem::directory_iterator(process.path() / "fd", gone); !gone && fd != end(fd);
         fd.increment(gone))
      if (std::filesystem::read_symlink(fd->path(), gone).string().find(memory) != std::string::npos) return true;
  }
  return false;
}

/// Whether nothing is left of this test's memory. Those who are killed have companions that end by themselves.
inline bool is_gone() { return !is_bound(own_name()) && !is_held(own_name()); }

/// What `call` throws, in words.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace covey::testing
