// The others are real programs of their own, killed with real SIGKILL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include <covey/sync/named_board.hpp>
#include <covey/testing/named_visitor.hpp>
#include <covey/testing/settle.hpp>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

namespace {

using namespace std::chrono_literals;
using namespace covey::testing;
namespace named_board = covey::detail::named_board;
using named_board::board;
using testing::AllOf;
using testing::HasSubstr;

// ---- one process ----------------------------------------------------------------------------------------------------

TEST(Named, IsMadeOnceAndFoundByName) {
  auto b = covey::open_or_create<board>(own_name(), 7);
  EXPECT_EQ(b->maker, 7);
  b->value = 3;
  auto c = covey::open_or_create<board>(own_name(), 8);
  EXPECT_EQ(c->maker, 7);
  EXPECT_EQ(c, b);  // one mapping in one process
  EXPECT_EQ(covey::attach<board>(own_name())->value, 3);
}

TEST(Named, EndsWithItsLastHandle) {
  {
    const auto b = covey::create<board>(own_name());
    EXPECT_TRUE(is_bound(own_name()));
    EXPECT_TRUE(is_held(own_name()));
  }
  EXPECT_FALSE(is_bound(own_name()));
  EXPECT_FALSE(is_held(own_name()));
  EXPECT_THAT(error_of([] { (void)covey::attach<board>(own_name()); }), HasSubstr("No such file"));
}

TEST(Named, CreateRefusesWhatExists) {
  const auto b = covey::create<board>(own_name());
  EXPECT_THAT(error_of([] { (void)covey::create<board>(own_name()); }), HasSubstr("File exists"));
}

TEST(Named, RefusesNamesThatAreNone) {
  for (const std::string& name : {std::string(), std::string(81, 'x'), std::string("a b"), std::string("a\0b", 3)})
    EXPECT_THROW((void)covey::attach<board>(name), std::invalid_argument) << name;
}

TEST(Named, AnotherTypeIsRefusedWithBothInOneSentence) {
  const auto b = covey::create<board>(own_name());
  EXPECT_THAT(error_of([] { (void)covey::attach<named_board::older::board>(own_name()); }),
              AllOf(HasSubstr("holds covey::detail::named_board::board (" + std::to_string(sizeof(board)) + " bytes"),
                    HasSubstr("expects covey::detail::named_board::older::board (8 bytes")));
  EXPECT_THROW((void)covey::open_or_create<int>(own_name()), covey::segment_mismatch);
}

// What a program was built with is compared, not only what it calls it and how large that is.
TEST(Named, ATypeOfTheSameNameAndSizeWithAnotherFieldIsRefused) {
  const visitor same, other{"named_visitor_other"};
  const std::string shape = "named_board::board (" + std::to_string(sizeof(board)) + " bytes";
  const auto is_refused =
      AllOf(HasSubstr("holds covey::detail::" + shape), HasSubstr("expects covey::detail::" + shape));
  {
    const auto b = covey::create<board>(own_name());
    EXPECT_EQ(same.ask("attach " + own_name()), "found");
    EXPECT_THAT(other.ask("attach " + own_name()), is_refused);
    EXPECT_THAT(other.ask("open " + own_name()), is_refused);
    EXPECT_THAT(same.ask("attach_older " + own_name()),
                HasSubstr("expects covey::detail::named_board::older::board (8"));
    EXPECT_EQ(same.ask("drop"), "ok");
  }
  EXPECT_EQ(other.ask("create " + own_name()), "made");
  EXPECT_THAT(error_of([] { (void)covey::attach<board>(own_name()); }), is_refused);
}

TEST(Named, NoRoomIsAnErrorAndLeavesTheNameFree) {
  const auto too_much = [] { (void)covey::create<board>({.name = own_name(), .extra_bytes = 2 << 20}); };
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THAT(error_of(too_much), HasSubstr("File too large"));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(error_of([] { (void)covey::create<board>({.name = own_name(), .extra_bytes = SIZE_MAX}); }),
              HasSubstr("File too large"));
  EXPECT_FALSE(is_bound(own_name()));
  too_much();
}

TEST(Named, AForkedChildIsToldAndDoesNotKeepTheName) {
  auto b = std::make_unique<covey::named<board>>(covey::create<board>(own_name()));
  int line[2];
  ASSERT_EQ(::pipe(line), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(line[1]);
    char c = 0;
    (void)!::read(line[0], &c, 1);  // until the parent has given the name up
    ::signal(SIGABRT, SIG_DFL);
    (void)(*b)->value;
    ::_exit(0);
  }
  b.reset();
  EXPECT_TRUE(eventually(is_gone));  // the child needs a moment to begin
  ::close(line[0]);
  ::close(line[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(Named, AForkedChildMayAttachAnew) {
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "the sanitizer allows no thread in a forked child";
#endif
  const std::string name = own_name();  // which the child would make another
  const auto b = covey::create<board>(name, 7);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(covey::attach<board>({.name = name, .patience = 20s})->maker == 7 ? 0 : 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- offset types ---------------------------------------------------------------------------------------------------

TEST(Named, OffsetPointersMeanTheSameToAnotherProgram) {
  auto b = covey::create<board>({.name = own_name(), .extra_bytes = 4096});
  for (int i = 0; i < 4; ++i) b->nodes[i] = {.value = i, .next = i < 3 ? &b->nodes[i + 1] : nullptr};
  b->head = &b->nodes[0];
  const auto numbers = b.make_array<int>(3);
  for (int i = 0; i < 3; ++i) numbers[i] = 10 * i;
  b->numbers = numbers;
  visitor v;
  EXPECT_EQ(v.ask("attach " + own_name()), "found");
  EXPECT_EQ(v.ask("list"), "0123 0 10 20");
}

TEST(Named, AnOffsetPointerOutOfTheSegmentThrows) {
  auto b = covey::create<board>(own_name());
  int elsewhere = 0;
  for (std::int64_t garbage :
       {std::int64_t{0x4141414141414141}, std::int64_t{-4096}, std::int64_t{1} << 20, std::int64_t{3}}) {
    std::memcpy(static_cast<void*>(&b->head), &garbage, sizeof garbage);
    EXPECT_THROW((void)b->head.get(), std::out_of_range) << garbage;
    EXPECT_THROW((void)b->head->value, std::out_of_range) << garbage;
  }
  b->numbers = std::span(&elsewhere, 1);
  EXPECT_THROW((void)b->numbers.get(), std::out_of_range);
  b->numbers = std::span(reinterpret_cast<int*>(b.get()), std::size_t{1} << 62);
  EXPECT_THROW((void)b->numbers.get(), std::out_of_range);
  b->head = nullptr;
  EXPECT_EQ(b->head.get(), nullptr);
  EXPECT_THROW((void)b->head->value, std::out_of_range);
}

TEST(Named, MakeArrayIsBounded) {
  auto b = covey::create<board>({.name = own_name(), .extra_bytes = 8192});
  EXPECT_THROW((void)b.make_array<int>(std::size_t{1} << 62), std::bad_alloc);
  std::size_t got = 0;
  EXPECT_THROW(for (;; ++got)(void) b.make_array<std::uint64_t>(16), std::bad_alloc);
  EXPECT_GE(got, 8192U / 128);
  EXPECT_LT(got, (8192U + 4096) / 128);
}

// ---- locks ----------------------------------------------------------------------------------------------------------

TEST(NamedMutex, ExcludesProgramsFromOneAnother) {
  auto b = covey::create<board>(own_name());
  visitor one, two;
  for (visitor* v : {&one, &two}) EXPECT_EQ(v->ask("attach " + own_name()), "found");
  for (visitor* v : {&one, &two}) v->tell("add 20000");
  for (visitor* v : {&one, &two}) EXPECT_EQ(v->hear(), "ok");
  EXPECT_EQ(b->value, 40000);
}

TEST(NamedMutex, TellsOfADeadOwnerUntilRecovered) {
  auto b = covey::create<board>(own_name());
  visitor owner, sleeper, second;
  for (visitor* v : {&owner, &sleeper, &second}) EXPECT_EQ(v->ask("attach " + own_name()), "found");
  EXPECT_EQ(owner.ask("lock"), "ok");
  EXPECT_FALSE(b->lock.try_lock());
  EXPECT_FALSE(b->lock.lock_for(5ms));
  sleeper.tell("lock");
  second.tell("lock");
  owner.kill();
  EXPECT_THAT(sleeper.hear(), HasSubstr("owner of a"));  // all who sleep are woken and told
  EXPECT_THAT(second.hear(), HasSubstr("owner of a"));
  EXPECT_TRUE(b->lock.needs_recovery_approx());
  EXPECT_THROW(b->lock.lock(), covey::owner_died);
  EXPECT_THROW((void)b->lock.try_lock(), covey::owner_died);
  EXPECT_THROW((void)b->lock.lock_for(1ms), covey::owner_died);
  EXPECT_THROW(b->lock.recover([] { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_THROW(b->lock.lock(), covey::owner_died);
  EXPECT_EQ(sleeper.ask("recover"), "repaired");
  EXPECT_FALSE(b->lock.recover([] {}));
  EXPECT_FALSE(b->lock.needs_recovery_approx());
  EXPECT_EQ(second.ask("lock"), "ok");
  second.kill();
  EXPECT_TRUE(b->lock.needs_recovery_approx());  // asked before anybody learnt of it
}

TEST(NamedMutex, IsNotRecursiveAndStops) {
  auto b = covey::create<board>(own_name());
  b->lock.lock();
  EXPECT_THROW(b->lock.lock(), std::system_error);
  EXPECT_FALSE(b->lock.needs_recovery_approx());
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  std::jthread waiter([&] { EXPECT_FALSE(b->lock.lock_for(1h, stop.get_token())); });
  waiter.join();
  b->lock.unlock();
}

TEST(NamedMutex, AThreadThatEndsAsOwnerCountsAsDead) {
  auto b = covey::create<board>(own_name());
  std::thread([&] { b->lock.lock(); }).join();
  EXPECT_THROW(b->lock.lock(), covey::owner_died);
}

TEST(NamedMutex, HeldWhenTheHandleGoesKeepsTheSegment) {
  const board* where = nullptr;
  {
    auto b = covey::create<board>(own_name());
    b->lock.lock();
    where = b.get();
  }
  {
    // Locks of other segments keep none but their own.
    auto other = covey::create<board>(own_name() + ".other");
    other->lock.lock();
    (void)covey::create<board>(own_name() + ".third");
    EXPECT_FALSE(is_bound(own_name() + ".third"));
    other->lock.unlock();
  }
  EXPECT_FALSE(is_bound(own_name() + ".other"));
  {
    visitor v;
    EXPECT_EQ(v.ask("attach " + own_name()), "found");
    v.tell("lock");
    auto b = covey::attach<board>(own_name());
    EXPECT_EQ(b.get(), where);
    b->lock.unlock();
    EXPECT_EQ(v.hear(), "ok");
  }
  EXPECT_FALSE(is_bound(own_name()));
  EXPECT_FALSE(is_held(own_name()));
}

TEST(NamedEvent, WakesAnotherProgram) {
  auto b = covey::create<board>(own_name());
  visitor v;
  EXPECT_EQ(v.ask("attach " + own_name()), "found");
  EXPECT_FALSE(b->go.wait_for(1ms));
  v.tell("wait");
  b->go.set();
  EXPECT_EQ(v.hear(), "ok");
  EXPECT_TRUE(b->go.wait_for(0ms));
  b->go.clear();
  EXPECT_EQ(v.ask("set"), "ok");
  b->go.wait();
}

// ---- who comes and goes ---------------------------------------------------------------------------------------------

TEST(Named, SixteenProgramsAtOnceMakeItOnce) {
  for (int round = 0; round < 3; ++round) {
    std::array<visitor, 16> all;
    for (const visitor& v : all) v.tell("open " + own_name());
    int made = 0;
    std::string maker;
    for (const visitor& v : all) {
      const std::string how = v.hear();
      EXPECT_THAT(how, testing::AnyOf("made", "found"));
      made += how == "made";
      const std::string who = v.ask("maker");
      if (maker.empty()) maker = who;
      EXPECT_EQ(who, maker);
    }
    EXPECT_EQ(made, 1);
    for (visitor& v : all) v.kill();
    EXPECT_TRUE(eventually(is_gone));
  }
}

TEST(Named, LivesOnWhenItsMakerIsKilledAndEndsWithTheLast) {
  visitor first;
  EXPECT_EQ(first.ask("create " + own_name()), "made");
  EXPECT_EQ(first.ask("add 5"), "ok");
  const std::string maker = std::to_string(first.pid());
  auto before = std::make_unique<visitor>();
  EXPECT_EQ(before->ask("attach " + own_name()), "found");
  first.kill();
  for (int i = 0; i < 5; ++i) {  // each is found through the one before, who then dies
    auto next = std::make_unique<visitor>();
    EXPECT_EQ(next->ask("open " + own_name()), "found");
    before->kill();
    before = std::move(next);
  }
  EXPECT_EQ(before->ask("value"), "5");
  EXPECT_EQ(before->ask("maker"), maker);
  before->kill();
  EXPECT_TRUE(eventually(is_gone));
  visitor last;
  EXPECT_EQ(last.ask("open " + own_name()), "made");
}

TEST(Named, AttachingAndLeavingDestroysNothing) {
  visitor keeper;
  EXPECT_EQ(keeper.ask("create " + own_name()), "made");
  for (int i = 0; i < 10; ++i) (void)covey::attach<board>(own_name());
  EXPECT_EQ(keeper.ask("add 1"), "ok");
  EXPECT_EQ(covey::attach<board>(own_name())->value, 1);
}

TEST(Named, NobodySeesItHalfMade) {
  visitor maker, waiting;
  maker.tell("slow_open " + own_name());
  EXPECT_EQ(maker.hear(), "making");
  EXPECT_THAT(waiting.ask("attach " + own_name() + " 50"), HasSubstr("timed out"));
  waiting.tell("open " + own_name());
  maker.tell("go on");
  EXPECT_EQ(maker.hear(), "made");
  EXPECT_EQ(waiting.hear(), "found");
}

TEST(Named, AMakerKilledWhileMakingIsReplaced) {
  visitor maker, waiting;
  maker.tell("slow_open " + own_name());
  EXPECT_EQ(maker.hear(), "making");
  waiting.tell("open " + own_name());
  maker.kill();
  EXPECT_EQ(waiting.hear(), "made");
}

TEST(Named, AMakerThatThrowsIsReplaced) {
  visitor maker, waiting;
  maker.tell("slow_open " + own_name());
  EXPECT_EQ(maker.hear(), "making");
  waiting.tell("open " + own_name());
  maker.tell("throw");
  EXPECT_THAT(maker.hear(), HasSubstr("thrown by the constructor"));
  EXPECT_EQ(waiting.hear(), "made");
  EXPECT_EQ(maker.ask("attach " + own_name()), "found");
}

TEST(Named, AStoppedHolderIsPassedOver) {
  visitor stopped, running;
  EXPECT_EQ(stopped.ask("create " + own_name()), "made");
  EXPECT_EQ(running.ask("attach " + own_name()), "found");
  stopped.stop();
  for (int i = 0; i < 5; ++i) (void)covey::attach<board>(own_name());
  running.kill();
  EXPECT_THAT(error_of([] { (void)covey::attach<board>({.name = own_name(), .patience = 30ms}); }),
              HasSubstr("timed out"));
  // The name still belongs to it, and is not made a second time.
  EXPECT_THAT(error_of([] { (void)covey::open_or_create<board>({.name = own_name(), .patience = 30ms}); }),
              HasSubstr("timed out"));
  stopped.signal(SIGCONT);
  (void)covey::attach<board>(own_name());
}

TEST(Named, ComingGoingAndDyingNeverSplitTheName) {
  constexpr int programs = 6, rounds = 60;
  std::mt19937 random(4711);  // the order of what is asked; who is first is up to the kernel
  std::array<std::unique_ptr<visitor>, programs> all;
  std::array<bool, programs> holds{};
  int made = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    std::array<char, programs> asked{};
    for (int i = 0; i < programs; ++i) {
      if (all[i] == nullptr) all[i] = std::make_unique<visitor>();
      asked[i] = !holds[i] ? 'o' : "kd-"[random() % 3];
      if (asked[i] == 'o') all[i]->tell("open " + own_name());
      if (asked[i] == 'd') all[i]->tell("drop");
      if (asked[i] == 'k') all[i]->signal(SIGKILL);
    }
    std::set<std::string> makers;
    for (int i = 0; i < programs; ++i) {
      if (asked[i] == 'k') all[i].reset();
      if (asked[i] == 'd') {
        EXPECT_EQ(all[i]->hear(), "ok");
      }
      if (asked[i] == 'o') {
        const std::string how = all[i]->hear();
        EXPECT_THAT(how, testing::AnyOf("made", "found"));
        made += how == "made";
      }
      holds[i] = asked[i] == 'o' || asked[i] == '-';
      if (holds[i]) makers.insert(all[i]->ask("maker"));
    }
    EXPECT_LE(makers.size(), 1U) << "all who hold the name hold the same memory";
    if (HasFailure()) break;
  }
  EXPECT_GE(made, 1);
}

}  // namespace
