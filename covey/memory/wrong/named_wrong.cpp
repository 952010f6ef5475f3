// What lies in a named segment means the same at any address.
#include <covey/memory/named.hpp>

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

struct inner {
  int a = 0;
  std::atomic<long> b{};
};
struct good {
  double number = 0;
  std::array<inner, 3> inners{};
  std::chrono::steady_clock::time_point at{};
  covey::offset_ptr<inner> first{};
  covey::offset_span<int> all{};
};
struct with_pointer {
  int* p = nullptr;
};
struct deep {
  std::array<std::array<with_pointer, 2>, 2> pointers{};
  std::atomic<int> a{};
};
struct with_reference {
  int a;
  int& r;
};
struct with_text {
  int a = 0;
  std::string text;
};
struct with_view {
  std::string_view text;
};
struct with_function {
  void (*f)() = nullptr;
};
struct with_mutex {
  std::mutex m;
};
struct with_virtual {
  virtual ~with_virtual() = default;
};
struct with_atomic_pointer {
  std::atomic<int*> p{};
};
struct big {
  std::array<long, 8> all{};
};
struct with_locked_atomic {
  std::atomic<big> b;
};

void all() {
  auto a = covey::open_or_create<good>("good");
  auto b = covey::attach<std::atomic<int>>("count");
#ifdef WRONG
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<int*>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_pointer>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<deep>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_reference>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_text>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_view>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_function>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_mutex>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_virtual>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_atomic_pointer>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<with_locked_atomic>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<std::vector<int>>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<std::optional<int>>("x");
  // expect: covey: a named segment lies at another address in each program
  (void)covey::attach<std::function<void()>>("x");
#endif
}
