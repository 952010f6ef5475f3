// A library that callable_test.cpp loads with dlopen, long after workers were forked from the program.
extern "C" int late_answer() { return 42; }
