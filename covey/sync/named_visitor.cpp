// A program of its own that the tests of named memory start with fork and exec: it obeys commands from stdin, one a
// line, and answers each with one line.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>

#include <covey/sync/named_board.hpp>

namespace {

namespace named_board = covey::detail::named_board;
using named_board::board;

std::optional<covey::named<board>> held;
bool made = false;

/// Becomes the maker's process id while the object is being made.
struct maker {
  bool slow = false;
  operator int() const {  // NOLINT: implicit on purpose
    made = true;
    if (slow) {
      std::cout << "making" << std::endl;
      std::string go_on;
      std::getline(std::cin, go_on);
      if (go_on == "throw") throw std::runtime_error("thrown by the constructor");
    }
    return ::getpid();
  }
};

std::string how_opened() {
  if (held->get()->whole != 4711) return "torn";
  return made ? "made" : "found";
}

std::string obey(const std::string& command, std::istringstream& words) {
  covey::named_options options;
  if (command.ends_with("open") || command == "create" || command == "attach" || command == "attach_older") {
    long patience = 10'000;
    words >> options.name >> patience;
    options.patience = std::chrono::milliseconds(patience);
    options.extra_bytes = 4096;
    if (long user = 0; words >> user) options.of_user = static_cast<uid_t>(user);
    if (std::string with; words >> with)
      options.with = with == "anyone" ? covey::sharing::anyone : covey::sharing::group;
    made = false;
  }
  if (command == "open") return held = covey::open_or_create<board>(options, maker{}), how_opened();
  if (command == "slow_open") return held = covey::open_or_create<board>(options, maker{.slow = true}), how_opened();
  if (command == "create") return held = covey::create<board>(options, maker{}), how_opened();
  if (command == "attach") return held = covey::attach<board>(options), how_opened();
  if (command == "attach_older") return (void)covey::attach<named_board::older::board>(options), "found";
  if (command == "user") {
    unsigned user = 0;
    words >> user;
    unsigned group = 0;
    if (!(words >> group)) group = user;
    return ::setresgid(group, group, group) == 0 && ::setresuid(user, user, user) == 0 ? "ok" : "refused";
  }
  board& b = **held;
  if (command == "drop") return held.reset(), "ok";
  if (command == "maker") return std::to_string(b.maker);
  if (command == "value") return std::to_string(b.value);
  if (command == "lock") return b.lock.lock(), "ok";
  if (command == "unlock") return b.lock.unlock(), "ok";
  if (command == "recover") return b.lock.recover([&] { b.value = 0; }) ? "repaired" : "whole";
  if (command == "wait") return b.go.wait(), "ok";
  if (command == "set") return b.go.set(), "ok";
  if (command == "add") {
    int times = 0;
    for (words >> times; times > 0; --times) {
      const std::scoped_lock locked(b.lock);
      b.value = b.value + 1;
    }
    return "ok";
  }
  if (command == "step_add") {  // between two marks for one who counts instructions
    for (int mark = 0; mark < 2; ++mark) {  // first warm
      if (mark == 1) (void)::syscall(SYS_getppid);
      b.lock.lock();
      b.value = b.value + static_cast<named_board::amount>(mark);
      b.lock.unlock();
    }
    b.steps_done = 1;
    return "ok";
  }
  if (command == "list") {
    std::string all;
    for (const named_board::node* n = b.head.get(); n != nullptr; n = n->next.get()) all += std::to_string(n->value);
    for (const int n : b.numbers.get()) all += ' ' + std::to_string(n);
    return all;
  }
  return "unknown command";
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    try {
      const std::string answer = obey(command, words);
      std::cout << answer << std::endl;
    } catch (const std::exception& e) {
      std::cout << "error: " << e.what() << std::endl;
    }
  }
}
