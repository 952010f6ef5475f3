// A class with a C array is told so, whatever stands around it; others that look like one to Boost.PFR are not.
#include <covey/base/codec.hpp>
#include <map>

struct url {
  url() = default;
  template <class S>
  explicit(false) url(const S&) {}
};
template <>
struct covey::travel_as<url> {
  static int pack(const url&) { return 0; }
  static url unpack(int) { return {}; }
};

struct person {
  std::string name;
  url at;
  std::vector<std::string> notes;
  std::map<int, std::array<int, 3>> more;
  std::pair<int, int> place;
  struct point {
    int x, y, z;
  } seat;
  std::string a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p;
};

struct badge {
  int number;
  char name[4096];
  std::string office;
};

template <class T>
void send(const T& value) {
  covey::detail::encoder out;
  covey::detail::encode(out, value);
}

void all() {
  send(person{});
#ifdef WRONG
  // expect: covey: a C array does not travel, nor does what has one: use std::array
  send(badge{});
#endif
}
