// Real sockets on free ports; the store is this file. The client is written with plain system calls, so that it can
// also say what no library would. Nothing sleeps: every wait is for something that must come.
#include <pigeon/serve/web_server.hpp>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <condition_variable>
#include <covey/base/unique_fd.hpp>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

namespace pigeon::serve {
namespace {

using namespace std::chrono_literals;
using covey::unique_fd;
using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto patience = 10s;

// ---- a client
// ----------------------------------------------------------------------------------------------------------

class client {
 public:
  explicit client(std::uint16_t port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_bytes > 0) ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }

  explicit client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::strncpy(to.sun_path, path.c_str(), sizeof to.sun_path - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }

  // False if the other side has hung up meanwhile.
  bool say(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  // More bytes into unread(); false at the end of the stream, or when nothing came for too long.
  bool more() {
    pollfd ready{fd_.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(std::chrono::milliseconds(patience).count())) != 1) {
      ADD_FAILURE() << "nothing came";
      return false;
    }
    char bytes[65536];
    const ssize_t n = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    unread_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  bool closed() {
    while (more()) {
    }
    return !testing::Test::HasFailure();
  }

  std::string take(std::size_t count) {
    while (unread_.size() < count)
      if (!more()) return {};
    std::string out = unread_.substr(0, count);
    unread_.erase(0, count);
    return out;
  }

  // Header and body of one answer; `bodiless` for HEAD and 304.
  std::string answer(bool bodiless = false) {
    std::size_t end = 0;
    while ((end = unread_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return take(unread_.size());
    const std::string head = take(end + 4);
    const auto at = head.find("Content-Length: ");
    if (bodiless || at == std::string::npos) return head;
    return head + take(std::stoul(head.substr(at + 16)));
  }

  std::string ask(const std::string& request, bool bodiless = false) {
    say(request);
    return answer(bodiless);
  }

 private:
  unique_fd fd_;
  std::string unread_;
};

std::string get(const std::string& path, const std::string& headers = "", const std::string& method = "GET") {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
}

std::string body_of(const std::string& answer) { return answer.substr(answer.find("\r\n\r\n") + 4); }

std::string upgrade(const std::string& target, const std::string& headers = "Host: localhost\r\n") {
  return "GET " + target + " HTTP/1.1\r\n" + headers +
         "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
}

// A WebSocket client; its mask is zero, which is a mask too.
class page {
 public:
  explicit page(std::uint16_t port, const std::string& name = "", int receive_bytes = 0) : line_(port, receive_bytes) {
    const std::string answer = line_.ask(upgrade(name.empty() ? "/ws" : "/ws?client=" + name));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 101")) << answer;
  }

  void frame(int opcode, const std::string& payload) {
    std::string head{static_cast<char>(0x80 | opcode), static_cast<char>(0x80 | 127)};
    for (int shift = 56; shift >= 0; shift -= 8) head += static_cast<char>(payload.size() >> shift);
    if (payload.size() < 126) head = {static_cast<char>(0x80 | opcode), static_cast<char>(0x80 | payload.size())};
    if (payload.size() >= 126 && payload.size() < 65536)
      head = {static_cast<char>(0x80 | opcode), static_cast<char>(0x80 | 126), static_cast<char>(payload.size() >> 8),
              static_cast<char>(payload.size())};
    line_.say(head + std::string(4, '\0') + payload);
  }
  void say(const json& message) { frame(1, message.dump()); }

  // The next message; null when the connection has ended.
  json hear() {
    const std::string head = line_.take(2);
    if (head.size() < 2) return nullptr;
    std::size_t length = static_cast<unsigned char>(head[1]) & 127;
    if (const std::size_t extra = length == 126 ? 2 : length == 127 ? 8 : 0; extra > 0) {
      length = 0;
      for (const char c : line_.take(extra)) length = length << 8 | static_cast<unsigned char>(c);
    }
    const std::string payload = line_.take(length);
    if (payload.size() < length) return nullptr;
    const int opcode = head[0] & 15;
    if (opcode == 8)
      return {{"closed", static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1])}};
    return opcode == 1 ? json::parse(payload) : hear();
  }

  // The next message of a type; others are passed over.
  json hear(const std::string& type) {
    for (;;) {
      json message = hear();
      if (message.is_null() || message.value("type", "") == type) return message;
    }
  }

  client& line() { return line_; }

 private:
  client line_;
};

// ---- an office
// -----------------------------------------------------------------------------------------------------------

class WebServer : public testing::Test {
 protected:
  void open(web_options options = {}) {
    options.port = 0;
    auto opened = web_server::open(std::move(options), [this](office::to_store wanted) {
      const std::lock_guard lock(mutex_);
      wanted_.push_back(std::move(wanted));
      came_.notify_all();
    });
    ASSERT_TRUE(opened) << opened.error().message();
    server_.emplace(*std::move(opened));
    thread_ = std::thread([this] { server_->run(); });
  }

  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("web_server_test_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    ::chmod(folder_.c_str(), 0700);
  }

