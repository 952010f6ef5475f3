// Everything that may be called, and everything that may be given to it; each in a process of its own, whose exit code
// says what arrived.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/mutex.hpp>

#include <complex>
#include <deque>
#include <list>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

int early_answer(int n);  // in early_library.cpp

namespace {

using namespace std::chrono_literals;

template <class F, class... Args>
int code_of(F&& f, Args&&... args) {
  covey::process child{std::forward<F>(f), std::forward<Args>(args)...};
  const auto status = child.join();
  if (status.exception()) std::rethrow_exception(status.exception());
  return status.code();
}

// ---- what is called ------------------------------------------------------------------------------------------------

int twice(int n) { return 2 * n; }
int careful(int n) noexcept { return n; }
int overloaded(int) { return 1; }
int overloaded(const std::string&) { return 2; }
template <class T>
int size_of(T value) {
  return static_cast<int>(sizeof value);
}

struct tripling {
  int operator()(int n) const { return 3 * n; }
};

struct either {
  int operator()(int) const { return 1; }
  int operator()(const std::string&) const { return 2; }
};

TEST(Callable, MayBeAnyFunctionWithoutState) {
  EXPECT_EQ(code_of(twice, 4), 8);
  EXPECT_EQ(code_of(&twice, 4), 8);
  EXPECT_EQ(code_of(careful, 5), 5);
  EXPECT_EQ(code_of(static_cast<int (*)(int)>(overloaded), 0), 1);
  EXPECT_EQ(code_of(static_cast<int (*)(const std::string&)>(overloaded), "x"), 2);
  EXPECT_EQ(code_of(size_of<short>, 1), 2);
  EXPECT_EQ(code_of(tripling{}, 4), 12);
  EXPECT_EQ(code_of(either{}, 1), 1);
  EXPECT_EQ(code_of(either{}, "text"), 2);
  EXPECT_EQ(code_of(std::plus<>{}, 1, 2), 3);
  EXPECT_EQ(code_of([](int n) mutable noexcept { return n; }, 6), 6);
  EXPECT_EQ(code_of([](auto... all) { return (0 + ... + static_cast<int>(all)); }, 1, 2L, short{3}), 6);
}

struct counter {
  int value = 0;
  int plus(int n) const { return value + n; }
  int more(int n) noexcept { return value += n; }
  int here(int n) & { return value + n; }
  int there(int n) const& noexcept { return value + n; }
};

TEST(Callable, MayBeAMemberFunctionOfWhatItIsGiven) {
  EXPECT_EQ(code_of(&counter::plus, counter{40}, 2), 42);
  EXPECT_EQ(code_of(&counter::more, counter{40}, 2), 42);
  EXPECT_EQ(code_of(&counter::here, counter{40}, 2), 42);
  EXPECT_EQ(code_of(&counter::there, counter{40}, 2), 42);
}

class animal {
 public:
  virtual ~animal() = default;
  virtual int legs() const { return 0; }
  int twice_legs() const { return 2 * legs(); }
};
class insect : public animal {
 public:
  int legs() const override { return 6; }
};

}  // namespace

template <>
struct covey::travel_as<insect> {
  static int pack(const insect&) { return 0; }
  static insect unpack(int) { return {}; }
};

namespace {

TEST(Callable, FindsTheOverriderOfAVirtualFunction) {
  EXPECT_EQ(code_of(&animal::legs, insect{}), 6);
  EXPECT_EQ(code_of(&animal::twice_legs, insect{}), 12);
}

TEST(Callable, MayBeALambdaWhoseAuthorVouchesForItsCaptures) {
  int a = 1;
  ++a;  // not a constant, which would not be captured
  const double b = 1.5;
  EXPECT_EQ(code_of(covey::by_value([a, b](int n) { return static_cast<int>(n * a * b); }), 3), 9);
  EXPECT_EQ(code_of(covey::by_value([a](auto n) { return a + n; }), 3), 5);
}

TEST(Callable, MayLieInALibraryThatTheProgramIsLinkedWith) { EXPECT_EQ(code_of(early_answer, 1), 2); }

TEST(Callable, MayNotLieInALibraryThatWasLoadedLater) {
  void* const library = ::dlopen(COVEY_LATE_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr) << ::dlerror();
  auto* const answer = reinterpret_cast<int (*)()>(::dlsym(library, "late_answer"));
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer(), 42);
  try {
    covey::process child{answer};
    FAIL() << "started";
  } catch (const std::system_error& e) {
    EXPECT_NE(std::string(e.what()).find("loaded after the program started"), std::string::npos) << e.what();
  }
  EXPECT_EQ(code_of(twice, 1), 2) << "and the next one works";
}

// ---- what it is given ----------------------------------------------------------------------------------------------

enum class colour : std::uint8_t { red, green };

struct inner {
  std::string name;
  std::optional<double> weight;
  bool operator==(const inner&) const = default;
};

