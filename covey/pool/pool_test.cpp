// Real workers; some crash, some are killed. A crash costs its own task and nothing else.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <covey/memory/shared_ptr.hpp>
#include <covey/pool/process_pool.hpp>
#include <covey/sync/event.hpp>

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <ranges>

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] void crash() {
  asm volatile("");
  *static_cast<volatile int*>(nullptr) = 1;  // NOLINT(clang-analyzer-core.NullDereference): on purpose
}

int square(int n) { return n * n; }

TEST(Pool, ReturnsTheValueOfATask) {
  covey::process_pool pool;
  auto f = pool.submit(square, 7);
  auto g = pool.submit(
      [](std::string_view a, const std::vector<int>& b) { return std::string(a) + std::to_string(b.size()); },
      "n=", std::vector<int>{1, 2, 3});
  auto h = pool.submit([] {});
  EXPECT_EQ(f.get(), 49);
  EXPECT_EQ(g.get(), "n=3");
  EXPECT_NO_THROW(h.get());
  EXPECT_FALSE(f.valid());
  EXPECT_THROW((void)f.get(), std::future_error);
}

TEST(Pool, RunsTasksInOtherProcessesAtTheSameTime) {
  covey::process_pool pool{{.workers = 2}};
  const covey::event a;
  const covey::event b;
  const auto meet = [](covey::event mine, covey::event other) {
    mine.set();
    other.wait();
    return ::getpid();
  };
  auto f = pool.submit(meet, a, b);
  auto g = pool.submit(meet, b, a);
  const pid_t first = f.get();
  const pid_t second = g.get();
  EXPECT_NE(first, second);
  EXPECT_NE(first, ::getpid());
}

TEST(Pool, ThrowsTheTasksOwnException) {
  covey::process_pool pool{{.workers = 1}};
  auto f = pool.submit([](int i) -> int { throw std::out_of_range("shelf " + std::to_string(i)); }, 9);
  EXPECT_THROW(
      {
        try {
          f.get();
        } catch (const std::out_of_range& e) {
          EXPECT_STREQ(e.what(), "shelf 9");
          throw;
        }
      },
      std::out_of_range);
}

TEST(Pool, ACrashCostsOneTask) {
  covey::process_pool pool{{.workers = 2}};
  std::vector<covey::future<int>> good;
  auto bad = pool.submit(crash);
  for (int i = 0; i < 50; ++i) good.push_back(pool.submit(square, i));
  try {
    bad.get();
    FAIL() << "no exception";
  } catch (const covey::worker_died& e) {
    EXPECT_EQ(e.signal(), SIGSEGV);
    EXPECT_NE(covey::to_string(e.backtrace()).find("crash"), std::string::npos) << covey::to_string(e.backtrace());
  }
  for (int i = 0; i < 50; ++i) EXPECT_EQ(good[static_cast<std::size_t>(i)].get(), i * i);
  EXPECT_EQ(pool.workers_replaced(), 1U);
}

TEST(Pool, ReportsATaskThatEndsItsProcess) {
  covey::process_pool pool{{.workers = 1}};
  auto f = pool.submit([] { ::_exit(3); });
  try {
    f.get();
    FAIL() << "no exception";
  } catch (const covey::worker_died& e) {
    EXPECT_EQ(e.signal(), 0);
    EXPECT_EQ(e.status().code(), 3);
  }
  EXPECT_EQ(pool.submit(square, 3).get(), 9);
}

TEST(Pool, KillsAndReplacesAWorkerWhoseProgramATaskReplaced) {
  covey::process_pool pool{{.workers = 1}};
  auto f = pool.submit([] { ::execl("/bin/sleep", "sleep", "1000", nullptr); });
  try {
    f.get();
    FAIL() << "no exception";
  } catch (const covey::worker_died& e) {
    EXPECT_EQ(e.signal(), SIGKILL);
  }
  EXPECT_EQ(pool.submit(square, 3).get(), 9);
}

TEST(Pool, MapKeepsTheOrder) {
  covey::process_pool pool;
  std::vector<int> in(1000);
  for (int i = 0; i < 1000; ++i) in[static_cast<std::size_t>(i)] = i;
  const auto out = pool.map(square, in);
  ASSERT_EQ(out.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], i * i);
  EXPECT_TRUE(pool.map(square, std::vector<int>{}).empty());
}

TEST(Pool, MapPassesTheSameCommonArgumentsToEachCall) {
  covey::process_pool pool;
  const auto out = pool.map([](int i, std::string prefix, long n) { return prefix + std::to_string(i + n); },
                            std::views::iota(0, 5), "x", 100);
  EXPECT_EQ(out, (std::vector<std::string>{"x100", "x101", "x102", "x103", "x104"}));
}

