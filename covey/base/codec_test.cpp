// Values survive the way to bytes and back; bytes that are cut or changed are refused without harm.
#include <covey/base/codec.hpp>
#include <gtest/gtest.h>

#include <deque>
#include <list>
#include <map>
#include <random>
#include <set>
#include <unordered_map>

namespace {

using namespace std::chrono_literals;
using covey::detail::decode;
using covey::detail::decoder;
using covey::detail::encode;
using covey::detail::encoder;

enum class colour : std::uint8_t { red, green };

struct inner {
  std::string name;
  std::optional<double> weight;
  bool operator==(const inner&) const = default;
};

struct outer {
  int id = 0;
  colour paint = colour::red;
  std::vector<inner> parts;
  std::map<std::string, std::set<int>> index;
  std::variant<std::monostate, int, std::string> choice;
  std::array<short, 3> dims{};
  std::tuple<char, long> pair{};
  std::chrono::milliseconds time{};
  std::filesystem::path where;
  std::error_code code;
  bool operator==(const outer&) const = default;
};

class celsius {  // not an aggregate: needs the hook
 public:
  explicit celsius(double d) : degrees_(d) {}
  double degrees() const { return degrees_; }

 private:
  double degrees_;
};

}  // namespace

template <>
struct covey::travel_as<celsius> {
  static double pack(const celsius& c) { return c.degrees(); }
  static celsius unpack(double d) { return celsius(d); }
};

