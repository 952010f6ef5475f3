// The others are real programs of their own (named_visitor, started by fork and exec), killed with real SIGKILL. Each
// test has a name of its own, so that tests may run at the same time.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <set>
#include <system_error>
#include <thread>

#include <covey/memory/messages.hpp>
#include <covey/sync/named_board.hpp>
#include <covey/testing/settle.hpp>

namespace {

#ifndef __has_feature
#define __has_feature(x) 0
#endif
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
constexpr int stride = sanitized ? 10 : 1;  // where every step costs more, and there are more of them

using namespace std::chrono_literals;
using covey::unique_fd;
using covey::testing::eventually;
namespace named_board = covey::detail::named_board;
using named_board::board;
using testing::AllOf;
using testing::HasSubstr;

std::string own_name() {
  return std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + "." + std::to_string(::getpid());
}

/// The program, and its ends of stdin and stdout.
class visitor {
 public:
  visitor() {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) < 0 || ::pipe2(out, O_CLOEXEC) < 0) throw std::runtime_error("pipe2");
    const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "named_visitor";
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execl(program.c_str(), program.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_.reset(in[1]);
    from_.reset(out[0]);
  }
  visitor(visitor&&) = delete;
  ~visitor() { kill(); }

  void tell(const std::string& command) const {
    const std::string line = command + "\n";
    EXPECT_EQ(::write(to_.get(), line.data(), line.size()), static_cast<ssize_t>(line.size())) << command;
  }
  std::string hear() const {
    std::string line;
    for (char c = 0; ::read(from_.get(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  std::string ask(const std::string& command) const {
    tell(command);
    return hear();
  }
  [[nodiscard]] bool has_said_something() const {
    pollfd p{.fd = from_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) > 0;
  }
  void signal(int s) const { ::kill(pid_, s); }
  /// SIGSTOP, and all its threads have stopped when it returns.
  void stop() const {
    int status = 0;
    ::kill(pid_, SIGSTOP);
    while (::waitpid(pid_, &status, WUNTRACED) != pid_ || !WIFSTOPPED(status)) continue;
  }
  /// SIGKILL, and gone when it returns.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  unique_fd to_, from_;
};

bool is_bound(const std::string& name) {
  std::ifstream sockets("/proc/net/unix");
  const std::string path = "@covey/" + std::to_string(::geteuid()) + "/" + name;
  for (std::string line; std::getline(sockets, line);)
    if (line.ends_with(path)) return true;
  return false;
}

/// Whether any process has the memory mapped or open.
bool is_held(const std::string& name) {
  const std::string memory = "memfd:covey:" + name;
  std::error_code gone;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream maps(process.path() / "maps");
    for (std::string line; std::getline(maps, line);)
      if (line.find(memory) != std::string::npos) return true;
    for (auto fd = std::filesystem::directory_iterator(process.path() / "fd", gone); !gone && fd != end(fd);
         fd.increment(gone))
      if (std::filesystem::read_symlink(fd->path(), gone).string().find(memory) != std::string::npos) return true;
  }
  return false;
}

/// Whether nothing is left of this test's memory. Those who are killed have companions that end by themselves.
bool is_gone() { return !is_bound(own_name()) && !is_held(own_name()); }

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "no error";
}

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

// ---- killed at every step
// -------------------------------------------------------------------------------------------- At every system call is
// enough where nobody else has a descriptor of the memory in between.

/// Lets `v` obey `command` and kills it at its stop number `n` at a system call's begin or end. Returns whether it was
/// killed; false: it was done before, and has answered.
bool killed_at(visitor& v, const std::string& command, int n) {
  EXPECT_EQ(::ptrace(PTRACE_SEIZE, v.pid(), nullptr, PTRACE_O_TRACESYSGOOD), 0);
  ::ptrace(PTRACE_INTERRUPT, v.pid(), nullptr, nullptr);
  int status = 0;
  ::waitpid(v.pid(), &status, __WALL);
  v.tell(command);
  for (int i = 0;;) {
    ::ptrace(PTRACE_SYSCALL, v.pid(), nullptr, nullptr);
    ::waitpid(v.pid(), &status, __WALL);
    if (!WIFSTOPPED(status)) return true;
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    if (v.has_said_something()) {
      ::ptrace(PTRACE_DETACH, v.pid(), nullptr, nullptr);
      return false;
    }
    if (++i == n) {
      v.kill();
      return true;
    }
  }
}

TEST(NamedKill, AMakerKilledAtAnySystemCallLeavesTheNameUsable) {
  visitor bystander;
  int n = 1;
  for (;; n += stride) {
    SCOPED_TRACE(n);
    visitor victim;
    const bool killed = killed_at(victim, "open " + own_name(), n);
    EXPECT_EQ(bystander.ask("open " + own_name()), killed ? "made" : "found");
    EXPECT_EQ(bystander.ask("drop"), "ok");
    if (!killed || HasFailure()) break;
    EXPECT_FALSE(is_bound(own_name()));
  }
  std::printf("killed at %d stops\n", n - 1);
  EXPECT_GT(n, 40);
}

TEST(NamedKill, OneWhoAttachesKilledAtAnySystemCallHarmsNobody) {
  visitor holder, bystander;
  EXPECT_EQ(holder.ask("create " + own_name()), "made");
  int n = 1, times = 0;
  for (;; n += stride) {
    SCOPED_TRACE(n);
    visitor victim;
    const bool killed = killed_at(victim, "attach " + own_name(), n);
    EXPECT_EQ(bystander.ask("attach " + own_name()), "found");
    EXPECT_EQ(bystander.ask("add 1"), "ok");
    EXPECT_EQ(bystander.ask("drop"), "ok");
    ++times;
    if (!killed || HasFailure()) break;
  }
  std::printf("killed at %d stops\n", n - 1);
  EXPECT_GT(n, 20);
  EXPECT_EQ(holder.ask("value"), std::to_string(times));
  holder.kill();
  EXPECT_TRUE(eventually(is_gone));
}

TEST(NamedKill, OneWhoLeavesKilledAtAnySystemCallHarmsNobody) {
  visitor holder;
  EXPECT_EQ(holder.ask("create " + own_name()), "made");
  int n = 1;
  for (;; n += stride) {
    SCOPED_TRACE(n);
    visitor victim, bystander;
    EXPECT_EQ(victim.ask("attach " + own_name()), "found");
    const bool killed = killed_at(victim, "drop", n);
    EXPECT_EQ(bystander.ask("attach " + own_name()), "found");
    if (!killed || HasFailure()) break;
  }
  std::printf("killed at %d stops\n", n - 1);
  EXPECT_GT(n, 10);
  holder.kill();
  EXPECT_TRUE(eventually(is_gone));
}

/// Lets `v` obey "step_add" and kills it after instruction `n` past its mark. Returns whether it was killed; false: it
/// was done before, as it says in `b`.
bool killed_after_instruction(visitor& v, const board& b, int n) {
  EXPECT_EQ(::ptrace(PTRACE_SEIZE, v.pid(), nullptr, PTRACE_O_TRACESYSGOOD), 0);
  ::ptrace(PTRACE_INTERRUPT, v.pid(), nullptr, nullptr);
  int status = 0;
  ::waitpid(v.pid(), &status, __WALL);
  v.tell("step_add");
  const auto at_mark = [&] {
    __ptrace_syscall_info info{};
    return WSTOPSIG(status) == (SIGTRAP | 0x80) && ::ptrace(PTRACE_GET_SYSCALL_INFO, v.pid(), sizeof info, &info) > 0 &&
           info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_getppid;
  };
  do {
    ::ptrace(PTRACE_SYSCALL, v.pid(), nullptr, nullptr);
    ::waitpid(v.pid(), &status, __WALL);
  } while (WIFSTOPPED(status) && !at_mark());
  for (int i = 0; i < n; ++i) {
    ::ptrace(PTRACE_SINGLESTEP, v.pid(), nullptr, nullptr);
    ::waitpid(v.pid(), &status, __WALL);
    if (b.steps_done.load() != 0) return false;
  }
  return true;
}

TEST(NamedKill, AnOwnerKilledAfterAnyInstructionIsToldOf) {
  if (sanitized) GTEST_SKIP() << "a sanitizer makes of each instruction many";
  auto b = covey::create<board>(own_name());
  int n = 1, told = 0, value = 0;
  for (;; ++n) {
    SCOPED_TRACE(n);
    visitor victim;
    EXPECT_EQ(victim.ask("attach " + own_name()), "found");
    b->steps_done = 0;
    const bool killed = killed_after_instruction(victim, *b, n);
    victim.kill();
    try {
      EXPECT_TRUE(b->lock.lock_for(10s));
    } catch (const covey::owner_died&) {
      ++told;
      EXPECT_TRUE(b->lock.recover([] {}));
      EXPECT_TRUE(b->lock.lock_for(10s));
    }
    EXPECT_THAT(b->value - value, testing::AnyOf(0, 1));
    value = b->value;
    b->lock.unlock();
    if (!killed || HasFailure()) break;
  }
  std::printf("killed after each of %d instructions, %d times as the owner\n", n - 1, told);
  EXPECT_GT(told, 10);
  EXPECT_GT(n, told + 10);
}

// ---- strangers ------------------------------------------------------------------------------------------------------

constexpr unsigned stranger = 65534;

#define NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user"

TEST(NamedStranger, CannotAttachUnlessItIsSharedWithAnyone) {
  NEEDS_ROOT();
  const auto own = covey::create<board>(own_name());
  const auto open = covey::create<board>({.name = own_name() + ".open", .with = covey::sharing::anyone});
  visitor v;
  ASSERT_EQ(v.ask("user " + std::to_string(stranger)), "ok");
  EXPECT_THAT(v.ask("attach " + own_name() + " 10000 0"),
              HasSubstr("is not shared with user 65534: Permission denied"));
  EXPECT_EQ(v.ask("attach " + own_name() + ".open 10000 0"), "found");
  EXPECT_THAT(v.ask("open " + own_name() + ".none 10000 0"), HasSubstr("only user 0 can make it"));
  EXPECT_EQ(v.ask("open " + own_name()), "made");  // its own name, which is another
}

TEST(NamedStranger, OfTheMakersGroupMayAttachWhatIsSharedWithIt) {
  NEEDS_ROOT();
  const auto own = covey::create<board>(own_name());
  const auto shared = covey::create<board>({.name = own_name() + ".group", .with = covey::sharing::group});
  visitor member, other;
  ASSERT_EQ(member.ask("user " + std::to_string(stranger) + ' ' + std::to_string(::getegid())), "ok");
  ASSERT_EQ(other.ask("user " + std::to_string(stranger)), "ok");
  EXPECT_EQ(member.ask("attach " + own_name() + ".group 10000 0"), "found");
  EXPECT_THAT(member.ask("attach " + own_name() + " 10000 0"), HasSubstr("Permission denied"));
  EXPECT_THAT(other.ask("attach " + own_name() + ".group 10000 0"), HasSubstr("Permission denied"));
}

TEST(NamedStranger, WhoTakesTheNameFirstIsNamed) {
  NEEDS_ROOT();
  const std::string path = "covey/0/" + own_name();
  int listens[2];
  ASSERT_EQ(::pipe(listens), 0);
  const pid_t squatter = ::fork();
  if (squatter == 0) {
    if (::setresuid(stranger, stranger, stranger) != 0) ::_exit(1);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path + 1, path.data(), path.size());
    const int s = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (s < 0 ||
        ::bind(s, reinterpret_cast<sockaddr*>(&at),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size())) != 0 ||
        ::listen(s, 10) != 0)
      ::_exit(2);
    (void)!::write(listens[1], "", 1);
    for (;;) ::pause();
  }
  ::close(listens[1]);
  char c = 0;
  ASSERT_EQ(::read(listens[0], &c, 1), 1);
  ::close(listens[0]);
  const std::string what = error_of([] { (void)covey::open_or_create<board>(own_name()); });
  EXPECT_THAT(what, AllOf(HasSubstr("is held by user 65534"), HasSubstr(std::to_string(squatter)),
                          HasSubstr("Permission denied")));
  ::kill(squatter, SIGKILL);
  ::waitpid(squatter, nullptr, 0);
}

