// News for many: each reader gets all that is put after it subscribed. One is killed, one sleeps through most of it and
// is told how much; nobody waits for either.
#include <fmt/format.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>

#include <string>

namespace {

void read_all(covey::subscriber<std::string> news, std::string name) {
  std::size_t count = 0;
  std::string last;
  for (const std::string& n : news) {
    ++count;
    last = n;
  }
  fmt::print("{} read {}, the last was {}\n", name, count, last);
}

}  // namespace

int main() {
  const covey::broadcast<std::string> news{{.items = 100, .when_slow = covey::slow_subscriber::lag}};
  const auto sleepy = news.subscribe();
  for (int i = 1; i <= 40; ++i) news.put(fmt::format("old news {}", i));

  covey::process dies{[](covey::subscriber<std::string>) {
                        for (;;) ::pause();
                      },
                      news.subscribe()};
  dies.kill();
  dies.join();

  covey::process wren{read_all, news.subscribe(), "wren"};
  covey::process heron{read_all, news.subscribe(), "heron"};
  for (int i = 1; i <= 90; ++i) news.put(fmt::format("news {}", i));
  news.close();
  wren.join();
  heron.join();

  const auto first = sleepy.get();
  fmt::print("the sleepy one wakes at {} and missed {}\n", first.value_or("nothing"), sleepy.missed());
}
