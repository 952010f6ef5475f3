// Classes without a way to travel are told to get one.
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
  // expect: covey: this type has no way to travel
  send(std::pair(1, closed{captured}));
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  send(std::vector{[captured] { return captured; }});
  // expect: covey: a capturing lambda would carry pointers into the wrong process
  send(std::function<void()>([] {}));
  // expect: covey: a C array does not travel, nor does what has one: use std::array
  int numbers[3] = {};
  send(numbers);
#endif
}
