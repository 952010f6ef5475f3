// What is called travels without state, or its author vouches for plain state.
#include <covey/process/process.hpp>

int variadic(int n, ...) { return n; }

void all(int number, const std::string& text) {
  covey::process plain{[](int n) { return n; }, number};
  covey::process vouched{covey::by_value([number] { return number; })};
  (void)text;
#ifdef WRONG
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  covey::process captures{[number] { return number; }};
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  covey::process by_reference{[&] { return number; }};
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  covey::process erased{std::function<int()>([] { return 1; })};
  // expect: covey: by_value needs captures that are plain values
  covey::process text_by_value{covey::by_value([text] { return static_cast<int>(text.size()); })};
  // expect: covey: what is to be called is no function
  covey::process called_number{number};
  // expect: covey: this kind of function cannot be called from another process
  covey::process called_variadic{variadic, 1};
  // expect: covey: a process returns its exit code
  covey::process returns_text{[] { return std::string("text"); }};
#endif
}
