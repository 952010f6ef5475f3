// Members that do not keep to the protocol: the keeper serves the others as ever, and outlives what they send.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <covey/memory.hpp>
#include <covey/memory/messages.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/testing/settle.hpp>

#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::arena_in_use;
using covey::detail::arena_usage;
using covey::detail::family;
using covey::detail::keeper_op;
using covey::detail::keeper_request;
using covey::testing::eventually;
using covey::testing::settled;

// A second line of this process to the keeper, in the open.
covey::unique_fd own_line() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return {};
  const covey::unique_fd theirs(ends[1]);
  keeper_request hello{};
  hello.op = keeper_op::hello;
  hello.values[0] = covey::detail::this_process_id();
  const int fd = theirs.get();
  covey::detail::send_message(family.lobby_fd, &hello, sizeof hello, std::span(&fd, 1)).value();
  return covey::unique_fd(ends[0]);
}

TEST(KeeperRequests, ThatNobodyReadsTheAnswersOfDoNotStopTheOthers) {
  const arena_usage before = settled();
  const pid_t keeper = family.book->keeper_pid;
  covey::event sent;
  covey::process deaf{covey::process_options{.daemon = true},
                      [](covey::event e) {
                        const covey::unique_fd line = own_line();
                        keeper_request r{};
                        r.op = keeper_op::sync;
                        // Blocks when the keeper is behind; fails when the keeper has had enough of it.
                        for (r.sequence = 1; covey::detail::send_message(line.get(), &r, sizeof r, {}); ++r.sequence) {
                        }
                        e.set();
                        for (;;) ::pause();
                      },
                      sent};
  sent.wait();
  EXPECT_EQ(covey::process([] { return *covey::make_shared<int>(6); }).join().code(), 6);
  EXPECT_EQ(family.book->keeper_pid, keeper);
  deaf.kill();
  deaf.join();
  EXPECT_TRUE(eventually([&] { return arena_in_use().regions == before.regions + 1; }));  // `sent`
}

TEST(KeeperRequests, OfAnyContentAreRefusedWithoutHarm) {
  const arena_usage before = settled();
  const pid_t keeper = family.book->keeper_pid;
  const auto kept = covey::make_shared<covey::string>("a text of those who keep to the rules");
  for (unsigned seed = 0; seed < 5; ++seed) {
    covey::process wild{covey::process_options{.daemon = true},
                        [](unsigned n) {
                          const covey::unique_fd line = own_line();
                          std::mt19937_64 random(n);
                          for (int i = 0; i < 5000; ++i) {
                            keeper_request r{};
                            r.op = static_cast<keeper_op>(random() % 18);
                            r.fd_count = static_cast<std::uint32_t>(random() % 20);
                            r.sequence = random() % 4 == 0 ? random() : static_cast<std::uint64_t>(i);
                            for (auto& v : r.values) v = random() >> (random() % 64);
                            if (r.op == keeper_op::drop || r.op == keeper_op::carry || r.op == keeper_op::detach)
                              r.values[0] |= 1ULL << 40;
                            const int fd = STDIN_FILENO;
                            const bool with_fd = random() % 8 == 0;
                            if (!covey::detail::send_message(line.get(), &r, random() % 16 == 0 ? 7 : sizeof r,
                                                             with_fd ? std::span(&fd, 1) : std::span<const int>()))
                              return 1;
                            char answer[256];
                            while (::recv(line.get(), answer, sizeof answer, MSG_DONTWAIT) > 0) {
                            }
                          }
                          return 0;
                        },
                        seed};
    (void)wild.join();
    EXPECT_EQ(family.book->keeper_pid, keeper);
    EXPECT_EQ(covey::process([](covey::shared_ptr<covey::string> t) { return static_cast<int>(t->size()); }, kept)
                  .join()
                  .code(),
              37);
  }
  EXPECT_TRUE(eventually([&] { return arena_in_use().regions == before.regions + 1; }));
}

}  // namespace
