// A conversation: a worker answers what its parent asks, each by an end of a pipe. The worker dies over a question, and
// the parent is told so rather than left waiting.
#include <fmt/format.h>
#include <signal.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>

#include <string>

namespace {

struct question {
  int dividend;
  int divisor;
};

void answer(covey::pipe<std::string, question> parent) {
  while (const auto q = parent.get()) {
    if (q->divisor == 0) ::raise(SIGKILL);
    parent.put(fmt::format("{} / {} = {}", q->dividend, q->divisor, q->dividend / q->divisor));
  }
}

}  // namespace

int main() {
  const auto [here, there] = covey::make_pipe<question, std::string>();
  covey::process worker{answer, there};

  here.put({144, 12});
  here.put({100, 7});
  fmt::print("{}\n", here.get().value());
  fmt::print("{}\n", here.get().value());

  here.put({1, 0});
  try {
    fmt::print("{}\n", here.get().value());
  } catch (const covey::no_producers& e) {
    fmt::print("no answer: {}\n", e.what());
  }
  fmt::print("the worker was ended by signal {}\n", worker.join().signal());
}