struct everything {
  bool flag;
  char letter;
  long double wide;
  colour paint;
  std::byte raw;
  std::string text;
  std::wstring wtext;
  std::u8string u8text;
  std::vector<inner> parts;
  std::vector<bool> bits;
  std::deque<int> deque;
  std::list<std::string> list;
  std::set<int> set;
  std::multiset<int> multiset;
  std::unordered_set<std::string> hashed;
  std::map<std::string, std::vector<int>> map;
  std::multimap<int, int> multimap;
  std::unordered_map<int, inner> hash_map;
  std::array<int, 3> array;
  std::optional<std::string> maybe;
  std::variant<std::monostate, int, std::string> choice;
  std::tuple<int, std::string> tuple;
  std::pair<int, char> pair;
  std::filesystem::path path;
  std::error_code error;
  std::chrono::milliseconds time;
  std::chrono::system_clock::time_point at;
  std::complex<float> turn;
  bool operator==(const everything&) const = default;
};

everything sample() {
  everything e{};
  e.flag = true;
  e.letter = 'x';
  e.wide = 1.5L;
  e.paint = colour::green;
  e.raw = std::byte{7};
  e.text = "text";
  e.wtext = L"wide";
  e.u8text = u8"\u4f60";
  e.parts = std::vector<inner>{{"bolt", 1.5}, {"nut", {}}};
  e.bits = std::vector<bool>{true, false};
  e.deque = std::deque<int>{1, 2};
  e.list = std::list<std::string>{"a"};
  e.set = std::set<int>{3, 1};
  e.multiset = std::multiset<int>{1, 1};
  e.hashed = std::unordered_set<std::string>{"k"};
  e.map = std::map<std::string, std::vector<int>>{{"k", {1}}};
  e.multimap = std::multimap<int, int>{{1, 1}, {1, 2}};
  e.hash_map = std::unordered_map<int, inner>{{1, {"one", 1.0}}};
  e.array = std::array<int, 3>{1, 2, 3};
  e.maybe = "yes";
  e.choice = "text";
  e.tuple = std::tuple<int, std::string>{1, "one"};
  e.pair = std::pair<int, char>{1, 'x'};
  e.path = "/tmp/a b";
  e.error = std::make_error_code(std::errc::io_error);
  e.time = 1500ms;
  e.at = std::chrono::system_clock::time_point{5s};
  e.turn = std::complex<float>{1, 2};
  return e;
}

int same(const everything& e) { return e == sample() ? 0 : 1; }

TEST(Callable, IsGivenEverythingThatTheTourSaysMayTravel) { EXPECT_EQ(code_of(same, sample()), 0); }

int hears(covey::event go, covey::mutex lock, covey::event heard) {
  go.wait();
  const std::scoped_lock held(lock);
  heard.set();
  return 0;
}

TEST(Callable, IsGivenHandles) {
  covey::event go;
  covey::event heard;
  covey::mutex lock;
  covey::process child{hears, go, lock, heard};
  go.set();
  heard.wait();
  EXPECT_EQ(child.join().code(), 0);
}

// Nobody but the message holds the event when the worker reads it: it was once freed under the worker.
TEST(Callable, KeepsAHandleAliveThatOnlyItsArgumentsHold) {
  for (int i = 0; i < 20; ++i) {
    covey::process child{[](covey::event e) { e.set(); }, covey::event{}};
    const auto status = child.join();
    EXPECT_NO_THROW(status.check());
  }
}

int text_length(std::string_view text) { return static_cast<int>(text.size()); }
int sum(std::span<const int> all) {
  int total = 0;
  for (const int n : all) total += n;
  return total;
}
int sum_of_three(std::span<const int, 3> all) { return sum(all); }
int takes_apart(std::string&& text) { return static_cast<int>(text.size()); }
int seconds(std::chrono::seconds s) { return static_cast<int>(s.count()); }
int truth(bool b) { return b ? 1 : 0; }
int path_length(const std::filesystem::path& p) { return static_cast<int>(p.native().size()); }

TEST(Callable, ConvertsArgumentsToTheParametersAsACallDoes) {
  EXPECT_EQ(code_of(twice, 4.7), 8);
  EXPECT_EQ(code_of(text_length, "four"), 4);
  EXPECT_EQ(code_of(text_length, std::string("four")), 4);
  EXPECT_EQ(code_of(text_length, std::string_view("four")), 4);
  EXPECT_EQ(code_of(sum, std::vector{1, 2, 3}), 6);
  EXPECT_EQ(code_of(sum, std::array{1, 2, 3}), 6);
  const int plain[] = {1, 2, 3};
  EXPECT_EQ(code_of(sum, plain), 6);
  EXPECT_EQ(code_of(sum_of_three, plain), 6);
  EXPECT_EQ(code_of(takes_apart, "abc"), 3);
  EXPECT_EQ(code_of(seconds, 2min), 120);
  EXPECT_EQ(code_of(truth, 2), 1);
  EXPECT_EQ(code_of(path_length, "/tmp"), 4);
  EXPECT_EQ(code_of([](auto text) { return static_cast<int>(text.size()); }, "four"), 4);
}

TEST(Callable, IsGivenACallableWithoutStateAsAnArgument) {
  EXPECT_EQ(code_of([](auto f, int n) { return f(n); }, [](int n) { return n + 1; }, 1), 2);
}

TEST(Callable, IsGivenTypesWithoutContentAndAToken) {
  EXPECT_EQ(code_of(
                [](std::stop_token, std::tuple<> nothing, std::monostate, int n) {
                  (void)nothing;
                  return n;
                },
                std::tuple<>{}, std::monostate{}, 4),
            4);
}

}  // namespace
