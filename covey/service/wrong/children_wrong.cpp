// What a supervisor runs is packed like any call, and says so like any call.
#include <covey/service/supervisor.hpp>

int serve(int port) { return port; }

void all(int number) {
  covey::supervisor office;
  office.add({.name = "plain", .run = [] { return 0; }});
  office.add({.name = "with arguments", .run = {serve, number}, .restart = covey::transient});
#ifdef WRONG
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  office.add({.name = "captures", .run = [number] { return number; }});
  // expect: covey: the function takes another number of arguments
  office.add({.name = "no port", .run = serve});
  // expect: covey: a process returns its exit code
  office.add({.name = "text", .run = [] { return std::string("text"); }});
#endif
}
