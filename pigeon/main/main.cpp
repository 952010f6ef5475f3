// pigeon: the office, and the commands that talk to a running one. docs/pigeon.md is the manual.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <pigeon/main/commands.hpp>
#include <pigeon/main/exit_codes.hpp>
#include <pigeon/main/serve_command.hpp>

namespace {

using namespace pigeon;

constexpr auto exit_codes =
    "Exit codes:\n"
    "  0  done\n"
    "  1  the office said no; or serve could not start, or gave up\n"
    "  2  the command line makes no sense\n"
    "  3  no office is running on this data folder\n"
    "  4  the office did not answer in time\n";

std::string default_data_folder() {
  if (const char* const data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/')
    return std::string(data) + "/pigeon";
  const char* const home = std::getenv("HOME");
  return std::string(home != nullptr && *home != '\0' ? home : ".") + "/.local/share/pigeon";
}

// What all commands but serve share.
struct asking {
  std::string data = default_data_folder();
  bool json = false;

  void add_to(CLI::App& command) {
    command.add_option("--data", data, "The data folder of the office")->capture_default_str();
    command.add_flag("--json", json, "Print JSON, for programs");
  }
  [[nodiscard]] office_client office() const { return office_client(data); }
  [[nodiscard]] output how() const { return {.json = json, .colour = !json && wants_colour()}; }
};

CLI::App* add_command(CLI::App& app, const char* name, const char* what, const std::string& examples) {
  CLI::App* const command = app.add_subcommand(name, what);
  command->footer("Examples:\n" + examples + "\n" + exit_codes);
  return command;
}

void add_serve(CLI::App& app, int& code) {
  static serve::office_options options;
  static restart_intensity intensity;
  options.data = default_data_folder();
  CLI::App* const serve = add_command(app, "serve", "Run an office until Ctrl-C",
                                      "  pigeon serve\n"
                                      "  pigeon serve --name Ana --group Design --data ~/office\n"
                                      "  pigeon serve --bind 0.0.0.0 --http 8000\n");
  serve->add_option("--name", options.name, "Own name (default: as last time; at first the user's)");
  serve->add_option("--group", options.group, "Own group (default: as last time; at first none)");
  serve->add_option("--data", options.data, "Folder for all that is kept; made if missing")->capture_default_str();
  serve->add_option("--http", options.http_port, "Port of the page; 0: any free one")->capture_default_str();
  serve->add_option("--bind", options.http_address, "Address of the page; 0.0.0.0: all of this host")
      ->capture_default_str();
  serve->add_option("--ipmsg", options.ipmsg_address, "Address for IP Messenger; 0.0.0.0: all of this host")
      ->capture_default_str();
  serve->add_option("--ipmsg-port", options.ipmsg_port, "UDP port of IP Messenger, here and at the others")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  serve
      ->add_option("--max-restarts", intensity.max,
                   "More restarts of one service than this within 10 s stop the office")
      ->capture_default_str();
  serve->callback([&code] { code = serve_command(options, intensity); });
}

void add_people(CLI::App& app, int& code) {
  static asking asked;
  CLI::App* const people = add_command(app, "people", "Show who is here, and who was",
                                       "  pigeon people\n"
                                       "  pigeon people --json | jq -r '.[] | select(.here) | .name'\n");
  asked.add_to(*people);
  people->callback([&code] { code = people_command(asked.office(), asked.how()); });
}

void add_send(CLI::App& app, int& code) {
  static asking asked;
  static std::string who;
  static std::string text;
  CLI::App* const send = add_command(app, "send", "Send a message; it is kept and sent until it arrives",
                                     "  pigeon send Ana 'lunch at noon?'\n"
                                     "  pigeon send ana@desk-4 -- '-1 is a number'\n");
  send->add_option("WHO", who, "A name that only one person has, or a key as `pigeon people` shows it")->required();
  send->add_option("TEXT", text, "What to say")->required();
  asked.add_to(*send);
  send->callback([&code] { code = send_command(asked.office(), who, text, asked.how()); });
}

void add_history(CLI::App& app, int& code) {
  static asking asked;
  static std::string who;
  static std::uint32_t limit = 50;
  CLI::App* const history = add_command(app, "history", "Show what was said with somebody, oldest first",
                                        "  pigeon history Ana\n"
                                        "  pigeon history ana@desk-4 --limit 500 --json\n");
  history->add_option("WHO", who, "A name that only one person has, or a key as `pigeon people` shows it")->required();
  history->add_option("--limit", limit, "How many messages, at most 500")
      ->check(CLI::Range(1, 500))
      ->capture_default_str();
  asked.add_to(*history);
  history->callback([&code] { code = history_command(asked.office(), who, limit, asked.how()); });
}

void add_status(CLI::App& app, int& code) {
  static asking asked;
  CLI::App* const status = add_command(app, "status", "Show what runs: services, queues, network",
                                       "  pigeon status\n"
                                       "  pigeon status --json | jq '.services[] | {name, pid, restarts}'\n");
  asked.add_to(*status);
  status->callback([&code] { code = status_command(asked.office(), asked.how()); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("pigeon: an office messenger that speaks IP Messenger, with a page and a command line");
  app.footer(std::string("Examples:\n"
                         "  pigeon serve --name Ana        then open the address that it prints\n"
                         "  pigeon people\n"
                         "  pigeon send Bob 'lunch at noon?'\n\n"
                         "pigeon COMMAND --help tells more about each.\n\n") +
             exit_codes);
  app.set_version_flag("--version", "pigeon " PIGEON_VERSION);
  app.require_subcommand(1);
  int code = exit_done;
  add_serve(app, code);
  add_people(app, code);
  add_send(app, code);
  add_history(app, code);
  add_status(app, code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    fmt::print(stderr, "pigeon: {} (see `pigeon --help`)\n", e.what());
    return exit_usage;
  } catch (const request_error& e) {
    fmt::print(stderr, "pigeon: {}\n", e.what());
    return e.code();
  } catch (const std::exception& e) {
    fmt::print(stderr, "pigeon: {}\n", e.what());
    return exit_refused;
  }
  return code;
}
