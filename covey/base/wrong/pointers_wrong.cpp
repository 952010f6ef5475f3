// What points into the sender's memory does not travel, however deep it lies.
#include <covey/base/codec.hpp>
#include <map>

struct node {
  int value;
  node* next;
};
struct tree {
  int value;
  std::vector<tree> kids;
};
struct place {
  std::vector<int>::iterator at;
};

template <class T>
void send(const T& value) {
  covey::detail::encoder out;
  covey::detail::encode(out, value);
}

void all(const node& n, int& number, const place& p, std::mutex& m) {
  send(tree{1, {tree{2, {}}}});
#ifdef WRONG
  // expect: covey: a raw pointer means nothing in another process
  send(std::vector<node>{n});
  // expect: covey: a smart pointer of std points into the sender's memory
  send(std::tuple(std::make_unique<int>(1)));
  // expect: covey: a reference_wrapper points into the wrong process
  send(std::map<int, std::reference_wrapper<int>>{{1, number}});
  // expect: covey: an iterator points into the sender's memory
  send(p);
  // expect: covey: a function travels only as the one that is called
  send(std::optional(&send<int>));
  // expect: covey: a lock of std works in one process only
  send(m);
#else
  send(std::vector<int>{n.value});
  send(std::tuple(number, *p.at));
  (void)m;
#endif
}
