// What somebody writes who has only the installed covey: it must compile, link and run.
#include <covey/base.hpp>
#include <cstdio>

int main() {
  const covey::result<int> nothing = covey::from_errno(ENOENT, "open inbox");
  COVEY_CHECK(!nothing, "an error is not a value");
  std::printf("%s\n", nothing.error().message().c_str());
}
