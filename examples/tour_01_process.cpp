// Tour 1: a process is as easy as a thread.
#include <fmt/format.h>
#include <unistd.h>
#include <covey/process.hpp>

int main() {
  using namespace std::chrono_literals;

  covey::process child{[](std::string who) {
                         fmt::print("hello {} from {}\n", who, ::getpid());
                         return 7;
                       },
                       "world"};
  covey::exit_status status = child.join();              // the destructor requests stop and joins, like std::jthread
  fmt::print("exited with {}\n", status.code());         // 7

  covey::process patient{covey::process_options{.name = "patient", .stop_grace = 2s},
                         [](std::stop_token stop, int step_ms) {
                           while (!stop.stop_requested()) ::usleep(static_cast<unsigned>(step_ms) * 1000);
                         },
                         1};
  fmt::print("{} runs: {}\n", patient.name(), patient.alive());
  patient.request_stop();
  fmt::print("{} {}\n", patient.name(), patient.join().describe());

  covey::process fails{[] { throw std::out_of_range("shelf 9"); }};
  try {
    fails.join().check();
  } catch (const std::out_of_range& e) {
    fmt::print("over there: {}\n", e.what());
  }
}