  void TearDown() override {
    if (server_) server_->stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  template <class Wanted>
  Wanted wanted() {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, patience, [&] { return !wanted_.empty(); })) {
      ADD_FAILURE() << "nothing was asked";
      return {};
    }
    const office::to_store first = std::move(wanted_.front());
    wanted_.pop_front();
    EXPECT_TRUE(std::holds_alternative<Wanted>(first));
    return std::holds_alternative<Wanted>(first) ? std::get<Wanted>(first) : Wanted{};
  }

  void greet() {
    office::person_entry ana;
    ana.who.key = "ana@desk";
    ana.who.name = "Ana";
    ana.who.here = true;
    server_->deliver(office::office_snapshot{{"Mira", ""}, {ana}});
  }

  static office::message_changed news(const std::string& ref, std::int64_t id, std::string text) {
    return {{.id = id, .who = "ana@desk", .outgoing = true, .text = std::move(text)}, ref, 0};
  }

  std::uint16_t port() const { return server_->port(); }
  std::string socket_path() const { return folder_ / "pigeon.sock"; }

  std::filesystem::path folder_;
  std::optional<web_server> server_;

 private:
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<office::to_store> wanted_;
};

// ---- the page
// -------------------------------------------------------------------------------------------------------------

TEST_F(WebServer, ServesThePageWithItsPolicyAndRemembersByTag) {
  open();
  client browser(port());
  const std::string first = browser.ask(get("/"));
  EXPECT_THAT(first, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(first, HasSubstr("Content-Security-Policy: default-src 'self'"));
  EXPECT_THAT(first, HasSubstr("X-Content-Type-Options: nosniff"));
  EXPECT_THAT(first, HasSubstr("<title>pigeon</title>"));
  const auto at = first.find("ETag: ") + 6;
  const std::string tag = first.substr(at, first.find("\r\n", at) - at);
  const std::string again = browser.ask(get("/", "If-None-Match: W/\"other\", " + tag + "\r\n"), true);
  EXPECT_THAT(again, StartsWith("HTTP/1.1 304"));
  const std::string head = browser.ask(get("/app.js", "", "HEAD"), true);
  EXPECT_THAT(head, HasSubstr("Content-Type: text/javascript; charset=utf-8"));
  EXPECT_THAT(browser.ask(get("/style.css")), HasSubstr("text/css"));  // the same connection is still good
}

TEST_F(WebServer, RefusesWithOneSentence) {
  open();
  client browser(port());
  EXPECT_THAT(browser.ask(get("/etc/passwd")), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(browser.ask(get("/../../etc/passwd")), StartsWith("HTTP/1.1 404"));
  const std::string wrong = browser.ask(get("/", "Content-Length: 0\r\n", "DELETE"));
  EXPECT_THAT(wrong, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(wrong, HasSubstr("Allow: GET, HEAD\r\n"));
  EXPECT_THAT(wrong, HasSubstr("This address understands only GET, HEAD.\n"));
  EXPECT_THAT(browser.ask(get("/ws")), StartsWith("HTTP/1.1 426"));
  EXPECT_THAT(browser.ask(get("/api/people")), StartsWith("HTTP/1.1 404")) << "the API is the owner's alone";
}

TEST_F(WebServer, AnswersOnlyToItsOwnNames) {
  open({.hosts = {"office.example"}});
  for (const char* const host : {"localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080", "Office.Example:8080"})
    EXPECT_THAT(client(port()).ask("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"),
                StartsWith("HTTP/1.1 200"))
        << host;
  for (const char* const host : {"evil.example", "localhost.evil.example", "192.0.2.1", "", "localhost:80@evil",
                                 "evil/.localhost", "[::1", "127.0.0.1.evil"})
    EXPECT_THAT(client(port()).ask("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"),
                StartsWith("HTTP/1.1 403"))
        << host;
  EXPECT_THAT(client(port()).ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(client(port()).ask("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n"),
              StartsWith("HTTP/1.1 400"));
}

TEST_F(WebServer, OnItsOwnPageOnlyMayASessionBegin) {
  open({.origins = {"https://office.example"}});
  const auto with = [&](const std::string& headers) { return client(port()).ask(upgrade("/ws", headers)); };
  EXPECT_THAT(with("Host: localhost:81\r\nOrigin: http://localhost:81\r\n"), StartsWith("HTTP/1.1 101"));
  EXPECT_THAT(with("Host: localhost:81\r\nOrigin: https://office.example\r\n"), StartsWith("HTTP/1.1 101"));
  for (const char* const origin : {"http://evil.example", "http://localhost:82", "https://localhost:81", "null"})
    EXPECT_THAT(with("Host: localhost:81\r\nOrigin: " + std::string(origin) + "\r\n"), StartsWith("HTTP/1.1 403"))
        << origin;
  EXPECT_THAT(with("Host: evil.example\r\nOrigin: http://evil.example\r\n"), StartsWith("HTTP/1.1 403"));
}

TEST_F(WebServer, RefusesGarbageAndExcess) {
  open();
  for (const std::string garbage :
       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello TLS\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\nHost: localhost\n\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: 1\r\n\r\n"}) {
    client browser(port());
    EXPECT_THAT(browser.ask(garbage), StartsWith("HTTP/1.1 400")) << garbage;
    EXPECT_TRUE(browser.closed());
  }
  EXPECT_THAT(client(port()).ask(get("/", "X: " + std::string(20'000, 'x') + "\r\n")), StartsWith("HTTP/1.1 431"));
  const std::string declared = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n";
  EXPECT_THAT(client(port()).ask(declared + std::string(3'000'000, 'x')), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(client(port()).ask(get("/")), StartsWith("HTTP/1.1 200")) << "and all is well";
}

TEST_F(WebServer, GivesUpOnWhoeverSaysNothing) {
  web_options options;
  options.limits.request_timeout = 50ms;
  open(options);
  client silent(port());
  EXPECT_TRUE(silent.closed());
  client slow(port());
  slow.say("GET / HTTP/1.1\r\nHo");
  EXPECT_TRUE(slow.closed());
}

TEST_F(WebServer, TurnsAwayMoreConnectionsThanAllowed) {
  web_options options;
  options.limits.sessions = 2;
  open(options);
  client first(port());
  client second(port());
  EXPECT_THAT(first.ask(get("/")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(second.ask(get("/")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(client(port()).answer(), StartsWith("HTTP/1.1 503"));
}

// ---- sessions
// ---------------------------------------------------------------------------------------------------------------

TEST_F(WebServer, GreetsAtOnceOrAsSoonAsStoreHasSpoken) {
  open();
  page early(port());
  greet();
  EXPECT_EQ(early.hear()["people"][0]["name"], "Ana");
  page late(port());
  const json hello = late.hear();
  EXPECT_EQ(hello["type"], "hello");
  EXPECT_EQ(hello["self"]["name"], "Mira");
  server_->deliver(office::own_profile{"Mira L.", ""});
  EXPECT_EQ(late.hear("self")["self"]["name"], "Mira L.");
  EXPECT_EQ(page(port()).hear()["self"]["name"], "Mira L.") << "a newcomer hears what changed since the snapshot";
}

TEST_F(WebServer, AskerGetsItsOwnRefBackAndOthersTheNewsOnly) {
  open();
  greet();
  page one(port(), "one");
  page two(port(), "two");
  const json same = {{"type", "send"}, {"ref", "1"}, {"to", "ana@desk"}, {"text", "hi"}};
  one.say(same);
  const auto first = wanted<office::send_text>();
  two.say(same);
  const auto second = wanted<office::send_text>();
  EXPECT_EQ(first.text, "hi");
  EXPECT_NE(first.ref, second.ref) << "refs of different clients do not collide";
  server_->deliver(news(first.ref, 7, "hi"));
  const json own = one.hear("message");
  EXPECT_EQ(own["ref"], "1");
  EXPECT_EQ(own["message"]["id"], 7);
  const json others = two.hear("message");
  EXPECT_EQ(others["message"]["id"], 7);
  EXPECT_FALSE(others.contains("ref"));
}

TEST_F(WebServer, ARepeatedRequestOfAReconnectedClientKeepsItsRef) {
  open();
  const json send = {{"type", "send"}, {"ref", "r"}, {"to", "ana@desk"}, {"text", "hi"}};
  std::string before;
  {
    page first(port(), "same");
    first.say(send);
    before = wanted<office::send_text>().ref;
  }
  page again(port(), "same");
  again.say(send);
  EXPECT_EQ(wanted<office::send_text>().ref, before);
  page nameless(port());
  nameless.say(send);
  page other(port(), "../../etc:passwd");
  const std::string anonymous = wanted<office::send_text>().ref;
  other.say(send);
  EXPECT_NE(wanted<office::send_text>().ref, anonymous);
}

TEST_F(WebServer, AnswersGoToWhoeverAsked) {
  open();
  greet();
  page one(port());
  page two(port());
  one.say({{"type", "history"}, {"ref", "h"}, {"who", "ana@desk"}});
  const auto asked = wanted<office::history_wanted>();
  office::history_page found;
  found.ref = asked.ref;
  found.messages.push_back(news("", 3, "old").what);
  server_->deliver(found);
  server_->deliver(office::request_failed{asked.ref, "Too late."});
  server_->deliver(office::own_profile{"end", ""});
  const json history = one.hear("history");
  EXPECT_EQ(history["ref"], "h");
  EXPECT_EQ(history["messages"][0]["text"], "old");
  EXPECT_EQ(one.hear("error")["text"], "Too late.");
  EXPECT_EQ(two.hear()["type"], "hello");
  EXPECT_EQ(two.hear()["type"], "self") << "and not a word of the answers";
}

TEST_F(WebServer, SessionsSurviveNonsenseButNotBrokenFrames) {
  open();
  page browser(port());
  browser.frame(1, "this is not JSON");
  EXPECT_EQ(browser.hear()["type"], "error");
  browser.say({{"type", "ping"}});
  EXPECT_EQ(browser.hear()["type"], "pong");
  browser.frame(2, "binary");
  EXPECT_EQ(browser.hear()["closed"], 1003);
  page latin(port());
  latin.frame(1, "{\"type\":\"\xff\"}");
  EXPECT_EQ(latin.hear()["closed"], 1007);
  page greedy(port());
  greedy.frame(1, std::string((2 << 20) + 1, ' '));
  EXPECT_EQ(greedy.hear()["closed"], 1009);
  page unmasked(port());
  unmasked.line().say(std::string_view("\x81\x02{}", 4));
  EXPECT_EQ(unmasked.hear()["closed"], 1002);
}

TEST_F(WebServer, ClosesASlowSessionAndSparesTheOthers) {
  web_options options;
  options.limits.outgoing_bytes = 256 << 10;
  open(options);
  greet();
  page slow(port(), "slow", 4096);
  page quick(port(), "quick");
  EXPECT_EQ(quick.hear()["type"], "hello");
  const std::string large(100'000, 'x');
  for (int i = 1; i <= 200; ++i) {
    server_->deliver(news("", i, large));
    ASSERT_EQ(quick.hear()["message"]["id"], i);
  }
  int heard = 0;
  while (!slow.hear().is_null()) ++heard;
  EXPECT_LT(heard, 200);
}

TEST_F(WebServer, AClientThatDoesNotAnswerPingsIsDropped) {
  web_options options;
  options.limits.ping_every = 100ms;
  open(options);
  page mute(port());  // hear() does not answer pings
  EXPECT_TRUE(mute.hear().is_null());
}

// ---- the owner's door
// ------------------------------------------------------------------------------------------------------

TEST_F(WebServer, TheCommandLineSpeaksHttpOnAUnixSocket) {
  open({.socket_path = socket_path(), .status = [] { return json{{"services", 3}}; }});
  struct stat st{};
  ASSERT_EQ(::stat(socket_path().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  client owner(socket_path());
  EXPECT_EQ(json::parse(body_of(owner.ask(get("/api/status"))))["services"], 3);
  owner.say(get("/api/people"));
  greet();
  EXPECT_EQ(json::parse(body_of(owner.answer()))["people"][0]["who"], "ana@desk");
  owner.say(get("/api/history?who=ana%40desk&limit=2"));
  const auto asked = wanted<office::history_wanted>();
  EXPECT_EQ(asked.who, "ana@desk");
  EXPECT_EQ(asked.limit, 2u);
  office::history_page found;
  found.ref = asked.ref;
  found.more = true;
  server_->deliver(found);
  EXPECT_EQ(json::parse(body_of(owner.answer()))["more"], true);
  EXPECT_THAT(owner.ask(get("/api/history?who=ana&limit=two")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(owner.ask(get("/api/history?who=%zz")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(owner.ask(get("/api/nothing")), StartsWith("HTTP/1.1 404"));
}

TEST_F(WebServer, TheCommandLineSends) {
  open({.socket_path = socket_path()});
  client owner(socket_path());
  const auto post = [](const std::string& body) {
    return get("/api/send", "Content-Length: " + std::to_string(body.size()) + "\r\n", "POST") + body;
  };
  owner.say(post(R"({"to":"ana@desk","text":"hi"})"));
  const auto first = wanted<office::send_text>();
  server_->deliver(news(first.ref, 9, "hi"));
  EXPECT_EQ(json::parse(body_of(owner.answer()))["message"]["id"], 9);
  owner.say(post(R"({"to":"nobody","text":"hi"})"));
  const auto second = wanted<office::send_text>();
  EXPECT_NE(first.ref, second.ref);
  server_->deliver(office::request_failed{second.ref, "Nobody is called nobody."});
  const std::string refused = owner.answer();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 422"));
  EXPECT_EQ(json::parse(body_of(refused))["text"], "Nobody is called nobody.");
  EXPECT_THAT(owner.ask(post("[]")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(owner.ask(get("/api/send")), StartsWith("HTTP/1.1 405"));
  owner.say(get("/api/send", "Expect: 100-continue\r\nContent-Length: 29\r\n", "POST"));
  EXPECT_THAT(owner.answer(true), StartsWith("HTTP/1.1 100"));
  owner.say(R"({"to":"ana@desk","text":"hi"})");
  EXPECT_EQ(wanted<office::send_text>().to, "ana@desk");
}

TEST_F(WebServer, SaysSoWhenStoreDoesNotAnswer) {
  web_options options;
  options.socket_path = socket_path();
  options.limits.answer_timeout = 20ms;
  open(options);
  client owner(socket_path());
  EXPECT_THAT(owner.ask(get("/api/people")), StartsWith("HTTP/1.1 504"));
  EXPECT_THAT(owner.ask(get("/api/history?who=ana")), StartsWith("HTTP/1.1 504"));
}

TEST_F(WebServer, ReplacesAStaleSocketButNotALivingOneOrAFile) {
  const auto try_open = [&] {
    return web_server::open({.port = 0, .socket_path = socket_path()}, [](office::to_store) {});
  };
  {
    const unique_fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, socket_path().c_str(), sizeof name.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  }
  {
    const auto living = try_open();
    ASSERT_TRUE(living) << living.error().message();
    const auto second = try_open();
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message(), HasSubstr("another pigeon answers at"));
    EXPECT_TRUE(std::filesystem::exists(socket_path()));
  }
  EXPECT_FALSE(std::filesystem::exists(socket_path())) << "the name goes with its owner";
  ASSERT_EQ(::mknod(socket_path().c_str(), S_IFREG | 0600, 0), 0);
  EXPECT_FALSE(try_open());
  std::filesystem::remove(socket_path());
  ::chmod(folder_.c_str(), 0755);
  EXPECT_FALSE(try_open()) << "others may look into the folder";
}

TEST_F(WebServer, SaysInOneSentenceWhyItCannotListen) {
  open();
  const auto taken = web_server::open({.port = port()}, [](office::to_store) {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().message(), "listen on 127.0.0.1:" + std::to_string(port()) + ": Address already in use");
  const auto named = web_server::open({.bind = "everywhere"}, [](office::to_store) {});
  ASSERT_FALSE(named);
  EXPECT_THAT(named.error().message(), HasSubstr("not a numeric address"));
}

}  // namespace
}  // namespace pigeon::serve
