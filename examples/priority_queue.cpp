// A waiting room where the most urgent goes first. The first doctor is killed with a patient in hand: that one comes
// back to the place that it had.
#include <fmt/format.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <string>

namespace {

struct patient {
  int priority;  // the smallest goes first
  std::string what;
};

}  // namespace

int main() {
  const covey::priority_queue<patient> room;
  room.put({3, "a cold"});
  room.put({1, "a heart attack"});
  room.put({2, "a broken leg"});
  room.put({1, "a stroke"});

  covey::event has_one;
  covey::process doctor{[](covey::priority_queue<patient> waiting, covey::event e) {
                          (void)waiting.get();
                          e.set();
                          for (;;) ::pause();
                        },
                        room, has_one};
  has_one.wait();
  doctor.kill();
  doctor.join();

  room.close();
  while (const auto next = room.get_delivery())
    fmt::print("{}, seen by {}\n", next->value.what, next->deliveries == 1 ? "one doctor" : "two doctors");
}
