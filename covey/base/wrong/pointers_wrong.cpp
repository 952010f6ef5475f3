// What points into the sender's memory does not travel, however deep it lies.
// expect: covey: a raw pointer means nothing in another process
// expect: covey: a smart pointer of std points into the sender's memory
// expect: covey: a reference_wrapper points into the wrong process
// expect: covey: an iterator points into the sender's memory
// expect: covey: a function travels only as the one that is called
// expect: covey: a lock of std works in one process only
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
  send(std::vector<node>{n});
  send(std::tuple(std::make_unique<int>(1)));
  send(std::map<int, std::reference_wrapper<int>>{{1, number}});
  send(p);
  send(std::optional(&send<int>));
  send(m);
#else
  send(std::vector<int>{n.value});
  send(std::tuple(number, *p.at));
  (void)m;
#endif
}
