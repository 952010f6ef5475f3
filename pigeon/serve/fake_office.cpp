// The web server with a pretended store behind it, for tools/browser/page_test.mjs. Lines on stdin act, lines on stdout
// tell: `port N` after each start, and `asked …` for each request.
//
//     person KEY NAME here|away|gone [GROUP]  somebody is seen        hold / release      sent messages wait / are
//     delivered receive KEY TEXT                        a message arrives       fail                the next sent
//     message is refused seed KEY COUNT                          old messages            down / up           the web
//     server dies / is back lose                                    the next sent message is stored, and the server
//     dies before its answer drop                                    the next sent message is not even stored, and the
//     server dies messages KEY                            prints `messages N` and each outgoing text
#include <nlohmann/json.hpp>
#include <pigeon/serve/web_server.hpp>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

namespace {

using namespace pigeon;

constexpr office::unix_ms minute = 60'000;

office::unix_ms now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

class fake_office {
 public:
  explicit fake_office(std::uint16_t port) : port_(port) {}
  ~fake_office() { down(); }

  void up() {
    down();
    auto opened =
        serve::web_server::open({.port = port_}, [this](office::to_store wanted) { take(std::move(wanted)); });
    const std::lock_guard lock(mutex_);
    server_.emplace(std::move(opened).value());
    port_ = server_->port();
    thread_ = std::thread([this] { answer_with(*server_); });
    say(snapshot());
    std::cout << "port " << port_ << std::endl;
  }

  void down() {
    {
      const std::lock_guard lock(mutex_);
      if (server_) server_->stop();
    }
    if (thread_.joinable()) thread_.join();
  }

  void obey(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    std::string key;
    words >> verb;
    if (verb == "up") return up();
    if (verb == "down") return down();
    const std::lock_guard lock(mutex_);
    if (verb == "hold") holding_ = true;
    if (verb == "release") release();
    if (verb == "fail") fail_next_ = true;
    if (verb == "lose") lose_next_ = true;
    if (verb == "drop") drop_next_ = true;
    if (verb == "person") person(words);
    if (!(words >> key)) return;
    if (verb == "receive") receive(key, rest_of(words));
    if (verb == "seed") seed(key, std::stoi(rest_of(words)));
    if (verb == "messages") print(key);
  }

 private:
  // The server goes with its loop, and every connection with the server, as when the process is killed.
  void answer_with(serve::web_server& server) {
    server.run();
    const std::lock_guard lock(mutex_);
    server_.reset();
  }

  static std::string rest_of(std::istringstream& words) {
    std::string text;
    std::getline(words >> std::ws, text);
    for (std::size_t at = 0; (at = text.find("\\n", at)) != std::string::npos;) text.replace(at, 2, "\n");
    return text;
  }

  // ---- orders, under the mutex

  void person(std::istringstream& words) {
    std::string key, name, presence, group;
    words >> key >> name >> presence;
    std::replace(name.begin(), name.end(), '_', ' ');
    office::person_entry& entry = people_[key];
    entry.who = {.key = key,
                 .name = name,
                 .group = rest_of(words),
                 .user = key.substr(0, key.find('@')),
                 .host = key.substr(key.find('@') + 1),
                 .address = "192.0.2.7"};
    entry.who.here = presence != "gone";
    entry.who.away = presence == "away";
    entry.who.seen = now();
    say(office::person_changed{entry});
  }

  void receive(const std::string& key, std::string text) {
    const std::uint32_t unread = ++people_[key].unread;
    store(key, false, std::move(text), now(), office::message_state::received);
    say(office::message_changed{messages_.back(), "", unread});
  }

  void seed(const std::string& key, int count) {
    for (int i = 0; i < count; ++i) {
      const bool ours = i % 3 == 0;
      store(key, ours, "old message " + std::to_string(i), now() - (count - i) * 37 * minute,
            ours ? office::message_state::delivered : office::message_state::received);
      messages_.back().read = true;
    }
  }

  void release() {
    holding_ = false;
    for (office::message& each : messages_) deliver_one(each);
  }

