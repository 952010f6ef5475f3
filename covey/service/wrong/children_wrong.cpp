// What a supervisor runs is packed like any call, and says so like any call.
// expect: covey: a capturing lambda would carry pointers into the wrong process
// expect: covey: the function takes another number of arguments
// expect: covey: a process returns its exit code
#include <covey/service/supervisor.hpp>

int serve(int port) { return port; }

void all(int number) {
  covey::supervisor office;
  office.add({.name = "plain", .run = [] { return 0; }});
  office.add({.name = "with arguments", .run = {serve, number}, .restart = covey::transient});
#ifdef WRONG
  office.add({.name = "captures", .run = [number] { return number; }});
  office.add({.name = "no port", .run = serve});
  office.add({.name = "text", .run = [] { return std::string("text"); }});
#endif
}
