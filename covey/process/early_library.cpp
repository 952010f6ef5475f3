// A library that callable_test.cpp is linked with: its code is in every worker.
int early_answer(int n) { return n + 1; }
