// The program behind tools/prove.
#include <unistd.h>
#include <covey/testing/soak.hpp>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

using covey::testing::soak_options;
using covey::testing::soak_result;

constexpr const char* help =
    R"(tools/prove: kills and stops processes at random while they use one queue and one mutex, and counts what is wrong

  tools/prove [--seconds N | --kills N] [--seed N] [--json]

  --seconds N  kill for N seconds
  --kills N    kill N processes (5000 if neither is given)
  --seed N     whom and when (1); the processes' own timing stays what it is
  --json       one JSON object instead of one line of words

Messages of 8 bytes to 100 KiB go from three producers to three consumers, two more processes change two counters under
a mutex. Any of them is killed at any time, and replaced; some are stopped for a while. Then all is quiet, and fresh
processes must be as fast at the same queue as those before the first kill (at least half of it). `duplicated` are
messages that came twice without being in the hand of a killed consumer; those that were are `redelivered`.

Exit code: 0 everything held, 1 something did not, 2 wrong arguments.

Examples:
  tools/prove --seconds 60
  tools/prove --kills 1000000 --json
)";

[[noreturn]] void refuse(std::string_view what) {
  std::fprintf(stderr, "prove: %.*s; see tools/prove --help\n", static_cast<int>(what.size()), what.data());
  std::exit(2);
}

std::uint64_t number(const char* text) {
  std::uint64_t n = 0;
  if (text == nullptr) refuse("a number is missing");
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), n);
  if (error != std::errc() || *end != '\0') refuse(std::string("not a number: ") + text);
  return n;
}

void print_words(const soak_result& r) {
  std::printf("kills=%lu committed=%lu lost=%lu duplicated=%lu stuck=%lu leaked_bytes=%ld leaked_fds=%ld ", r.kills,
              r.committed, r.lost, r.duplicated, r.stuck, r.leaked_bytes, r.leaked_fds);
  std::printf(
      "redelivered=%lu damaged=%lu failed=%lu stops=%lu locks=%lu repaired=%lu torn=%lu rate_before=%.0f "
      "rate_after=%.0f\n",
      r.redelivered, r.damaged, r.failed, r.stops, r.locks, r.repaired, r.torn, r.rate_before, r.rate_after);
}

void print_json(const soak_result& r) {
  std::printf(
      R"({"kills":%lu,"committed":%lu,"lost":%lu,"duplicated":%lu,"stuck":%lu,"leaked_bytes":%ld,"leaked_fds":%ld,)",
      r.kills, r.committed, r.lost, r.duplicated, r.stuck, r.leaked_bytes, r.leaked_fds);
  std::printf(R"("redelivered":%lu,"damaged":%lu,"failed":%lu,"stops":%lu,"locks":%lu,"repaired":%lu,"torn":%lu,)",
              r.redelivered, r.damaged, r.failed, r.stops, r.locks, r.repaired, r.torn);
  std::printf(R"("rate_before":%.0f,"rate_after":%.0f,"held":%s})"
              "\n",
              r.rate_before, r.rate_after, r.held() ? "true" : "false");
}

// On a terminal one moving line; elsewhere a line a minute.
void show_progress(const soak_result& r) {
  static auto told_at = std::chrono::steady_clock::now();
  const bool moving = ::isatty(STDERR_FILENO) == 1;
  const auto now = std::chrono::steady_clock::now();
  if (!moving && now - told_at < std::chrono::minutes(1)) return;
  told_at = now;
  std::fprintf(stderr, "%sprove: %lu kills, %lu messages checked, %lu lost%s", moving ? "\r" : "", r.kills, r.committed,
               r.lost, moving ? " " : "\n");
}

}  // namespace

int main(int argc, char** argv) {
  soak_options options;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--help" || a == "-h") {
      std::fputs(help, stdout);
      return 0;
    }
    if (a == "--json") {
      json = true;
    } else if (a == "--seconds") {
      options.time = std::chrono::seconds(number(argv[++i]));
      options.kills = 0;
    } else if (a == "--kills") {
      options.kills = number(argv[++i]);
      options.time = {};
    } else if (a == "--seed") {
      options.seed = number(argv[++i]);
    } else {
      refuse(std::string("there is no option ") + argv[i]);
    }
  }
  if (options.kills == 0 && options.time.count() == 0) refuse("nothing to do: --kills 0");
  const soak_result result = covey::testing::run_soak(options, show_progress);
  if (::isatty(STDERR_FILENO) == 1) std::fputc('\n', stderr);
  json ? print_json(result) : print_words(result);
  if (result.held()) return 0;
  std::fflush(stdout);
  std::fprintf(stderr, "prove: this did not hold (seed %lu)\n", options.seed);
  return 1;
}
