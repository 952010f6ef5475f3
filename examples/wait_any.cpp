// One waits for many: for messages, for the end of the one who sends them, and for a descriptor; then an event loop
// does the same.
#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <csignal>
#include <string>

namespace {

// It should set the event when it has sent all, and does not come that far.
void count_aloud(covey::queue<int> out, covey::event) {
  for (int i = 1; i <= 3; ++i) out.put(i);
  out.join();
  ::raise(SIGKILL);
}

void wait_for_the_first() {
  const covey::queue<int> numbers;
  const covey::event all_sent;
  const covey::process counter{count_aloud, numbers, all_sent};
  for (;;) {
    switch (covey::wait_any(numbers, all_sent, counter)) {
      case 0:
        if (const auto n = numbers.try_get()) fmt::print("got {}\n", *n);
        numbers.task_done();
        break;
      case 1: fmt::print("all were sent\n"); return;
      case 2: fmt::print("the counter died before it said that all were sent\n"); return;
    }
  }
}

void wait_in_an_event_loop() {
  const covey::queue<std::string> letters;
  int bell[2];
  if (::pipe(bell) != 0) return;
  const covey::process writer{[](covey::queue<std::string> out) {
                                out.put("a letter");
                                out.put("a second letter");
                                out.close();
                              },
                              letters};
  covey::pollable mail{letters};

  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  for (const int fd : {mail.fd(), bell[0]}) {
    epoll_event e{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
  }
  for (epoll_event e{}; ::epoll_wait(epoll, &e, 1, -1) == 1;) {
    if (e.data.fd == bell[0]) break;
    const bool closed = letters.closed();  // asked first: nothing comes after what is taken then
    while (const auto letter = letters.try_get()) fmt::print("{}\n", *letter);
    if (closed) {
      ::epoll_ctl(epoll, EPOLL_CTL_DEL, mail.fd(), nullptr);  // it stays readable at the end
      (void)!::write(bell[1], "!", 1);
    } else {
      mail.rearm();
    }
  }
  fmt::print("the bell rings\n");
}

}  // namespace

int main() {
  wait_for_the_first();
  wait_in_an_event_loop();
}
