// Classes without a way to travel are told to get one.
// expect: covey: this type has no way to travel
// expect: covey: a capturing lambda would carry pointers into the wrong process
// expect: covey: a C array does not travel, nor does what has one: use std::array
#include <covey/base/codec.hpp>

class closed {
 public:
  explicit closed(int n) : n_(n) {}
  int n() const { return n_; }

 private:
  int n_;
};
class opened {
 public:
  explicit opened(int n) : n_(n) {}
  int n() const { return n_; }

 private:
  int n_;
};
struct fixed {
  std::array<int, 3> numbers;
};
template <>
struct covey::travel_as<opened> {
  static int pack(const opened& o) { return o.n(); }
  static opened unpack(int n) { return opened(n); }
};

template <class T>
void send(const T& value) {
  covey::detail::encoder out;
  covey::detail::encode(out, value);
}

void all(int captured) {
  send(opened{captured});
  send(fixed{});
  send([] { return 1; });
#ifdef WRONG
  send(std::pair(1, closed{captured}));
  send(std::vector{[captured] { return captured; }});
  send(std::function<void()>([] {}));
  int numbers[3] = {};
  send(numbers);
#endif
}
