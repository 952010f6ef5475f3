// Three licences for twelve workers: at most three convert at a time. Every third worker is killed with a licence in
// hand, which comes back: else there would be none left for the last.
#include <fmt/format.h>
#include <signal.h>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <vector>

namespace {

void convert(covey::permits licences, covey::guarded<int> converted, int film) {
  const covey::permit mine{licences};  // waits while three others have one
  if (film % 3 == 0) ::raise(SIGKILL);
  converted.update([](int& n) { ++n; });
}

}  // namespace

int main() {
  const covey::permits licences{3};
  const covey::guarded<int> converted;
  std::vector<covey::process> workers;
  for (int film = 1; film <= 12; ++film) workers.emplace_back(convert, licences, converted, film);
  int killed = 0;
  for (auto& w : workers) killed += w.join().signal() == SIGKILL ? 1 : 0;
  fmt::print("films converted: {}, workers killed: {}\n", converted.load(), killed);
  fmt::print("licences free: {} of {}\n", licences.available_approx(), licences.count());
}
