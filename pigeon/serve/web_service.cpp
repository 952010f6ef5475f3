// Two threads: one runs the web server's loop, the other reads the queue and hands over to the loop. The reader never
// waits for anything but the queue, so store is never held up by us while we live.
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <pigeon/serve/services.hpp>
#include <pigeon/serve/web_server.hpp>
#include <thread>

namespace pigeon::serve {

namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// How long a browser's request may hold up the loop when store is behind.
constexpr auto patience = 200ms;

std::int64_t milliseconds_since_1970(std::chrono::system_clock::time_point when) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
}

json as_json(const covey::child_state& service) {
  const auto age = std::chrono::system_clock::now() - service.started;
  return {{"name", service.name},
          {"pid", service.pid},
          {"restarts", service.restarts},
          {"phase", covey::to_string(service.phase)},
          {"last_end", service.last_end},
          {"started", milliseconds_since_1970(service.started)},
          {"uptime_s", std::chrono::duration<double>(age).count()}};
}

template <class T>
json as_json(const char* reader, const covey::queue<T>& queue) {
  return {{"to", reader}, {"waiting", queue.size_approx()}, {"capacity", queue.capacity()}};
}

json as_json(const network_report& report) {
  return {{"received", report.received},  {"malformed", report.malformed}, {"refused", report.refused},
          {"sent", report.sent},          {"here", report.here},           {"in_hand", report.in_hand},
          {"addresses", report.addresses}};
}

std::string page_address(const std::string& address, std::uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  return "http://" + (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port) + "/";
}

const std::string* ref_of(const office::to_store& wanted) {
  if (const auto* send = std::get_if<office::send_text>(&wanted)) return &send->ref;
  if (const auto* page = std::get_if<office::history_wanted>(&wanted)) return &page->ref;
  return nullptr;
}

class web_service {
 public:
  web_service(office_options options, const office_queues& queues, covey::supervisor_view services)
      : options_(std::move(options)), queues_(queues), services_(std::move(services)), server_(open()) {}

  void run(const std::stop_token& stop) {
    const std::stop_callback on_stop(stop, [this] { server_.stop(); });
    const std::jthread reader([this](const std::stop_token& done) { read(done); });
    // After the reader began: store may be waiting for room in our queue before it makes some in its own.
    while (!queues_.store.put_for(office::web_started{}, 1h, stop)) {
      if (stop.stop_requested()) return;
    }
    (void)queues_.people.try_put(report_wanted{});
    server_.run();
  }

 private:
  web_server open() {
    auto opened = web_server::open({.bind = options_.http_address,
                                    .port = options_.http_port,
                                    .socket_path = control_socket(options_.data),
                                    .status = [this] { return status(); }},
                                   [this](const office::to_store& wanted) { pass_on(wanted); });
    if (!opened) throw cannot_serve(opened.error().message());
    return *std::move(opened);
  }

  // On the loop's thread.
  void pass_on(const office::to_store& wanted) {
    if (queues_.store.put_for(wanted, patience)) return;
    const std::string* const ref = ref_of(wanted);
    server_.deliver(office::request_failed{ref == nullptr ? "" : *ref, "The office is busy; try again in a moment."});
  }

  json status() {
    json services = json::array();
    for (const auto& each : services_.children()) services.push_back(as_json(each));
    const std::scoped_lock lock(mutex_);
    return {
        {"type", "status"},
        {"version", PIGEON_VERSION},
        {"data", options_.data},
        {"page", page_address(options_.http_address, server_.port())},
        {"services", services},
        {"queues", {as_json("store", queues_.store), as_json("people", queues_.people), as_json("web", queues_.web)}},
        {"network", as_json(report_)}};
  }

  void read(const std::stop_token& done) {
    while (!done.stop_requested()) {
      auto news = queues_.web.get(done);
      if (!news) continue;
      if (auto* of_store = std::get_if<office::to_web>(&*news)) server_.deliver(std::move(*of_store));
      if (auto* report = std::get_if<network_report>(&*news)) {
        const std::scoped_lock lock(mutex_);
        report_ = std::move(*report);
      }
    }
  }

  const office_options options_;
  const office_queues queues_;
  const covey::supervisor_view services_;
  std::mutex mutex_;
  network_report report_;  // guarded by mutex_
  web_server server_;      // last: its loop uses the rest
};

}  // namespace

void run_web(std::stop_token stop, office_options options, office_queues queues, covey::supervisor_view services) {
  web_service(std::move(options), queues, std::move(services)).run(stop);
}

}  // namespace pigeon::serve
