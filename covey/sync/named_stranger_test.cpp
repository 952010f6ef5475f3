// Named memory and those who should not have it: other users, and peers that speak nonsense.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <covey/memory/messages.hpp>
#include <covey/sync/named_board.hpp>
#include <covey/testing/named_visitor.hpp>

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;
using covey::unique_fd;
using covey::detail::named_board::board;
using testing::AllOf;
using testing::HasSubstr;

// ---- strangers ------------------------------------------------------------------------------------------------------

constexpr unsigned stranger = 65534;

#define NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user"

TEST(NamedStranger, CannotAttachUnlessItIsSharedWithAnyone) {
  NEEDS_ROOT();
  const auto own = covey::create<board>(own_name());
  const auto open = covey::create<board>({.name = own_name() + ".open", .with = covey::sharing::anyone});
  visitor v;
  ASSERT_EQ(v.ask("user " + std::to_string(stranger)), "ok");
  EXPECT_THAT(v.ask("attach " + own_name() + " 10000 0"),
              HasSubstr("is not shared with user 65534: Permission denied"));
  EXPECT_EQ(v.ask("attach " + own_name() + ".open 10000 0"), "found");
  EXPECT_THAT(v.ask("open " + own_name() + ".none 10000 0"), HasSubstr("only user 0 can make it"));
  EXPECT_EQ(v.ask("open " + own_name()), "made");  // its own name, which is another
}

TEST(NamedStranger, OfTheMakersGroupMayAttachWhatIsSharedWithIt) {
  NEEDS_ROOT();
  const auto own = covey::create<board>(own_name());
  const auto shared = covey::create<board>({.name = own_name() + ".group", .with = covey::sharing::group});
  visitor member, other;
  ASSERT_EQ(member.ask("user " + std::to_string(stranger) + ' ' + std::to_string(::getegid())), "ok");
  ASSERT_EQ(other.ask("user " + std::to_string(stranger)), "ok");
  EXPECT_EQ(member.ask("attach " + own_name() + ".group 10000 0"), "found");
  EXPECT_THAT(member.ask("attach " + own_name() + " 10000 0"), HasSubstr("Permission denied"));
  EXPECT_THAT(other.ask("attach " + own_name() + ".group 10000 0"), HasSubstr("Permission denied"));
}

TEST(NamedStranger, WhoTakesTheNameFirstIsNamed) {
  NEEDS_ROOT();
  const std::string path = "covey/0/" + own_name();
  int listens[2];
  ASSERT_EQ(::pipe(listens), 0);
  const pid_t squatter = ::fork();
  if (squatter == 0) {
    if (::setresuid(stranger, stranger, stranger) != 0) ::_exit(1);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path + 1, path.data(), path.size());
    const int s = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (s < 0 ||
        ::bind(s, reinterpret_cast<sockaddr*>(&at),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size())) != 0 ||
        ::listen(s, 10) != 0)
      ::_exit(2);
    (void)!::write(listens[1], "", 1);
    for (;;) ::pause();
  }
  ::close(listens[1]);
  char c = 0;
  ASSERT_EQ(::read(listens[0], &c, 1), 1);
  ::close(listens[0]);
  const std::string what = error_of([] { (void)covey::open_or_create<board>(own_name()); });
  EXPECT_THAT(what, AllOf(HasSubstr("is held by user 65534"), HasSubstr(std::to_string(squatter)),
                          HasSubstr("Permission denied")));
  ::kill(squatter, SIGKILL);
  ::waitpid(squatter, nullptr, 0);
}

// ---- peers that speak nonsense --------------------------------------------------------------------------------------

class raw_peer {
 public:
  explicit raw_peer(const std::string& name) {
    const std::string path = "covey/" + std::to_string(::geteuid()) + "/" + name;
    at_.sun_family = AF_UNIX;
    std::memcpy(at_.sun_path + 1, path.data(), path.size());
    bytes_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  }
  [[nodiscard]] bool connect() { return ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&at_), bytes_) == 0; }
  void serve() {
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&at_), bytes_), 0);
    ASSERT_EQ(::listen(socket_.get(), 10), 0);
  }
  [[nodiscard]] int accept() const { return ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC); }
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  sockaddr_un at_{};
  socklen_t bytes_ = 0;
  unique_fd socket_;
};

