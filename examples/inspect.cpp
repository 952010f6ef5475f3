// What exists in a program of several processes: who waits, who works, who holds what.
#include <fmt/format.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>

int main() {
  covey::queue<int> parcels(100);
  covey::event one_taken, enough;
  covey::name_object(parcels, "parcels");
  covey::name_object(one_taken, "one taken");
  for (int i = 0; i < 10; ++i) parcels.put(i);
  covey::process postman{covey::process_options{.name = "postman"},
                         [](covey::queue<int> q, covey::event taken, covey::event end) {
                           covey::inspect_entry delivered("delivered", 0);
                           (void)q.get();
                           taken.set();
                           end.wait();
                           delivered.set(1);
                         },
                         parcels, one_taken, enough};
  one_taken.wait();
  const covey::snapshot now = covey::inspect();
  fmt::print("{}", covey::to_text(now));
  fmt::print("{} parcels wait, {} on its way\n", now.queues[0].waiting, now.queues[0].in_flight[0].count);
  enough.set();
  postman.join();
}