namespace {

outer sample() {
  return {7,
          colour::green,
          {{"bolt", 1.5}, {"nut", {}}},
          {{"a", {1, 2}}, {"b", {}}},
          std::string("text"),
          {1, 2, 3},
          {'x', 9L},
          1500ms,
          "/tmp/a b",
          std::make_error_code(std::errc::no_space_on_device)};
}

template <class T>
T there_and_back(const T& value) {
  encoder out;
  encode(out, value);
  decoder in{out.bytes};
  T result = decode<T>(in);
  covey::detail::expect_end(in);
  return result;
}

TEST(Codec, KeepsAggregatesOfEverything) { EXPECT_EQ(there_and_back(sample()), sample()); }

TEST(Codec, KeepsContainersOfAllKinds) {
  const std::unordered_map<int, std::string> m{{1, "one"}, {2, "two"}};
  EXPECT_EQ(there_and_back(m), m);
  const std::list<std::deque<bool>> l{{true, false}, {}};
  EXPECT_EQ(there_and_back(l), l);
  const std::vector<bool> bits{true, false, true};
  EXPECT_EQ(there_and_back(bits), bits);
  EXPECT_EQ(there_and_back(std::vector<int>{}), std::vector<int>{}) << "under UBSan: a null was copied to";
  const std::u16string wide = u"\u4f60\u597d";
  EXPECT_EQ(there_and_back(wide), wide);
}

TEST(Codec, UsesTheHookOfATypeThatHasOne) { EXPECT_EQ(there_and_back(celsius(21.5)).degrees(), 21.5); }

TEST(Codec, RefusesEveryTruncation) {
  encoder out;
  encode(out, sample());
  for (std::size_t n = 0; n < out.bytes.size(); ++n) {
    decoder in{std::span(out.bytes).first(n)};
    EXPECT_THROW((void)decode<outer>(in), covey::bad_message) << n;
  }
}

TEST(Codec, SurvivesEveryFlippedByte) {
  encoder out;
  encode(out, sample());
  std::mt19937 random(1);
  for (std::size_t n = 0; n < out.bytes.size(); ++n) {
    auto bytes = out.bytes;
    bytes[n] = static_cast<std::byte>(random());
    decoder in{bytes};
    try {
      (void)decode<outer>(in);
    } catch (const covey::bad_message&) {
    }
  }
}

TEST(Codec, RefusesALengthBeyondTheEndBeforeItAllocates) {
  encoder out;
  encode(out, std::uint64_t{1} << 60);
  decoder in{out.bytes};
  EXPECT_THROW((void)decode<std::vector<int>>(in), covey::bad_message);
}

struct tree {
  int value = 0;
  std::vector<tree> kids;
  bool operator==(const tree&) const = default;
};

tree chain(int length) {
  tree root{0, {}};
  for (int i = 1; i < length; ++i) root = tree{i, std::vector<tree>(1, root)};
  return root;
}

TEST(Codec, KeepsTypesThatContainThemselves) {
  const tree t{1, {{2, {}}, {3, {{4, {}}}}}};
  EXPECT_EQ(there_and_back(t), t);
}

TEST(Codec, RefusesWhatIsNestedTooDeepOnBothSides) {
  const tree deep = chain(covey::detail::depth_max);
  EXPECT_EQ(there_and_back(deep), deep);
  encoder out;
  EXPECT_THROW(encode(out, chain(covey::detail::depth_max + 1)), covey::bad_message);
  std::vector<std::byte> bytes;  // a value and a length of one, again and again
  for (int i = 0; i < 100'000; ++i) {
    const std::array<std::uint8_t, 12> level{0, 0, 0, 0, 1};
    const auto* const p = reinterpret_cast<const std::byte*>(level.data());
    bytes.insert(bytes.end(), p, p + level.size());
  }
  decoder in{bytes};
  EXPECT_THROW((void)decode<tree>(in), covey::bad_message);
}

struct nothing {
  bool operator==(const nothing&) const = default;
};

// Each element costs a byte at least: eight bytes once could demand a loop of 2^32.
TEST(Codec, RefusesAnyNumberOfNothingsFromNoBytes) {
  encoder out;
  encode(out, std::uint64_t{1} << 31);
  const auto refused = [&]<class T>(std::type_identity<T>) {
    decoder in{out.bytes};
    EXPECT_THROW((void)decode<T>(in), covey::bad_message);
  };
  refused(std::type_identity<std::vector<nothing>>{});
  refused(std::type_identity<std::list<std::monostate>>{});
  refused(std::type_identity<std::vector<std::tuple<>>>{});
  refused(std::type_identity<std::vector<std::array<int, 0>>>{});
  const std::vector<nothing> three(3);
  EXPECT_EQ(there_and_back(three), three);
}

struct constant {
  const int id;
  const std::string name;
};

TEST(Codec, KeepsConstantMembers) {
  const constant there = there_and_back(constant{7, "seven"});
  EXPECT_EQ(there.id, 7);
  EXPECT_EQ(there.name, "seven");
}

TEST(Codec, NamesTheLeastBytesExactlyWhereItCan) {
  using covey::detail::least_bytes;
  static_assert(least_bytes<outer>() == 4 + 1 + 8 + 8 + 5 + 6 + 9 + 8 + 8 + 12);
  static_assert(least_bytes<celsius>() == 8);
  static_assert(least_bytes<tree>() == 12);
}

struct two_numbers {
  std::uint32_t a;
  std::array<float, 3> b;
  bool operator==(const two_numbers&) const = default;
};
struct padded {
  char a;
  std::uint64_t b;
};
struct with_bool {
  bool a;
};

TEST(Codec, BitwiseTypesAreEncodedAsTheBytesTheyHave) {
  static_assert(covey::detail::is_bitwise<two_numbers>() && covey::detail::is_bitwise<std::array<double, 4>>());
  static_assert(!covey::detail::is_bitwise<padded>() && !covey::detail::is_bitwise<with_bool>());
  static_assert(!covey::detail::is_bitwise<std::string>() && !covey::detail::is_bitwise<std::optional<int>>());
  const two_numbers value{7, {1, 2, 3}};
  covey::detail::encoder out;
  covey::detail::encode(out, value);
  ASSERT_EQ(out.bytes.size(), sizeof value);
  EXPECT_EQ(std::memcmp(out.bytes.data(), &value, sizeof value), 0);  // NOLINT(bugprone-suspicious-memory-comparison)
}

}  // namespace
