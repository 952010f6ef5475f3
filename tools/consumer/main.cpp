// What somebody writes who has only the installed covey: it must compile, link and run. The workers need the link
// option that the package carries; without it the first process could not be started from before main.
#include <signal.h>
#include <covey/pool.hpp>
#include <covey/service.hpp>

#include <cstdio>
#include <ranges>

int main() {
  covey::process_pool pool{{.workers = 2}};
  int sum = 0;
  for (const int square : pool.map([](int n) { return n * n; }, std::views::iota(0, 10))) sum += square;
  try {
    pool.submit([] { ::raise(SIGKILL); }).get();
  } catch (const covey::worker_died& e) {
    std::printf("sum %d, signal %d\n", sum, e.signal());
  }
}