TEST(Pool, MapThrowsTheFirstErrorInInputOrderAfterAllRan) {
  covey::process_pool pool{{.workers = 2}};
  const auto maybe = [](int i) {
    if (i == 700) throw std::runtime_error("late");
    if (i == 30) throw std::runtime_error("early");
    return i;
  };
  try {
    (void)pool.map(maybe, std::views::iota(0, 1000));
    FAIL() << "no exception";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "early");
  }
}

TEST(Pool, ACrashInAMapCostsOneElement) {
  covey::process_pool pool{{.workers = 2}};
  const auto maybe = [](int i) {
    if (i % 100 == 50) crash();
    return i;
  };
  const auto outcomes = pool.map_outcomes(maybe, std::views::iota(0, 400));
  ASSERT_EQ(outcomes.size(), 400U);
  for (int i = 0; i < 400; ++i) {
    const auto& o = outcomes[static_cast<std::size_t>(i)];
    if (i % 100 == 50) {
      EXPECT_FALSE(o.has_value()) << i;
      EXPECT_THROW((void)o.value(), covey::worker_died);
    } else {
      EXPECT_EQ(o.value(), i);
    }
  }
  EXPECT_EQ(pool.workers_replaced(), 4U);
}

TEST(Pool, ImapUnorderedGivesAnswersAsTheyFinish) {
  covey::process_pool pool{{.workers = 2}};
  const covey::event go;
  const auto wait_for_zero = [](int i, covey::event e) {
    if (i == 0) e.wait();
    if (i == 5) e.set();
    return i;
  };
  std::vector<int> order;
  for (const int i : pool.imap_unordered(wait_for_zero, std::views::iota(0, 10), go)) order.push_back(i);
  EXPECT_EQ(order.size(), 10U);
  EXPECT_NE(order.front(), 0);
  std::sort(order.begin(), order.end());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Pool, ImapMayBeContinuedAfterAnError) {
  covey::process_pool pool{{.workers = 2}};
  const auto odd_fails = [](int i) {
    if (i % 2 == 1) throw std::runtime_error("odd");
    return i;
  };
  int good = 0;
  int bad = 0;
  auto answers = pool.imap(odd_fails, std::views::iota(0, 20));
  for (auto it = answers.begin(); it != answers.end(); ++it) {
    try {
      EXPECT_EQ(*it % 2, 0);
      ++good;
    } catch (const std::runtime_error&) {
      ++bad;
    }
  }
  EXPECT_EQ(good, 10);
  EXPECT_EQ(bad, 10);
}

TEST(Pool, LeavingTheLoopCancelsTheRest) {
  covey::process_pool pool{{.workers = 1}};
  int pulled = 0;
  auto endless = std::views::iota(0) | std::views::transform([&](int i) { return ++pulled, i; });
  for (const int i : pool.imap_unordered(square, endless))
    if (i > 50) break;
  EXPECT_LT(pulled, 30) << "input is read a little ahead only";
  EXPECT_EQ(pool.submit(square, 2).get(), 4);
}

TEST(Pool, CancelsATaskThatHasNotStarted) {
  covey::process_pool pool{{.workers = 1}};
  covey::event go;
  std::vector<covey::future<void>> busy;
  for (int i = 0; i < 3; ++i) busy.push_back(pool.submit([](covey::event e) { e.wait(); }, go));
  auto never = pool.submit(square, 1);
  EXPECT_TRUE(never.cancel());
  EXPECT_THROW((void)never.get(), covey::task_cancelled);
  EXPECT_FALSE(busy[0].cancel());
  EXPECT_EQ(busy[0].wait_for(0.5ms), std::future_status::timeout);
  EXPECT_EQ(busy[0].wait_until(std::chrono::system_clock::now() + 1ms), std::future_status::timeout);
  go.set();
  for (auto& b : busy) b.get();
}

// Tasks are given by who submits and by who takes answers: two producers, whose tasks a worker gets in any order.
TEST(Pool, ChargesADeathToTheTaskThatRan) {
  covey::process_pool pool{{.workers = 2}};
  for (int round = 0; round < 40; ++round) {
    const auto runs = covey::make_shared<std::array<std::atomic<int>, 100>>();
    const auto outcomes = pool.map_outcomes(
        [](int n, covey::shared_ptr<std::array<std::atomic<int>, 100>> counts) {
          ++(*counts)[static_cast<std::size_t>(n)];
          if (n == 50) ::raise(SIGKILL);
        },
        std::views::iota(0, 100), runs);
    for (std::size_t n = 0; n < 100; ++n) {
      EXPECT_EQ(outcomes[n].has_value(), n != 50) << "round " << round << ", element " << n;
      EXPECT_EQ((*runs)[n], 1) << "round " << round << ", element " << n;
    }
    if (HasFailure()) return;
  }
}

