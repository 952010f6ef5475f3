// The process of the command is the supervisor and nothing else. What a user can get wrong is looked for here, before
// any service runs; what goes wrong later comes back from a service as the exception cannot_serve.
#include <pigeon/main/serve_command.hpp>

#include <fmt/format.h>

#include <covey/service/supervisor.hpp>
#include <filesystem>
#include <pigeon/main/exit_codes.hpp>
#include <pigeon/office/store.hpp>
#include <pigeon/serve/people_sockets.hpp>
#include <pigeon/serve/web_server.hpp>

namespace pigeon {

namespace {

using serve::cannot_serve;
using kind = covey::supervisor_event::kind;

// `advice` is for the most likely reason.
template <class T>
T must(covey::result<T> done, const char* advice = "") {
  if (!done && done.error().code == std::errc::address_in_use) throw cannot_serve(done.error().message() + advice);
  if (!done) throw cannot_serve(done.error().message());
  if constexpr (!std::is_void_v<T>) return *std::move(done);
}

// Opens all that the services will open, and lets go of it: what is wrong is said before anything runs.
void check(serve::office_options& options) {
  must(office::store::open(options.data));
  options.data = std::filesystem::canonical(options.data).string();
  const auto web = must(
      serve::web_server::open(
          {.bind = options.http_address, .port = options.http_port, .socket_path = serve::control_socket(options.data)},
          [](const office::to_store&) {}),
      "; another program has this port: stop it, or choose another with --http");
  options.http_port = web.port();  // the same one for all lives of the service
  must(serve::try_udp(options.ipmsg_address, options.ipmsg_port),
       "; another IP Messenger runs on this machine: stop it, or choose another address with --ipmsg");
}

serve::office_queues make_queues() {
  return {.store = covey::queue<office::to_store>({.items = 4096}),
          .people = covey::queue<serve::people_inbox>({.items = 4096}),
          .web = covey::queue<serve::web_inbox>({.items = 4096})};
}

void say_where(const serve::office_options& options) {
  const bool v6 = options.http_address.find(':') != std::string::npos;
  const std::string host = v6 ? "[" + options.http_address + "]" : options.http_address;
  fmt::print("pigeon {}: the office is open\n", PIGEON_VERSION);
  if (options.http_address == "0.0.0.0" || options.http_address == "::") {
    for (const auto& network : serve::local_networks())
      fmt::print("  page           http://{}:{}/\n", network.address, options.http_port);
  } else {
    fmt::print("  page           http://{}:{}/\n", host, options.http_port);
  }
  fmt::print("  IP Messenger   UDP {}:{}\n", options.ipmsg_address, options.ipmsg_port);
  fmt::print("  data           {}\n", options.data);
  std::fflush(stdout);
}

// What no restart would mend ends the office: thrown from here it comes out of run().
void tell(const covey::supervisor_event& event) {
  if (event.what == kind::started) fmt::print("  {:<14} process {}\n", event.child, event.pid);
  if (event.what == kind::restarting) fmt::print(stderr, "pigeon: {} is started again\n", event.child);
  std::fflush(stdout);
  if (event.what != kind::ended || !event.status) return;
  if (event.status->exception()) {
    try {
      std::rethrow_exception(event.status->exception());
    } catch (const cannot_serve&) {
      throw;
    } catch (const std::exception&) {
      // The supervisor's words, below, have it.
    }
  }
  if (!event.status->success()) fmt::print(stderr, "pigeon: {} {}\n", event.child, event.text);
}

int run(const serve::office_options& options, restart_intensity intensity) {
  const serve::office_queues queues = make_queues();
  covey::supervisor office({.strategy = covey::one_for_one, .on_event = tell});
  const auto add = [&](const char* name, covey::supervised_call service) {
    office.add({.name = name, .run = std::move(service), .max_restarts = intensity.max, .within = intensity.within});
  };
  add("store", {serve::run_store, options, queues});
  add("people", {serve::run_people, options, queues});
  add("web", {serve::run_web, options, queues, office.view()});
  say_where(options);
  if (office.run() != 0) throw cannot_serve("the office stops: it " + office.reason());
  fmt::print("pigeon: the office is closed ({})\n", office.reason());
  return exit_done;
}

}  // namespace

int serve_command(serve::office_options options, restart_intensity intensity) {
  try {
    check(options);
    return run(options, intensity);
  } catch (const std::exception& e) {
    fmt::print(stderr, "pigeon: {}\n", e.what());
    return exit_refused;
  }
}

}  // namespace pigeon
