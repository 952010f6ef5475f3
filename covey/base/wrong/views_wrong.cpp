// A view travels as a parameter only: inside other types nobody would own what it shows.
// expect: covey: a view points into the sender's memory
// expect: covey: what another process writes into a span would be lost
#include <covey/base/codec.hpp>

struct named {
  int id;
  std::string_view name;
};
struct owned {
  int id;
  std::string name;
};
struct block {
  std::span<int> writable;
};

template <class T>
void send(const T& value) {
  covey::detail::encoder out;
  covey::detail::encode(out, value);
}

void all() {
  send(owned{1, "a"});
#ifdef WRONG
  send(named{1, "a"});
  send(std::vector<std::string_view>{"a"});
  send(std::optional<std::span<const int>>{});
  send(block{});
#endif
}
