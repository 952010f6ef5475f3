// Two accounts that hold 1000 together. Writers are killed in the middle of a transfer; readers never wait, and never
// see money that has left the one account and not come to the other.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <vector>

namespace {

struct accounts {
  int wren = 1000;
  int heron = 0;
};

int total(const accounts& a) { return a.wren + a.heron; }

void be_stuck_in_a_transfer(covey::guarded<accounts> bank, covey::event in_the_middle) {
  bank.update([&](accounts& a) {
    a.wren -= 100;
    in_the_middle.set();
    for (;;) ::pause();
  });
}

// Dies in the middle of its tenth.
void transfer(covey::guarded<accounts> bank) {
  for (int i = 1;; ++i)
    bank.update([&](accounts& a) {
      a.wren -= 1;
      if (i == 10) ::raise(SIGKILL);
      a.heron += 1;
    });
}

// How often it was wrong.
int audit(std::stop_token stop, covey::guarded<accounts> bank) {
  int wrong = 0;
  while (!stop.stop_requested()) wrong += bank.read(total) != 1000 ? 1 : 0;
  return wrong;
}

}  // namespace

int main() {
  const covey::guarded<accounts> bank;
  covey::event in_the_middle;
  covey::process stuck{be_stuck_in_a_transfer, bank, in_the_middle};
  in_the_middle.wait();
  fmt::print("in the middle of a transfer: {} in all\n", bank.read(total));
  stuck.kill();

  covey::process auditor{audit, bank};
  std::vector<covey::process> writers;
  for (int i = 0; i < 20; ++i) writers.emplace_back(transfer, bank);
  int killed = 0;
  for (auto& w : writers) killed += w.join().signal() == SIGKILL ? 1 : 0;
  auditor.request_stop();
  const accounts now = bank.load();
  fmt::print("writers killed: {}; wren has {}, heron {}; the auditor found {} errors\n", killed, now.wren, now.heron,
             auditor.join().code());
}
