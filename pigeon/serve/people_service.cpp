// Two threads: one polls the sockets and does everything; the other reads the queue into an inbox and rings an eventfd.
// The reader waits for nothing but the queue, and the first one never waits for store (what finds its queue full is
// kept or dropped, see put()), so store is never held up by us while we live.
#include <poll.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <pigeon/serve/people_sockets.hpp>
#include <pigeon/serve/services.hpp>
#include <thread>

namespace pigeon::serve {

namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

constexpr auto retry_store = 20ms;  // when its queue was full
constexpr auto report_interval = 200ms;
constexpr auto look_interval = 15s;  // at the interfaces
constexpr auto announce_interval = 15min;  // for those who missed us; and up to a third more
constexpr int datagrams_per_turn = 256;

moment now() {
  return {steady::now(),
          std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

std::string user_name() {
  const passwd* const user = ::getpwuid(::geteuid());
  return user != nullptr && user->pw_name != nullptr ? user->pw_name : "pigeon";
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

// What the reader of the queue hands over.
class inbox {
 public:
  void put(people_inbox what) {
    const std::scoped_lock lock(mutex_);
    waiting_.push_back(std::move(what));
    ring();
  }
  std::vector<people_inbox> take() {
    std::uint64_t rings = 0;
    (void)!::read(bell_.get(), &rings, sizeof rings);
    const std::scoped_lock lock(mutex_);
    return std::exchange(waiting_, {});
  }
  void ring() const {
    const std::uint64_t one = 1;
    (void)!::write(bell_.get(), &one, sizeof one);
  }
  [[nodiscard]] int fd() const { return bell_.get(); }

 private:
  const covey::unique_fd bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;
  std::vector<people_inbox> waiting_;  // guarded by mutex_
};

// What store's queue had no room for and must not be lost: outcomes, of which there are no more than messages that we
// have in hand, and the last word about each person.
class backlog {
 public:
  void keep(office::to_store what) {
    auto* seen = std::get_if<office::person_seen>(&what);
    if (seen != nullptr) people_[seen->who.key] = std::move(*seen);
    if (seen == nullptr) others_.push_back(std::move(what));
  }
  /// Puts what can be put.
  void flush(const covey::queue<office::to_store>& store) {
    while (!people_.empty() && store.try_put(people_.begin()->second)) people_.erase(people_.begin());
    while (!others_.empty() && store.try_put(others_.front())) others_.pop_front();
  }
  [[nodiscard]] bool empty() const { return people_.empty() && others_.empty(); }

 private:
  std::map<office::person_key, office::person_seen> people_;
  std::deque<office::to_store> others_;
};

class people_service {
 public:
  people_service(std::stop_token stop, const office_options& options, const office_queues& queues)
      : stop_(std::move(stop)),
        queues_(queues),
        sockets_(open(options)),
        desk_({.user = user_name(),
               .host = host_name(),
               .program = "pigeon " PIGEON_VERSION,
               .port = options.ipmsg_port}) {}

  void run() {
    const std::stop_callback on_stop(stop_, [this] { inbox_.ring(); });
    const std::jthread reader([this](const std::stop_token& done) {
      while (!done.stop_requested())
        if (auto said = queues_.people.get(done)) inbox_.put(*std::move(said));
    });
    // After the reader began: store may be waiting for room in our queue before it makes some in its own.
    while (!queues_.store.put_for(office::people_started{}, 1h, stop_)) {
      if (stop_.stop_requested()) return;
    }
    while (!stop_.stop_requested()) turn();
    take_orders();
    desk_outbox last;
    desk_.leave(now(), last);
    deal_with(last);
  }

 private:
  static people_sockets open(const office_options& options) {
    auto opened = people_sockets::open(options.ipmsg_address, options.ipmsg_port);
    if (!opened) throw cannot_serve(opened.error().message());
    return *std::move(opened);
  }

  void turn() {
    std::vector<pollfd> fds{{inbox_.fd(), POLLIN, 0}};
    // Before we know who is known, datagrams wait in the kernel.
    if (desk_.ready())
      for (const auto& socket : sockets_.all()) fds.push_back({socket.get(), POLLIN, 0});
    ::poll(fds.data(), fds.size(), static_cast<int>(pause().count()));
    take_orders();
    for (std::size_t i = 1; i < fds.size(); ++i)
      if (fds[i].revents != 0) read(fds[i].fd);
    desk_outbox out;
    desk_.due(now(), out);
    housekeeping(out);
    deal_with(out);
    backlog_.flush(queues_.store);
    tell_counts();
  }

  [[nodiscard]] std::chrono::milliseconds pause() const {
    if (!desk_.ready()) return 1h;
    auto until = std::min(look_at_, announce_at_);
    if (const auto due = desk_.next_due()) until = std::min(until, *due);
    if (report_ != told_ || report_asked_) until = std::min(until, report_at_);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady::now());
    return std::clamp<std::chrono::milliseconds>(left, 0ms, backlog_.empty() ? 1h : retry_store);
  }

  void take_orders() {
    desk_outbox out;
    for (const people_inbox& what : inbox_.take()) {
      if (const auto* said = std::get_if<office::to_people>(&what)) desk_.take(*said, now(), out);
      report_asked_ = report_asked_ || std::holds_alternative<report_wanted>(what);
    }
    deal_with(out);
  }

  void read(int socket) {
    for (int n = 0; n < datagrams_per_turn; ++n) {
      endpoint from;
      const std::ptrdiff_t size = people_sockets::receive(socket, buffer_, from);
      if (size < 0) return;
      const bool own = sockets_.is_own(from.address);
      ++report_.received;
      desk_outbox out;
      if (!desk_.hear({buffer_.data(), static_cast<std::size_t>(size)}, from, own, now(), out)) ++report_.malformed;
      deal_with(out);
    }
  }

  void housekeeping(desk_outbox& out) {
    const auto present = steady::now();
    if (!desk_.ready() || present < std::min(look_at_, announce_at_)) return;
    if (present >= look_at_) {
      look_at_ = present + look_interval;
      if (sockets_.look_around()) announce_at_ = present;
    }
    if (present >= announce_at_) {
      if (announced_) desk_.announce(now(), out);  // the first time the desk did so itself
      announced_ = true;
      const auto jitter = present.time_since_epoch() % (announce_interval / 3);
      announce_at_ = present + announce_interval + jitter;
    }
  }

  void deal_with(desk_outbox& out) {
    for (const letter& each : out.letters) sockets_.send(each);
    for (auto& each : out.news) put(std::move(each));
    out = {};
  }

  // A message that came without a receipt may be dropped: its sender tries again.
  void put(office::to_store what) {
    if (backlog_.empty() && queues_.store.try_put(what)) return;
    if (!std::holds_alternative<office::message_in>(what)) return backlog_.keep(std::move(what));
    if (!queues_.store.try_put(what)) ++report_.refused;
  }

  void tell_counts() {
    report_.sent = sockets_.sent();
    report_.here = static_cast<std::uint32_t>(desk_.here_count());
    report_.in_hand = static_cast<std::uint32_t>(desk_.in_hand());
    const auto present = steady::now();
    if ((report_ == told_ && !report_asked_) || present < report_at_) return;
    report_.addresses = sockets_.addresses();
    report_at_ = present + report_interval;
    report_asked_ = false;
    told_ = report_;
    (void)queues_.web.try_put(report_);
  }

  const std::stop_token stop_;
  const office_queues queues_;
  people_sockets sockets_;
  people_desk desk_;
  inbox inbox_;
  backlog backlog_;
  network_report report_;
  network_report told_;
  bool report_asked_ = true;
  bool announced_ = false;
  steady::time_point report_at_{};
  steady::time_point look_at_{};
  steady::time_point announce_at_{};
  std::array<char, 1 << 16> buffer_{};
};

}  // namespace

void run_people(std::stop_token stop, office_options options, office_queues queues) {
  people_service(std::move(stop), options, queues).run();
}

}  // namespace pigeon::serve
