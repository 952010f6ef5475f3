// Where a container's memory lies is asked of its addresses: every byte of what is shared must lie in its root.
#include <gtest/gtest.h>
#include <signal.h>
#include <covey/memory.hpp>
#include <covey/process.hpp>

#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <variant>

namespace {

const char* const long_text = "a text that is too long to lie inside of the string itself";

// Knows nothing of allocators, but holds containers.
struct record {
  covey::string name;
  covey::vector<int> numbers;
};

struct office {
  covey::vector<int> numbers;
  covey::string title = long_text;
  covey::vector<covey::string> names;
  covey::map<int, record> records;
  covey::unordered_map<covey::string, covey::vector<covey::string>> index;
  covey::vector<record> list;
  std::optional<covey::string> note;
  std::optional<record> best;
};

class AllocatorTest : public ::testing::Test {
 protected:
  template <class T>
  bool inside(const T* p) const {
    return covey::detail::object_around(p) == covey::detail::object_around(office_.get());
  }
  bool inside(const covey::string& s) const { return inside(s.data()); }
  bool inside(const record& r) const {
    return inside(&r) && inside(r.name) && (r.numbers.empty() || inside(r.numbers.data()));
  }
  covey::shared_ptr<office> office_ = covey::make_shared<office>();
};

TEST_F(AllocatorTest, IsPrivateWithoutAnObject) {
  const covey::vector<int> v{1, 2, 3};
  EXPECT_TRUE(v.get_allocator().is_private());
  EXPECT_FALSE(covey::detail::in_arena(v.data()));
}

TEST_F(AllocatorTest, IsOfTheObjectAroundIt) {
  office_->numbers.assign(1000, 1);
  EXPECT_TRUE(inside(office_->numbers.data()));
  EXPECT_TRUE(inside(office_->title));
}

TEST_F(AllocatorTest, ReachesContainersInContainers) {
  office_->names.push_back(covey::string(long_text));
  office_->names.emplace_back(long_text);
  office_->index[long_text].push_back(long_text);
  office_->index.emplace("b", covey::vector<covey::string>{long_text, long_text});
  office_->index.try_emplace("c").first->second.emplace_back(long_text);
  for (const covey::string& s : office_->names) EXPECT_TRUE(inside(s));
  EXPECT_EQ(office_->index.size(), 3U);
  for (const auto& [key, values] : office_->index) {
    EXPECT_TRUE(inside(key));
    EXPECT_TRUE(inside(values.data()));
    for (const covey::string& s : values) EXPECT_TRUE(inside(s));
  }
}

TEST_F(AllocatorTest, ReachesContainersInClassesThatKnowNothingOfIt) {
  const record kept{long_text, {1, 2, 3}};
  office_->records.emplace(1, record{long_text, {1, 2, 3}});
  office_->records.insert({2, kept});
  office_->records.try_emplace(3, record{long_text, {1, 2, 3}});
  office_->records[4] = kept;
  office_->records.insert_or_assign(5, record{long_text, {}});
  office_->records.emplace(std::piecewise_construct, std::forward_as_tuple(6), std::forward_as_tuple(kept));
  for (const auto& [number, r] : office_->records) {
    EXPECT_TRUE(inside(r)) << number;
    EXPECT_EQ(r.name, long_text);
  }
  for (int i = 0; i < 20; ++i) {
    office_->list.push_back(kept);
    office_->list.push_back(record{long_text, {1, 2}});
  }
  office_->list.insert(office_->list.begin(), kept);
  office_->list.erase(office_->list.begin() + 3);
  for (const record& r : office_->list) EXPECT_TRUE(inside(r));
}

TEST_F(AllocatorTest, FindsItsObjectWhenMadeInPlaceLater) {
  office_->note.emplace(long_text);
  EXPECT_TRUE(inside(*office_->note));
  office_->note = covey::string(long_text);  // assigned: copied
  EXPECT_TRUE(inside(*office_->note));
  office_->note.reset();
  const covey::string kept(long_text);
  office_->note = kept;
  EXPECT_TRUE(inside(*office_->note));
  office_->best.emplace();
  office_->best->numbers.push_back(1);
  EXPECT_TRUE(inside(*office_->best));
}

TEST_F(AllocatorTest, CopiesBetweenPrivateMemoryAndObjects) {
  office_->names = covey::vector<covey::string>{long_text, "short"};
  for (const covey::string& s : office_->names) EXPECT_TRUE(inside(s));
  const covey::vector<covey::string> copy = office_->names;
  EXPECT_TRUE(copy.get_allocator().is_private());
  for (const covey::string& s : copy) EXPECT_FALSE(covey::detail::in_arena(&s) || covey::detail::in_arena(s.data()));
  const auto other = covey::make_shared<office>(*office_);
  EXPECT_EQ(other->names, office_->names);
  EXPECT_EQ(covey::detail::object_around(other->names.data()), covey::detail::object_around(other.get()));
  EXPECT_EQ(covey::detail::object_around(other->names[0].data()), covey::detail::object_around(other.get()));
}

TEST_F(AllocatorTest, WorksWithTheOtherContainersOfStd) {
  struct others {
    std::list<covey::string, covey::allocator<covey::string>> list;
    std::deque<covey::string, covey::allocator<covey::string>> deque;
    std::set<covey::string, std::less<>, covey::allocator<covey::string>> set;
    std::variant<int, covey::string> variant;
  };
  const auto o = covey::make_shared<others>();
  for (int i = 0; i < 100; ++i) {
    o->list.emplace_back(long_text);
    o->deque.push_front(long_text);
    o->set.emplace(std::string_view(std::to_string(i) + long_text));
  }
  o->variant.emplace<covey::string>(long_text);
  const auto* const root = covey::detail::object_around(o.get());
  for (const auto& s : o->list) EXPECT_EQ(covey::detail::object_around(s.data()), root);
  for (const auto& s : o->deque) EXPECT_EQ(covey::detail::object_around(s.data()), root);
  for (const auto& s : o->set) EXPECT_EQ(covey::detail::object_around(s.data()), root);
  EXPECT_EQ(covey::detail::object_around(std::get<covey::string>(o->variant).data()), root);
}

TEST_F(AllocatorTest, GivesBackAllThatItTook) {
  auto& heap = reinterpret_cast<covey::detail::root*>(covey::detail::object_around(office_.get()))->memory;
  const auto before = heap.usage();
  {
    covey::map<int, record> many(office_->numbers.get_allocator());
    for (int i = 0; i < 1000; ++i) many.emplace(i, record{long_text, {i, i}});
    EXPECT_TRUE(inside(&many.begin()->second));
    EXPECT_GT(heap.usage().used, before.used + 100'000);
  }
  EXPECT_EQ(heap.usage().used, before.used);
  EXPECT_EQ(heap.usage().stranded, 0U);
}

// A moved container brings its elements' private memory: that must not reach other processes unseen.
TEST_F(AllocatorTest, StopsTheProcessWhenPrivateMemoryIsMovedIntoAnObject) {
  covey::process mover{[](covey::shared_ptr<office> o) {
                         covey::string text(long_text);
                         o->note.emplace(std::move(text));
                       },
                       office_};
  EXPECT_EQ(mover.join().signal(), SIGABRT);
  EXPECT_FALSE(office_->note.has_value());
}

TEST_F(AllocatorTest, LetsEmptyContainersBeMovedIntoAnObject) {
  office_->best = record{};
  office_->best->name = long_text;
  office_->best->numbers.push_back(1);
  EXPECT_TRUE(inside(*office_->best));
}

TEST_F(AllocatorTest, ThrowsBadAllocWhenTheObjectIsFull) {
  EXPECT_THROW(office_->numbers.resize(std::size_t{1} << 34), std::bad_alloc);
  EXPECT_TRUE(office_->numbers.empty());
  office_->numbers.push_back(1);
}

}  // namespace
