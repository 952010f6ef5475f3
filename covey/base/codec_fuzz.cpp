// Any bytes are refused with bad_message or become a value that survives encode → decode, and memory stays within a
// small multiple of the input. The first byte chooses what is expected.
#include <covey/base/check.hpp>
#include <covey/base/exceptions.hpp>

#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <new>
#include <set>
#include <unordered_map>

namespace {

std::size_t allocated = 0;  // since the input began

}  // namespace

// The thread sanitizer's own operators cannot be replaced: nothing is counted under it.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COVEY_COUNTS_NOTHING
#endif
#endif

#ifndef COVEY_COUNTS_NOTHING
// Not inlined: GCC would see malloc behind new and free behind delete, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  allocated += bytes;
  if (void* const p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace {

using covey::detail::decode;
using covey::detail::decoder;
using covey::detail::encode;
using covey::detail::encoder;

enum class colour : std::uint8_t { red, green };

struct nothing {
  auto operator<=>(const nothing&) const = default;
};

struct tree {
  std::uint8_t value = 0;
  std::vector<tree> kids;
};

struct rich {
  bool flag = false;
  colour paint = colour::red;
  double number = 0;
  std::string text;
  std::u16string wide;
  std::vector<int> numbers;
  std::vector<bool> bits;
  std::vector<nothing> nothings;
  std::list<std::monostate> states;
  std::vector<std::vector<std::string>> table;
  std::map<std::string, std::set<int>> index;
  std::map<int, std::optional<std::optional<bool>>> options;
  std::multimap<short, char> many;
  std::variant<std::monostate, int, std::string, std::vector<tree>> choice;
  std::array<std::uint16_t, 3> dims{};
  std::array<int, 0> none{};
  std::tuple<char, std::pair<long, float>, std::tuple<>> mixed{};
  std::chrono::nanoseconds time{};
  std::chrono::system_clock::time_point at;
  std::filesystem::path where;
  std::error_code code;
  std::deque<tree> forest;
};

constexpr std::size_t multiple_max =
    256;  // a list node or a tree for a byte or nine, and vectors that grow by doubling

template <class T>
void check(std::span<const std::byte> bytes) {
  decoder in{bytes};
  try {
    const T value = decode<T>(in);
    COVEY_CHECK(allocated <= 4096 + multiple_max * bytes.size(), "decoding allocates a small multiple of the input");
    encoder once;
    encode(once, value);
    decoder again{once.bytes};
    const T same = decode<T>(again);
    covey::detail::expect_end(again);
    encoder twice;
    encode(twice, same);
    // By its bytes, because a NaN is not equal to itself; but an unordered container may come back in another order.
    if constexpr (requires { value.bucket_count(); })
      COVEY_CHECK(value == same, "what is accepted survives encode and decode");
    else
      COVEY_CHECK(once.bytes == twice.bytes, "what is accepted survives encode and decode");
  } catch (const covey::bad_message&) {
    COVEY_CHECK(allocated <= 4096 + multiple_max * bytes.size(), "refusing allocates a small multiple of the input");
  }
}

void check_exception(std::span<const std::byte> bytes) {
  decoder in{bytes};
  const std::exception_ptr e = covey::detail::decode_exception(in);
  COVEY_CHECK(e != nullptr, "there is always an exception");
  encoder once;
  covey::detail::encode_exception(once, e);
  decoder again{once.bytes};
  const std::exception_ptr same = covey::detail::decode_exception(again);
  covey::detail::expect_end(again);
  encoder twice;
  covey::detail::encode_exception(twice, same);
  COVEY_CHECK(once.bytes == twice.bytes, "an exception survives encode and decode");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  allocated = 0;
  switch (data[0] % 5) {
    case 0: check<rich>(bytes); break;
    case 1: check<tree>(bytes); break;
    case 2: check<std::vector<std::variant<nothing, std::string, std::vector<std::tuple<>>>>>(bytes); break;
    case 4: check<std::unordered_map<int, std::string>>(bytes); break;
    default: check_exception(bytes);
  }
  return 0;
}
