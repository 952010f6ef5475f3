// A traffic light: one process sets an event, a hundred wait for it.
#include <fmt/format.h>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <vector>

int main() {
  covey::event green;
  std::vector<covey::process> cars;
  for (int i = 0; i < 100; ++i) cars.emplace_back([](covey::event light) { light.wait(); }, green);
  cars[7].kill();  // breaks down at the red light; nobody waits behind it

  covey::process light{[](covey::event e) { e.set(); }, green};
  int passed = 0;
  for (auto& car : cars) passed += car.join().success() ? 1 : 0;
  fmt::print("{} cars passed\n", passed);
}
