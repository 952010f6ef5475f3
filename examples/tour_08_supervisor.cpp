// A program of processes: web takes requests, files serves them and crashes over one of them. The supervisor starts
// files again, the request that it had in hand is delivered again, and at the end SIGTERM stops all in reverse order.
#include <fmt/core.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <covey/ipc.hpp>
#include <covey/service.hpp>
#include <covey/sync.hpp>
#include <cstdio>
#include <cstdlib>

using namespace std::chrono_literals;
using job_queue = covey::queue<std::string>;

void web_main(std::stop_token stop, job_queue jobs, pid_t office) {
  for (const char* file : {"plan.txt", "photo.png", "notes.txt"}) jobs.put(file);
  jobs.join();               // all are served
  ::kill(office, SIGTERM);  // what Ctrl-C, systemd or a shell would do
  while (!stop.stop_requested()) ::usleep(1000);
}

void files_main(job_queue jobs, covey::event crashed_before) {
  while (auto file = jobs.get()) {
    if (*file == "photo.png" && !crashed_before.is_set()) {
      crashed_before.set();
      std::abort();
    }
    fmt::print("files serves {}\n", *file);
    std::fflush(stdout);
    jobs.task_done();
  }
}

void tell(const covey::supervisor_event& e) {
  using kind = covey::supervisor_event::kind;
  if (e.what == kind::started) fmt::print("{} started\n", e.child);
  if (e.what == kind::ended) fmt::print("{} {}\n", e.child, e.text);
  std::fflush(stdout);
}

int main() {
  job_queue jobs{16};
  covey::event crashed_before;

  covey::supervisor office{{.strategy = covey::one_for_one, .max_restarts = 5, .within = 10s, .on_event = tell}};
  office.add({.name = "files", .run = {files_main, jobs, crashed_before}});
  office.add({.name = "web", .run = {web_main, jobs, ::getpid()}});
  const int code = office.run();

  fmt::print("{}, files had {} restart\n", office.reason(), office.view().child("files").restarts);
  return code;
}
