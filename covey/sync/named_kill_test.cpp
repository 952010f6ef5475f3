// Programs that share named memory, killed at every step: at every system call, which is enough where nobody else has a
// descriptor of the memory in between, or after every instruction.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include <covey/sync/named_board.hpp>
#include <covey/testing/named_visitor.hpp>
#include <covey/testing/settle.hpp>

namespace {

#ifndef __has_feature
#define __has_feature(x) 0
#endif
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
constexpr int stride = sanitized ? 10 : 1;  // where every step costs more, and there are more of them

using namespace std::chrono_literals;
using namespace covey::testing;
using covey::detail::named_board::board;

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

}  // namespace
