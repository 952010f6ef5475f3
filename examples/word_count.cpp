// word_count DIR: counts the words of every file below a folder, on all processors. A worker that crashes on a file
// costs nothing but that file's batch, which is tried again.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <covey/pool.hpp>

#include <filesystem>
#include <fstream>

namespace {

namespace fs = std::filesystem;

struct tally {
  std::uint64_t files = 0, bytes = 0, words = 0, unreadable = 0;
  tally& operator+=(const tally& t) {
    files += t.files, bytes += t.bytes, words += t.words, unreadable += t.unreadable;
    return *this;
  }
  bool operator==(const tally&) const = default;
};

tally count_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return {.unreadable = 1};
  tally t{.files = 1};
  bool inside = false;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer), in.gcount() > 0) {
    t.bytes += static_cast<std::uint64_t>(in.gcount());
    for (std::streamsize i = 0; i < in.gcount(); ++i) {
      const bool space = buffer[i] == ' ' || (buffer[i] >= '\t' && buffer[i] <= '\r');
      if (inside && space) ++t.words;
      inside = !space;
    }
  }
  if (inside) ++t.words;
  return t;
}

tally count_files(const std::vector<fs::path>& files) {
  tally all;
  for (const fs::path& f : files) all += count_file(f);
  return all;
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied))
    if (entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path());
  return files;
}

tally count_in_pool(const std::vector<fs::path>& files, std::size_t workers, bool kill_one) {
  covey::process_pool pool{{.workers = workers, .name = "word_count"}};
  std::vector<covey::future<tally>> batches;
  constexpr std::size_t batch = 32;
  for (std::size_t i = 0; i < files.size(); i += batch) {
    const auto end = files.begin() + static_cast<std::ptrdiff_t>(std::min(i + batch, files.size()));
    const std::vector<fs::path> some(files.begin() + static_cast<std::ptrdiff_t>(i), end);
    batches.push_back(pool.submit(covey::task_options{.retries = 2}, count_files, some));
  }
  tally all;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    if (kill_one && i == batches.size() / 2) ::kill(pool.worker_pids().front(), SIGKILL);
    all += batches[i].get();
    if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r{:3}% ", 100 * (i + 1) / batches.size());
  }
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r     \r");
  if (kill_one) fmt::print("workers replaced: {}\n", pool.workers_replaced());
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Counts the words of every file below a folder, in a process pool.\n\nExample: word_count /usr/share/doc"};
  fs::path folder;
  std::size_t workers = 0;
  bool check = false;
  bool kill_one = false;
  app.add_option("DIR", folder, "the folder")->required()->check(CLI::ExistingDirectory);
  app.add_option("--workers", workers, "worker processes (default: one for each processor)");
  app.add_flag("--check", check, "count again in one process and compare");
  app.add_flag("--kill-one", kill_one, "kill a worker in the middle, to see that it does not matter");
  CLI11_PARSE(app, argc, argv);

  const auto files = files_below(folder);
  const tally all = count_in_pool(files, workers, kill_one);
  fmt::print("{} words, {} bytes, {} files, {} unreadable\n", all.words, all.bytes, all.files, all.unreadable);
  if (!check) return 0;
  const bool same = count_files(files) == all;
  fmt::print("{}\n", same ? "the same as in one process" : "NOT the same as in one process");
  return same ? 0 : 1;
}