// ---- peers that speak nonsense --------------------------------------------------------------------------------------

class raw_peer {
 public:
  explicit raw_peer(const std::string& name) {
    const std::string path = "covey/" + std::to_string(::geteuid()) + "/" + name;
    at_.sun_family = AF_UNIX;
    std::memcpy(at_.sun_path + 1, path.data(), path.size());
    bytes_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  }
  [[nodiscard]] bool connect() { return ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&at_), bytes_) == 0; }
  void serve() {
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&at_), bytes_), 0);
    ASSERT_EQ(::listen(socket_.get(), 10), 0);
  }
  [[nodiscard]] int accept() const { return ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC); }
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  sockaddr_un at_{};
  socklen_t bytes_ = 0;
  unique_fd socket_;
};

TEST(NamedGarbage, FromClientsEndsTheirConnectionOnly) {
  const auto b = covey::create<board>(own_name());
  std::vector<std::unique_ptr<raw_peer>> silent;  // more than the doorman has seats
  for (int i = 0; i < 40; ++i) {
    silent.push_back(std::make_unique<raw_peer>(own_name()));
    ASSERT_TRUE(silent.back()->connect());
  }
  for (const std::size_t size : {1U, 11U, 12U, 100U, 1024U, 1025U, 60000U}) {
    raw_peer p(own_name());
    ASSERT_TRUE(p.connect());
    const std::vector<char> bytes(size, 'x');
    ASSERT_GT(::send(p.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
    char answer = 0;
    EXPECT_EQ(::recv(p.fd(), &answer, 1, 0), 0) << size;
  }
  visitor v;
  EXPECT_EQ(v.ask("attach " + own_name()), "found");
}

TEST(NamedGarbage, AnotherVersionIsToldWhichOneThisIs) {
  const auto b = covey::create<board>(own_name());
  raw_peer p(own_name());
  ASSERT_TRUE(p.connect());
  auto hello = covey::detail::format_hello({.wanted = covey::detail::make_shape(4, 4, 0, typeid(int))});
  hello[8] = std::byte{99};
  ASSERT_GT(::send(p.fd(), hello.data(), hello.size(), MSG_NOSIGNAL), 0);
  std::array<std::byte, 2000> answer;
  const ssize_t n = ::recv(p.fd(), answer.data(), answer.size(), 0);
  ASSERT_GT(n, 12);
  EXPECT_EQ(covey::detail::version_of(std::span(answer).first(static_cast<std::size_t>(n))),
            covey::detail::named_version);
}

/// What a program says that is answered with `answer` and `fds`.
std::string answered_with(const std::vector<std::byte>& answer, const std::vector<int>& fds = {}) {
  raw_peer server(own_name());
  server.serve();
  std::string what;
  std::jthread client(
      [&, name = own_name()] { what = error_of([&] { (void)covey::attach<int>({.name = name, .patience = 60s}); }); });
  const unique_fd guest(server.accept());
  std::array<std::byte, 2000> hello;
  EXPECT_GT(::recv(guest.get(), hello.data(), hello.size(), 0), 0);
  std::vector<int> given = fds;
  if (!given.empty() && given.back() == -2) given.back() = server.fd();
  EXPECT_TRUE(covey::detail::send_message(guest.get(), answer.data(), answer.size(), given));
  client.join();
  return what;
}

covey::detail::named_answer good_answer() {
  return {.bytes = 8192,
          .holds =
              covey::detail::make_shape(4, 4, covey::detail::layout_of<int>(covey::detail::layout_start), typeid(int))};
}

TEST(NamedGarbage, FromServersIsAnError) {
  EXPECT_THAT(answered_with(std::vector<std::byte>(100)), HasSubstr("does not speak as covey does"));
  EXPECT_THAT(answered_with(std::vector<std::byte>(5000)), HasSubstr("does not speak as covey does"));
  auto newer = covey::detail::format_answer(good_answer());
  newer[8] = std::byte{2};
  EXPECT_THAT(answered_with(newer), HasSubstr("of covey's layout 2, this program is of layout 1"));
  auto cut = covey::detail::format_answer(good_answer());
  cut.pop_back();
  EXPECT_THAT(answered_with(cut), HasSubstr("does not speak as covey does"));
}

TEST(NamedGarbage, DescriptorsAreNotTakenOnTrust) {
  const auto answer = covey::detail::format_answer(good_answer());
  EXPECT_THAT(answered_with(answer), HasSubstr("makes no sense"));
  const unique_fd shrinks(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(shrinks.get(), 8192), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("not sealed and reserved"));
  const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(answered_with(answer, {file.get(), -2}), HasSubstr("not sealed and reserved"));
  ASSERT_EQ(::fcntl(shrinks.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("not sealed and reserved"));
  ASSERT_EQ(::fallocate(shrinks.get(), 0, 0, 8192), 0);
  EXPECT_THAT(answered_with(answer, {shrinks.get(), file.get()}), HasSubstr("another socket"));
  EXPECT_THAT(answered_with(answer, {shrinks.get(), -2}), HasSubstr("does not begin as it should"));
}

}  // namespace