TEST(Pool, RunsATaskAgainWhoseWorkerDied) {
  const auto file = std::filesystem::temp_directory_path() / ("covey_retry." + std::to_string(::getpid()));
  std::filesystem::remove(file);
  covey::process_pool pool{{.workers = 1}};
  auto f = pool.submit(
      covey::task_options{.retries = 3},
      [](std::string path) {
        std::ofstream(path, std::ios::app) << 'x';
        if (std::filesystem::file_size(path) < 3) ::raise(SIGKILL);
        return std::filesystem::file_size(path);
      },
      file.string());
  EXPECT_EQ(f.get(), 3U);
  std::filesystem::remove(file);
}

TEST(Pool, GoesOnWhileItsWorkersAreKilledAtRandom) {
  const auto begun = std::chrono::steady_clock::now();
  covey::process_pool pool{{.workers = 3}};
  EXPECT_EQ(pool.submit(square, 3).get(), 9);
  // Workers that are killed before they begin anything, one after another, end the pool.
  const auto pause = std::max<std::chrono::nanoseconds>(3ms, 3 * (std::chrono::steady_clock::now() - begun));
  std::mt19937 random(5);
  std::atomic<bool> done = false;
  std::atomic<int> kills = 0;
  std::jthread killer([&] {
    while (!done) {
      std::this_thread::sleep_for(pause);
      const auto pids = pool.worker_pids();
      ::kill(pids[random() % pids.size()], SIGKILL);
      ++kills;
    }
  });
  int answered = 0;
  int died = 0;
  for (int round = 0; round < 20; ++round) {
    for (const auto& o : pool.map_outcomes(square, std::views::iota(0, 2000))) {
      try {
        (void)o.value();
        ++answered;
      } catch (const covey::worker_died&) {
        ++died;
      }
    }
  }
  done = true;
  killer.join();
  EXPECT_EQ(answered + died, 40'000);
  EXPECT_LE(died, kills);
  EXPECT_GT(answered, 39'000);
  const auto quiet = pool.map(square, std::views::iota(0, 1000));
  EXPECT_EQ(quiet.back(), 999 * 999);
}

TEST(Pool, FinishesWhatWasSubmittedBeforeItEnds) {
  std::vector<covey::future<int>> futures;
  {
    covey::process_pool pool{{.workers = 2}};
    for (int i = 0; i < 100; ++i) futures.push_back(pool.submit(square, i));
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i * i);
}

// One that died as the pool ended was replaced, and the destructor waited for the new one.
TEST(Pool, EndsAlsoWhenAWorkerDiesJustThen) {
  for (int round = 0; round < 60; ++round) {
    covey::process_pool pool{{.workers = 4}};
    ::kill(pool.worker_pids().back(), SIGKILL);
    std::this_thread::sleep_for(round * 50us);
  }
}

TEST(Pool, AFutureMayBeCancelledAfterItsPoolIsGone) {
  covey::future<int> f;
  {
    covey::process_pool pool{{.workers = 1}};
    f = pool.submit(square, 3);
  }
  EXPECT_FALSE(f.cancel());
  EXPECT_EQ(f.get(), 9);
}

// What a chunk named was gone before the chunk was sent; and the pool then waited for a task that nobody had.
TEST(Pool, MapTakesTemporaryHandles) {
  covey::process_pool pool{{.workers = 1}};
  const auto events = std::views::iota(0, 100) | std::views::transform([](int i) {
                        covey::event e;
                        if (i % 3 == 0) e.set();
                        return e;
                      });
  int set = 0;
  for (const bool is_set : pool.map([](covey::event e) { return e.is_set(); }, events)) set += is_set ? 1 : 0;
  EXPECT_EQ(set, 34);

  int clear = 0;
  for (const bool is_set :
       pool.imap([](int, covey::event e) { return e.is_set(); }, std::views::iota(0, 20), covey::event()))
    clear += is_set ? 0 : 1;
  EXPECT_EQ(clear, 20);
}

TEST(Pool, MayBeUsedInsideATask) {
  covey::process_pool pool{{.workers = 2}};
  auto f = pool.submit([] {
    covey::process_pool inner{{.workers = 2}};
    int sum = 0;
    for (const int n : inner.map(square, std::views::iota(0, 10))) sum += n;
    return sum;
  });
  EXPECT_EQ(f.get(), 285);
}

TEST(Pool, CarriesLargeArgumentsAndResults) {
  covey::process_pool pool{{.workers = 1}};
  const std::vector<double> big(2'000'000, 1.5);
  auto f = pool.submit(
      [](std::vector<double> v) {
        v.push_back(2.5);
        return v;
      },
      big);
  const auto back = f.get();
  EXPECT_EQ(back.size(), big.size() + 1);
  EXPECT_EQ(back.back(), 2.5);
}

TEST(Pool, GoesOnWhenNeitherTasksNorAnswersFitTheirQueues) {
  covey::process_pool pool{{.workers = 1, .bytes = 64 << 10}};
  std::vector<int> all(100);
  std::iota(all.begin(), all.end(), 0);
  const auto repeat = [](int n, const std::string&) { return std::string(10'000, static_cast<char>('a' + n % 26)); };
  const auto answers = pool.map(repeat, all, std::string(40'000, 'x'));
  ASSERT_EQ(answers.size(), all.size());
  for (const int n : all) EXPECT_EQ(answers[n], std::string(10'000, static_cast<char>('a' + n % 26)));
}

TEST(Pool, ATaskThatDoesNotFitYetBlocksNobody) {
  covey::process_pool pool{{.workers = 1, .bytes = 64 << 10}};
  const pid_t stopped = pool.worker_pids().front();
  ::kill(stopped, SIGSTOP);
  const auto size = [](const std::string& s) { return s.size(); };
  std::vector<covey::future<std::size_t>> sizes;
  for (int i = 0; i < 5; ++i) sizes.push_back(pool.submit(size, std::string(40'000 + i, 'x')));
  ::kill(stopped, SIGKILL);  // what it had not begun goes to the next
  for (int i = 0; i < 5; ++i) EXPECT_EQ(sizes[i].get(), 40'000U + i);
}

// The worker that has it does not go on, once it has answered, before it may.
struct lingering {
  std::string bulk;
  covey::event may_leave;
  static inline bool answers = false;

  lingering(std::string b, covey::event e) : bulk(std::move(b)), may_leave(std::move(e)) {}
  lingering(const lingering&) = default;
  ~lingering() {
    if (answers) may_leave.wait();
  }
};

}  // namespace

template <>
struct covey::travel_as<lingering> {
  static std::pair<std::string, covey::event> pack(const lingering& l) { return {l.bulk, l.may_leave}; }
  static lingering unpack(std::pair<std::string, covey::event> p) { return {std::move(p.first), std::move(p.second)}; }
};

namespace {

// The worker has nothing to do, but still the bytes of its last task in hand: no answer will come that would tell when
// there is room. False: the pool's own thread, which puts into other memory, had not done with the last answer yet and
// handed the next task out.
bool waits_where_nothing_is_to_do() {
  covey::process_pool pool{{.workers = 1, .bytes = 4 << 20}};
  const std::string bulk(3'700'000, 'x');
  covey::event may_leave;
  const auto size = [](const lingering& l) {
    lingering::answers = true;
    return l.bulk.size();
  };
  EXPECT_EQ(pool.map(size, std::vector{lingering(bulk, may_leave)}), std::vector{bulk.size()});
  auto next = pool.submit([](const std::string& s) { return s.size(); }, bulk);
  const bool waits = pool.waiting_approx() == 1;
  may_leave.set();
  EXPECT_EQ(next.wait_for(20s), std::future_status::ready) << "nobody hands it out";
  EXPECT_EQ(pool.submit(square, 2).get(), 4);  // and it, too
  EXPECT_EQ(next.get(), bulk.size());
  return waits;
}

TEST(Pool, ATaskThatDoesNotFitWhereNothingIsToDoIsHandedOutLater) {
  int tries = 50;
  while (!waits_where_nothing_is_to_do() && --tries > 0) {
  }
  EXPECT_GT(tries, 0);
}

TEST(Pool, RefusesWhatNeverFits) {
  covey::process_pool pool{{.workers = 1, .bytes = 64 << 10}};
  const auto size = [](const std::string& s) { return s.size(); };
  auto f = pool.submit(size, std::string(100'000, 'x'));
  EXPECT_THROW((void)f.get(), std::length_error);
  EXPECT_EQ(pool.submit(size, std::string(1'000, 'x')).get(), 1'000U);
}

}  // namespace
