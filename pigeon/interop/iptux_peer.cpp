// The engine of iptux without its window, for tests: events on stdout, one JSON object a line; commands on stdin, one a
// line.
//
//     iptux_peer --name NICK [--group GROUP] [--encode CHARSET] --home FOLDER
//
//     send ADDRESS TEXT…     one message; {"event":"sent",…} when the engine is done with it (it waits for the receipt)
//     detect ADDRESS         greet one address that no broadcast reaches
//     rename NICK            change the own nickname and tell everybody (iptux knows no absence; this is its
//     BR_ABSENCE) people                 {"event":"people","people":[…]} quit                   say good-bye to
//     everybody known and leave; so does the end of stdin
//
// Who runs what: the engine has threads for UDP, for TCP, for the first greeting and for events; signalEvent is called
// on the last. The main thread reads commands. Each `send` has a thread of its own, because the engine blocks until
// receipt or failure.
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <iptux-core/CoreThread.h>
#include <iptux-core/Event.h>
#include <iptux-core/IptuxConfig.h>
#include <iptux-core/ProgramData.h>
#include <json/json.h>

// Under the address sanitizer: what the engine leaks of GLib's is not ours to mend. All else is looked at.
extern "C" const char* __lsan_default_suppressions() { return "leak:libglib-2.0\n"; }  // NOLINT: the sanitizer's name

namespace {

struct options {
  std::string name;
  std::string group;
  std::string encode = "utf-8";
  std::string home;
};

options parse(int argc, char** argv) {
  options result;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    if (key == "--name")
      result.name = argv[i + 1];
    else if (key == "--group")
      result.group = argv[i + 1];
    else if (key == "--encode")
      result.encode = argv[i + 1];
    else if (key == "--home")
      result.home = argv[i + 1];
    else
      throw std::runtime_error("unknown option " + key);
  }
  if (result.name.empty() || result.home.empty()) throw std::runtime_error("--name and --home are needed");
  return result;
}

// Whatever the engine or GLib keep for a user stays below `home`.
void live_in(const std::string& home) {
  for (const char* name : {"HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"}) {
    ::setenv(name, home.c_str(), 1);
  }
}

void print(const Json::Value& value) {
  static const Json::StreamWriterBuilder compact = [] {
    Json::StreamWriterBuilder builder;
    builder["indentation"] = "";
    return builder;
  }();
  static std::mutex mutex;
  const std::string line = Json::writeString(compact, value);
  const std::lock_guard guard(mutex);
  std::cout << line << std::endl;
}

Json::Value event(const char* what) {
  Json::Value result;
  result["event"] = what;
  return result;
}

Json::Value describe(Json::Value result, const iptux::PalInfo& pal) {
  result["address"] = pal.GetKey().GetIpv4String();
  result["name"] = pal.getName();
  result["group"] = pal.getGroup();
  result["user"] = pal.getUser();
  result["host"] = pal.getHost();
  result["version"] = pal.getVersion();
  result["encoding"] = pal.getEncode();
  result["iptux"] = pal.isCompatible();
  result["online"] = pal.isOnline();
  return result;
}

std::string text_of(const iptux::MsgPara& message) {
  std::string result;
  for (const auto& chip : message.dtlist) {
    if (chip.type == iptux::MessageContentType::STRING) result += chip.data;
  }
  return result;
}

Json::Value describe(const iptux::MsgPara& message) {
  const bool error = message.stype == iptux::MessageSourceType::ERROR;  // the engine's way of saying "no receipt came"
  Json::Value result = event(error ? "failure" : "message");
  result["from"] = message.getPal()->GetKey().GetIpv4String();
  result["text"] = text_of(message);
  result["kind"] = message.btype == iptux::GROUP_BELONG_TYPE_REGULAR ? "regular" : "group";
  return result;
}

void on_event(const std::shared_ptr<const iptux::Event>& happened) {
  if (const auto* online = dynamic_cast<const iptux::NewPalOnlineEvent*>(happened.get())) {
    return print(describe(event("online"), *online->getPalInfo()));
  }
  if (const auto* update = dynamic_cast<const iptux::PalUpdateEvent*>(happened.get())) {
    return print(describe(event("updated"), *update->getPalInfo()));
  }
  if (const auto* offline = dynamic_cast<const iptux::PalOfflineEvent*>(happened.get())) {
    Json::Value result = event("offline");
    result["address"] = offline->GetPalKey().GetIpv4String();
    return print(result);
  }
  if (const auto* message = dynamic_cast<const iptux::NewMessageEvent*>(happened.get())) {
    return print(describe(message->getMsgPara()));
  }
  Json::Value other = event("other");
  other["type"] = static_cast<int>(happened->getType());
  print(other);
}

Json::Value complain(const std::string& text) {
  Json::Value result = event("error");
  result["text"] = text;
  return result;
}

class driver {
 public:
  explicit driver(const options& wanted)
      : data_(std::make_shared<iptux::ProgramData>(iptux::IptuxConfig::newFromString("{}"))) {
    data_->nickname = wanted.name;
    data_->mygroup = wanted.group;
    data_->encode = wanted.encode;
    data_->path = wanted.home;
    engine_ = std::make_unique<iptux::CoreThread>(data_);
    engine_->signalEvent.connect(&on_event);
  }

  void run() {
    engine_->start();
    print(event("started"));
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
      obey(line);
    }
    leave();
  }

 private:
  void obey(const std::string& line) {
    const std::string verb = line.substr(0, line.find(' '));
    const std::string rest = verb.size() < line.size() ? line.substr(verb.size() + 1) : "";
    if (verb == "send") return send(rest);
    if (verb == "detect") return engine_->SendDetectPacket(rest);
    if (verb == "rename") return rename(rest);
    if (verb == "people") return people();
    print(complain("unknown command " + verb));
  }

  void send(const std::string& rest) {
    const auto space = rest.find(' ');
    const std::string address = rest.substr(0, space);
    const std::string text = space == std::string::npos ? "" : rest.substr(space + 1);
    const iptux::PPalInfo pal = engine_->GetPal(address);
    if (!pal) return print(complain("nobody known at " + address));
    senders_.emplace_back([this, pal, address, text] {
      Json::Value result = event("sent");
      result["ok"] = engine_->SendMessage(pal, text);
      result["acknowledged"] = pal->rpacketn == 0;  // what the engine itself looks at
      result["to"] = address;
      result["text"] = text;
      print(result);
    });
  }

  void rename(const std::string& name) {
    data_->nickname = name;
    engine_->UpdateMyInfo();
    print(event("renamed"));
  }

  void people() {
    Json::Value result = event("people");
    result["people"] = Json::Value(Json::arrayValue);
    engine_->Lock();
    for (const auto& pal : engine_->GetPalList()) result["people"].append(describe({}, *pal));
    engine_->Unlock();
    print(result);
  }

  void leave() {
    for (auto& sender : senders_) sender.join();
    engine_->stop();  // says good-bye to everybody known
    print(event("left"));
  }

  std::shared_ptr<iptux::ProgramData> data_;
  std::unique_ptr<iptux::CoreThread> engine_;
  std::vector<std::thread> senders_;  // used by the main thread only
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const options wanted = parse(argc, argv);
    live_in(wanted.home);
    driver(wanted).run();
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    print(complain(error.what()));
    return EXIT_FAILURE;
  }
}
