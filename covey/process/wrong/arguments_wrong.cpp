// Arguments convert to the parameters as in a plain call, and then must be able to travel.
#include <covey/process/process.hpp>

struct holder {
  long* number;
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
  long large = number;
  covey::process good{two, number, large};
  covey::process member{&counter::plus, counter{}, 1};
#ifdef WRONG
  // expect: covey: a raw pointer means nothing in another process
  covey::process a{pointer, &number};
  // expect: covey: a raw pointer means nothing in another process
  covey::process b{text, "text"};
  // expect: covey: a raw pointer means nothing in another process
  covey::process c{held, holder{&large}};
  // expect: covey: a reference would point into the wrong process
  covey::process d{changes, std::string("text")};
  // expect: covey: what another process writes into a span would be lost
  covey::process e{fills, std::vector<int>{1}};
  // expect: covey: the function takes another number of arguments
  covey::process f{two, 1};
  // expect: covey: the function takes another number of arguments
  covey::process g{two, 1, 2, 3};
  // expect: covey: an argument does not convert to the function's parameter
  covey::process h{two, 1, std::string("2")};
  // expect: covey: the function takes another number of arguments
  covey::process i{&counter::plus, 1};
  // expect: covey: an argument does not convert to the function's parameter
  covey::process j{[](std::vector<int>) {}, 5};
#endif
}
