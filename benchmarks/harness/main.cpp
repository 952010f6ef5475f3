// The main of every benchmark program. One run measures one subject in one case; benchmarks/run does the rest.
#include <unistd.h>
#include <benchmarks/harness/registry.hpp>
#include <benchmarks/harness/workers.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

namespace {

constexpr const char* usage =
    "usage: %s --list                                             names each case and subject\n"
    "       %s --case CASE --subject NAME [--window MS] [--pin]   measures, and prints names and numbers\n";

int fail(const char* program, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", program, why.c_str());
  return 2;
}

int list() {
  for (const bench::entry& e : bench::entries()) std::printf("%s %s\n", e.case_name.c_str(), e.subject.c_str());
  return 0;
}

int measure(const char* program, const std::string& case_name, const std::string& subject, const bench::settings& how) {
  for (const bench::entry& e : bench::entries()) {
    if (e.case_name != case_name || e.subject != subject) continue;
    for (const auto& [name, value] : e.measure(how)) std::printf("%s %.9g\n", name.c_str(), value);
    return 0;
  }
  return fail(program, "there is no '" + case_name + "' of '" + subject + "'; see --list");
}

}  // namespace

int main(int argc, char** argv) {
  std::string case_name;
  std::string subject;
  bench::settings how;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--list") return list();
    if (option == "--help" || option == "-h") return std::printf(usage, argv[0], argv[0]) < 0 ? 1 : 0;
    if (option == "--pin") {
      bench::pin_workers();
      continue;
    }
    if (i + 1 == argc) return fail(argv[0], std::string(option) + " needs a value; see --help");
    const char* const value = argv[++i];
    if (option == "--case")
      case_name = value;
    else if (option == "--subject")
      subject = value;
    else if (option == "--window")
      how.window = std::chrono::nanoseconds(static_cast<std::int64_t>(std::strtod(value, nullptr) * 1e6));
    else
      return fail(argv[0], "there is no option " + std::string(option) + "; see --help");
  }
  int status = 1;
  try {
    status = measure(argv[0], case_name, subject, how);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s of %s: %s\n", argv[0], case_name.c_str(), subject.c_str(), e.what());
  }
  std::fflush(nullptr);
  // Threads of a subject may still wait for messages.
  ::_exit(status);
}
