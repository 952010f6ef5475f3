// Tour 2: a pool, the main job.
#include <fmt/format.h>
#include <covey/pool.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace {

std::size_t count_words(const std::filesystem::path& file) {
  std::ifstream in(file);
  return static_cast<std::size_t>(std::distance(std::istream_iterator<std::string>(in), {}));
}

std::pair<std::filesystem::path, std::size_t> named_count(const std::filesystem::path& file) {
  return {file.filename(), count_words(file)};
}

struct image {
  std::string scene;
  std::vector<std::uint8_t> pixels;
};

image render(const std::string& scene, int width) {
  return {scene, std::vector<std::uint8_t>(static_cast<std::size_t>(width), 0xff)};
}

std::vector<std::filesystem::path> write_some_files(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i <= 5; ++i) {
    paths.push_back(folder / fmt::format("{}.txt", i));
    std::ofstream out(paths.back());
    for (int word = 0; word < i * i; ++word) out << "word ";
  }
  return paths;
}

}  // namespace

int main() {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("covey_tour_02.{}", ::getpid());
  const auto paths = write_some_files(folder);
  const std::string scene = "a heron";

  covey::process_pool pool;                                              // one worker per core
  std::vector<std::size_t> words = pool.map(count_words, paths);          // input order, chunked by itself
  for (const std::size_t n : words) fmt::print("{} ", n);
  fmt::print("words\n");

  std::size_t total = 0;
  for (auto&& [path, n] : pool.imap_unordered(named_count, paths)) total += n;  // as they finish
  fmt::print("{} in all\n", total);

  for (auto&& outcome : pool.map_outcomes(count_words, paths))
    total -= outcome.value();  // never throws: a value or an error
  fmt::print("{} left\n", total);

  covey::future<image> f = pool.submit(render, scene, 42);
  image img = f.get();                                                    // the value, or the task's own exception
  fmt::print("{}: {} pixels\n", img.scene, img.pixels.size());
  std::filesystem::remove_all(folder);
}
