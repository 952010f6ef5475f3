// What is called travels without state, or its author vouches for plain state.
// expect: covey: a capturing lambda would carry pointers into the wrong process
// expect: covey: by_value needs captures that are plain values
// expect: covey: what is to be called is no function
// expect: covey: this kind of function cannot be called from another process
// expect: covey: a process returns its exit code
#include <covey/process/process.hpp>

int variadic(int n, ...) { return n; }

void all(int number, const std::string& text) {
  covey::process plain{[](int n) { return n; }, number};
  covey::process vouched{covey::by_value([number] { return number; })};
  (void)text;
#ifdef WRONG
  covey::process captures{[number] { return number; }};
  covey::process by_reference{[&] { return number; }};
  covey::process erased{std::function<int()>([] { return 1; })};
  covey::process text_by_value{covey::by_value([text] { return static_cast<int>(text.size()); })};
  covey::process called_number{number};
  covey::process called_variadic{variadic, 1};
  covey::process returns_text{[] { return std::string("text"); }};
#endif
}