  void print(const std::string& key) {
    std::vector<std::string> sent;
    for (const auto& each : messages_)
      if (each.who == key && each.outgoing) sent.push_back(each.text);
    std::cout << "messages " << nlohmann::json(sent).dump() << std::endl;
  }

  // ---- requests, on the web server's thread

  void take(office::to_store wanted) {
    const std::lock_guard lock(mutex_);
    if (auto* send = std::get_if<office::send_text>(&wanted)) take_send(*send);
    if (auto* history = std::get_if<office::history_wanted>(&wanted)) take_history(*history);
    if (auto* mark = std::get_if<office::mark_read>(&wanted)) take_mark(*mark);
    if (auto* name = std::get_if<office::rename_self>(&wanted)) {
      self_.name = name->name;
      say(self_);
    }
  }

  void take_send(const office::send_text& send) {
    if (std::exchange(drop_next_, false)) return server_->stop();
    if (std::exchange(fail_next_, false)) return say(office::request_failed{send.ref, "Nobody here is called so."});
    std::size_t& at = by_ref_[send.ref];
    if (at == 0) {
      store(send.to, true, send.text, now(), office::message_state::waiting);
      at = messages_.size();
    }
    if (std::exchange(lose_next_, false)) return server_->stop();
    say(office::message_changed{messages_[at - 1], send.ref, people_[send.to].unread});
    if (!holding_) deliver_one(messages_[at - 1]);
  }

  void take_history(const office::history_wanted& wanted) {
    office::history_page page;
    page.ref = wanted.ref;
    page.who = people_[wanted.who].who;
    for (auto it = messages_.rbegin(); it != messages_.rend(); ++it) {
      if (it->who != wanted.who || (wanted.before != 0 && it->id >= wanted.before)) continue;
      if ((page.more = page.messages.size() == wanted.limit)) break;
      page.messages.push_back(*it);
    }
    std::sort(page.messages.begin(), page.messages.end(), [](auto& a, auto& b) { return a.id < b.id; });
    say(std::move(page));
  }

  void take_mark(const office::mark_read& mark) {
    office::person_entry& entry = people_[mark.who];
    entry.unread = 0;
    for (office::message& each : messages_) {
      if (each.who != mark.who || each.outgoing) continue;
      each.read = each.read || each.id <= mark.up_to;
      if (!each.read) ++entry.unread;
    }
    say(office::person_changed{entry});
  }

  // ---- helpers, under the mutex

  void store(const std::string& who, bool outgoing, std::string text, office::unix_ms time,
             office::message_state state) {
    const auto id = static_cast<std::int64_t>(messages_.size() + 1);
    messages_.push_back(
        {.id = id, .who = who, .outgoing = outgoing, .text = std::move(text), .time = time, .state = state});
  }

  void deliver_one(office::message& what) {
    if (what.state != office::message_state::waiting) return;
    what.state = office::message_state::delivered;
    say(office::message_changed{what, "", people_[what.who].unread});
  }

  office::office_snapshot snapshot() {
    office::office_snapshot all{self_, {}};
    for (const auto& [key, entry] : people_) all.people.push_back(entry);
    return all;
  }

  void say(office::to_web news) {
    if (server_) server_->deliver(std::move(news));
  }

  std::mutex mutex_;  // guards all below but thread_ and port_, which are the main thread's
  office::own_profile self_{"Mira Lund", "Design"};
  std::map<std::string, office::person_entry> people_;
  std::vector<office::message> messages_;
  std::map<std::string, std::size_t> by_ref_;  // index + 1
  bool holding_ = false;
  bool fail_next_ = false;
  bool lose_next_ = false;
  bool drop_next_ = false;
  std::uint16_t port_;
  std::optional<serve::web_server> server_;
  std::thread thread_;
};

}  // namespace

int main(int argc, char** argv) {
  fake_office office(static_cast<std::uint16_t>(argc > 1 ? std::stoi(argv[1]) : 0));
  office.up();
  for (std::string line; std::getline(std::cin, line);) office.obey(line);
}
