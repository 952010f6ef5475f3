// Arguments convert to the parameters as in a plain call, and then must be able to travel.
// expect: covey: a raw pointer means nothing in another process
// expect: covey: a reference would point into the wrong process
// expect: covey: what another process writes into a span would be lost
// expect: covey: the function takes another number of arguments
// expect: covey: an argument does not convert to the function's parameter
#include <covey/process/process.hpp>

struct holder {
  int* number;
};
struct counter {
  int value = 0;
  int plus(int n) const { return value + n; }
};

void pointer(int*) {}
void text(const char*) {}
void held(const holder&) {}
void changes(std::string&) {}
void fills(std::span<int>) {}
void two(int, int) {}

void all() {
  int number = 1;
  covey::process good{two, number, 2L};
  covey::process member{&counter::plus, counter{}, 1};
#ifdef WRONG
  covey::process a{pointer, &number};
  covey::process b{text, "text"};
  covey::process c{held, holder{&number}};
  covey::process d{changes, std::string("text")};
  covey::process e{fills, std::vector<int>{1}};
  covey::process f{two, 1};
  covey::process g{two, 1, 2, 3};
  covey::process h{two, 1, std::string("2")};
  covey::process i{&counter::plus, 1};
  covey::process j{[](std::vector<int>) {}, 5};
#endif
}
