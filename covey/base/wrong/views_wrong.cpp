// A view travels as a parameter only: inside other types nobody would own what it shows.
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
  // expect: covey: a view points into the sender's memory
  send(named{1, "a"});
  // expect: covey: a view points into the sender's memory
  send(std::vector<std::u8string_view>{u8"a"});
  // expect: covey: a view points into the sender's memory
  send(std::optional<std::span<const int>>{});
  // expect: covey: what another process writes into a span would be lost
  send(block{});
#endif
}
