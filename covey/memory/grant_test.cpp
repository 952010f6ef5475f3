// What a process may do with a region that it was granted, and what all learn when one of them finds it damaged. Writes
// that are not granted end real processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/event.hpp>

#include <thread>

namespace {

using namespace std::chrono_literals;
using covey::detail::allow_writing;
using covey::detail::family;
using covey::detail::forbid_writing;
using covey::detail::is_damaged;
using covey::detail::region;
using covey::detail::region_kind;
using covey::detail::region_request;
using covey::detail::report_damage;

// A region as an argument.
template <region_kind Kind>
struct handle {
  using covey_handle = void;
  region r{region_request{.bytes = 4096, .kind = Kind}};
  void encode_handle(covey::detail::encoder& out) const { r.encode(out); }
  static handle decode_handle(covey::detail::decoder& in) { return {region::decode(in, Kind)}; }
  volatile int& number() const { return *reinterpret_cast<volatile int*>(r.data()); }
};
using lane = handle<region_kind::lane>;
using plain = handle<region_kind::plain>;

void settle() { covey::detail::ask_keeper(covey::detail::keeper_op::sync, {}).value(); }

int signal_that_ended(covey::process& p) { return p.join().signal(); }

TEST(Lane, IsReadOnlyForItsMaker) {
  covey::process maker{[] {
    const lane own;
    if (own.number() != 0) return;
    own.number() = 1;
  }};
  EXPECT_EQ(signal_that_ended(maker), SIGSEGV);
}

TEST(Lane, IsReadOnlyForWhoeverDecodesIt) {
  const lane shared;
  allow_writing(shared.r).value();
  shared.number() = 7;
  covey::process reader{[](lane l) { return static_cast<int>(l.number()); }, shared};
  EXPECT_EQ(reader.join().code(), 7);
  covey::process writer{[](lane l) { l.number() = 8; }, shared};
  EXPECT_EQ(signal_that_ended(writer), SIGSEGV);
  EXPECT_EQ(shared.number(), 7);
}

TEST(Lane, IsWritableForTheOneWhoAllowsItUntilItForbids) {
  const lane shared;
  covey::process writer{[](lane l) {
                          allow_writing(l.r).value();
                          l.number() = 1;
                          forbid_writing(l.r).value();
                          l.number() = 2;
                        },
                        shared};
  EXPECT_EQ(signal_that_ended(writer), SIGSEGV);
  EXPECT_EQ(shared.number(), 1);
}

TEST(Lane, IsReadOnlyAgainWhenItWasGivenUpAndHeldAnew) {
  const lane shared;
  covey::process writer{[](std::uint64_t id) {
                          {
                            const region r = region::hold(id);
                            allow_writing(r).value();
                            *reinterpret_cast<volatile int*>(r.data()) = 1;
                          }
                          const region again = region::hold(id);
                          *reinterpret_cast<volatile int*>(again.data()) = 2;
                        },
                        shared.r.id()};
  EXPECT_EQ(signal_that_ended(writer), SIGSEGV);
  EXPECT_EQ(shared.number(), 1);
}

TEST(Damage, IsKnownToAllFromTheReportToTheEndOfTheRegion) {
  std::uint64_t id = 0;
  {
    const plain shared;
    const plain other;
    id = shared.r.id();
    EXPECT_FALSE(is_damaged(id));
    covey::process finder{[](plain p) {
                            report_damage(p.r.id());
                            settle();
                            return is_damaged(p.r.id()) ? 0 : 1;
                          },
                          shared};
    EXPECT_EQ(finder.join().code(), 0);
    EXPECT_TRUE(is_damaged(id));
    EXPECT_FALSE(is_damaged(other.r.id()));
  }
  settle();
  EXPECT_FALSE(is_damaged(id));
  for (int i = 0; i < 100; ++i) {  // among these is the entry that was damaged
    const plain fresh;
    EXPECT_FALSE(is_damaged(fresh.r.id()));
  }
}

TEST(Damage, IsNotBelievedOfAStranger) {
  const plain mine;
  covey::process stranger{[](std::uint64_t id) {
                            report_damage(id);
                            report_damage(~0ULL);
                            report_damage(0);
                            settle();
                          },
                          mine.r.id()};
  EXPECT_EQ(stranger.join().code(), 0);
  EXPECT_FALSE(is_damaged(mine.r.id()));
}

TEST(Damage, WakesWhoeverSleeps) {
  const plain shared;
  std::atomic<std::uint32_t> never{0};
  std::atomic<bool> sleeping = false;
  std::jthread sleeper([&] {
    for (;;) {
      const std::uint32_t deaths = covey::detail::deaths_seen();
      if (is_damaged(shared.r.id())) return;
      sleeping = true;
      (void)covey::detail::park(never, 0, deaths, std::nullopt);
    }
  });
  while (!sleeping) std::this_thread::yield();
  report_damage(shared.r.id());
  sleeper.join();
}

TEST(Damage, IsReportedAlthoughTheKeeperIsKilled) {
  for (int i = 0; i < 20; ++i) {
    const plain shared;
    const pid_t keeper = family.book->keeper_pid;
    if (i % 2 == 0) {
      report_damage(shared.r.id());
      ::kill(keeper, SIGKILL);
    } else {
      ::kill(keeper, SIGKILL);
      report_damage(shared.r.id());
    }
    settle();
    EXPECT_TRUE(is_damaged(shared.r.id()));
  }
}

}  // namespace
