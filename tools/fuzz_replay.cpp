// A plain main for fuzzers, so that a fuzzer is also an ordinary test: `PROGRAM FOLDER [SEED]` replays every file of a
// corpus, then 5,000 inputs that are made from them at random. What is not survived is the file that was named last, or
// is met again with the seed that was.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int mutated_inputs = 5'000;
constexpr std::size_t longest = 4'096;  // as libFuzzer's own, where none is given

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

// By their names, so that a seed means the same wherever it is used.
std::vector<std::filesystem::path> files_in(const char* folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> replay(const char* folder) {
  std::vector<std::string> inputs;
  for (const auto& path : files_in(folder)) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    std::fprintf(stderr, "%s\n", path.c_str());
    run(inputs.back());
  }
  return inputs;
}

class mutator {
 public:
  mutator(const std::vector<std::string>& corpus, std::uint64_t seed) : corpus_(corpus), random_(seed) {}

  std::string next() {
    std::string input = any_input();
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(input);
    input.resize(std::min(input.size(), longest));
    return input;
  }

 private:
  std::size_t below(std::size_t end) { return random_() % end; }
  const std::string& any_input() { return corpus_[below(corpus_.size())]; }

  void change(std::string& input) {
    const std::size_t at = below(input.size() + 1);
    const std::size_t left = input.size() - at;
    switch (below(left > 0 ? 6 : 2)) {
      case 0: input.insert(at, 1 + below(8), static_cast<char>(random_())); break;
      case 1: {
        const std::string& other = any_input();
        input.replace(at, left, other, below(other.size() + 1));
        break;
      }
      case 2: input[at] = static_cast<char>(input[at] ^ (1 << below(8))); break;
      case 3: input[at] = static_cast<char>(random_()); break;
      case 4: input.erase(at, 1 + below(left)); break;
      // Bounds are where mistakes are: 0, 0xff… of one to eight bytes.
      default:
        std::fill_n(input.begin() + static_cast<std::ptrdiff_t>(at), std::min(left, std::size_t{1} << below(4)),
                    below(2) == 0 ? '\0' : '\xff');
    }
  }

  const std::vector<std::string>& corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [SEED]\n", argv[0]);
    return 2;
  }
  const std::vector<std::string> corpus = replay(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: there is no input\n", argv[1]);
    return 1;
  }
  std::printf("replayed %zu inputs\n", corpus.size());

  const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device()();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  mutator mutate(corpus, seed);
  for (int i = 0; i < mutated_inputs; ++i) run(mutate.next());
  std::printf("tried %d mutated inputs\n", mutated_inputs);
}
