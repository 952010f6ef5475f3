// One thread does everything: it takes what waits, handles it in one transaction, says what came of it, and with the
// next get acknowledges the whole batch. Killed anywhere before, it leaves the batch to its next life, for which the
// hub is made.
#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <pigeon/office/hub.hpp>
#include <pigeon/office/store.hpp>
#include <pigeon/serve/services.hpp>

namespace pigeon::serve {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t batch_max = 256;

std::string user_name() {
  const passwd* const user = ::getpwuid(::geteuid());
  return user != nullptr && user->pw_name != nullptr ? user->pw_name : "pigeon";
}

// The name that was given, else the one that is stored, else the user's.
covey::result<void> introduce(office::hub& mind, office::store& kept, const office_options& options) {
  COVEY_TRY_VOID(mind.introduce({options.name, options.group}));
  COVEY_TRY(const auto name, kept.setting("name"));
  if (name) return {};
  return kept.put_setting("name", user_name());
}

// Complains about a failing disk, but not a thousand times a second.
class complaints {
 public:
  void about(const covey::error& failed) {
    const auto now = std::chrono::steady_clock::now();
    if (now < quiet_until_) return;
    quiet_until_ = now + 10s;
    std::fprintf(stderr, "pigeon: store could not keep a message: %s\n", failed.message().c_str());
  }

 private:
  std::chrono::steady_clock::time_point quiet_until_{};
};

class store_service {
 public:
  store_service(std::stop_token stop, const office_options& options, const office_queues& queues)
      : stop_(std::move(stop)), queues_(queues), kept_(must(office::store::open(options.data))), mind_(kept_) {
    must(introduce(mind_, kept_, options));
    office::outbox out;
    must(mind_.started(out));
    say(out);
  }

  void run() {
    while (!stop_.stop_requested()) handle(queues_.store.get_many_for(batch_max, 1h, stop_));
    // The others have ended by now: what they said last is kept too.
    while (handle(queues_.store.get_many_for(batch_max, 0s))) {
    }
  }

 private:
  template <class T>
  static T must(covey::result<T> done) {
    if (!done) throw cannot_serve(done.error().message());
    if constexpr (!std::is_void_v<T>) return *std::move(done);
  }

  bool handle(const std::vector<office::to_store>& batch) {
    if (batch.empty()) return false;
    office::outbox out;
    if (const auto done = mind_.handle_all(batch, out); !done) complaints_.about(done.error());
    say(out);
    return true;
  }

  // Waits while a queue is full: its reader never waits for us, so it will have room, or its next life will.
  void say(const office::outbox& out) {
    for (const auto& each : out.people) put(queues_.people, people_inbox(each));
    for (const auto& each : out.web) put(queues_.web, web_inbox(each));
  }

  template <class T>
  void put(const covey::queue<T>& queue, const T& what) {
    while (!queue.put_for(what, 1h, stop_) && !stop_.stop_requested()) {
    }
  }

  std::stop_token stop_;
  office_queues queues_;
  office::store kept_;
  office::hub mind_;
  complaints complaints_;
};

}  // namespace

void run_store(std::stop_token stop, office_options options, office_queues queues) {
  store_service(std::move(stop), options, queues).run();
}

}  // namespace pigeon::serve
