// Tour 4: queues between processes.
#include <fmt/format.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>

namespace {

struct job {
  std::string name;
};

void work(const job& j) {
  fmt::print("{} is done\n", j.name);
  std::fflush(stdout);
}

}  // namespace

int main() {
  using namespace std::chrono_literals;

  covey::queue<job> jobs{1024};
  covey::process worker{[](covey::queue_reader<job> in) {
                          while (auto j = in.get()) {
                            work(*j);
                            in.task_done();
                          }
                        },
                        jobs.reader()};
  jobs.put(job{"a"});
  if (!jobs.put_for(job{"b"}, 10ms) || !jobs.try_put(job{"c"})) fmt::print("full\n");
  jobs.join();
  jobs.close();                                              // get() drains, then returns nullopt
  worker.join().check();

  covey::queue<job> more{1};
  covey::process doomed{[](covey::queue_reader<job> in) {
                          (void)in.get();
                          for (;;) (void)::pause();
                        },
                        more.reader()};
  more.put(job{"d"});
  more.put(job{"e"});  // there is room: d is in the hand of its reader
  doomed.kill();
  try {
    for (;;) more.put(job{"f"});
  } catch (const covey::no_consumers& e) {
    fmt::print("{}\n", e.what());
  }
  fmt::print("{} comes back\n", more.get()->name);  // d: its reader died with it in hand
}