TEST(NamedGarbage, FromClientsEndsTheirConnectionOnly) {
  const auto b = covey::create<board>(own_name());
  std::vector<std::unique_ptr<raw_peer>> silent;  // more than the doorman has seats
  for (int i = 0; i < 40; ++i) {
    silent.push_back(std::make_unique<raw_peer>(own_name()));
    ASSERT_TRUE(silent.back()->connect());
  }
  for (const std::size_t size : {1U, 11U, 12U, 100U, 1024U, 1025U, 60000U}) {
    raw_peer p(own_name());
    ASSERT_TRUE(p.connect());
    const std::vector<char> bytes(size, 'x');
    ASSERT_GT(::send(p.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
    char answer = 0;
    EXPECT_EQ(::recv(p.fd(), &answer, 1, 0), 0) << size;
  }
  visitor v;
  EXPECT_EQ(v.ask("attach " + own_name()), "found");
}

TEST(NamedGarbage, AnotherVersionIsToldWhichOneThisIs) {
  const auto b = covey::create<board>(own_name());
  raw_peer p(own_name());
  ASSERT_TRUE(p.connect());
  auto hello = covey::detail::format_hello({.wanted = covey::detail::make_shape(4, 4, 0, typeid(int))});
  hello[8] = std::byte{99};
  ASSERT_GT(::send(p.fd(), hello.data(), hello.size(), MSG_NOSIGNAL), 0);
  std::array<std::byte, 2000> answer;
  const ssize_t n = ::recv(p.fd(), answer.data(), answer.size(), 0);
  ASSERT_GT(n, 12);
  EXPECT_EQ(covey::detail::version_of(std::span(answer).first(static_cast<std::size_t>(n))),
            covey::detail::named_version);
}

/// What a program says that is answered with `answer` and `fds`.
std::string answered_with(const std::vector<std::byte>& answer, const std::vector<int>& fds = {}) {
  raw_peer server(own_name());
  server.serve();
  std::string what;
  std::jthread client(
      [&, name = own_name()] { what = error_of([&] { (void)covey::attach<int>({.name = name, .patience = 60s}); }); });
  const unique_fd guest(server.accept());
  std::array<std::byte, 2000> hello;
  EXPECT_GT(::recv(guest.get(), hello.data(), hello.size(), 0), 0);
  std::vector<int> given = fds;
  if (!given.empty() && given.back() == -2) given.back() = server.fd();
  EXPECT_TRUE(covey::detail::send_message(guest.get(), answer.data(), answer.size(), given));
  client.join();
  return what;
}

covey::detail::named_answer good_answer() {
  return {.bytes = 8192,
          .holds =
              covey::detail::make_shape(4, 4, covey::detail::layout_of<int>(covey::detail::layout_start), typeid(int))};
}

TEST(NamedGarbage, FromServersIsAnError) {
  EXPECT_THAT(answered_with(std::vector<std::byte>(100)), HasSubstr("does not speak as covey does"));
  EXPECT_THAT(answered_with(std::vector<std::byte>(5000)), HasSubstr("does not speak as covey does"));
  auto newer = covey::detail::format_answer(good_answer());
  newer[8] = std::byte{2};
  EXPECT_THAT(answered_with(newer), HasSubstr("of covey's layout 2, this program is of layout 1"));
  auto cut = covey::detail::format_answer(good_answer());
  cut.pop_back();
  EXPECT_THAT(answered_with(cut), HasSubstr("does not speak as covey does"));
}

TEST(NamedGarbage, DescriptorsAreNotTakenOnTrust) {
  const auto answer = covey::detail::format_answer(good_answer());
  EXPECT_THAT(answered_with(answer), HasSubstr("makes no sense"));
  const unique_fd shrinks(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(shrinks.get(), 8192), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("not sealed and reserved"));
  const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(answered_with(answer, {file.get(), -2}), HasSubstr("not sealed and reserved"));
  ASSERT_EQ(::fcntl(shrinks.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("not sealed and reserved"));
  ASSERT_EQ(::fallocate(shrinks.get(), 0, 0, 8192), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), file.get()}), HasSubstr("another socket"));
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("does not begin as it should"));
}

}  // namespace
