/// @file
/// For tests of wakes: those who sleep for an hour unless somebody wakes them, in processes and in threads, and what
/// must end their sleep. As a rule a sleeper looks again after a second, and a test in which he was not woken passes.
#pragma once

#include <gtest/gtest.h>
#include <atomic>
#include <chrono>
#include <covey/memory/park.hpp>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace covey::testing {

/// While one lives, nobody looks again by himself; nor in processes that are forked meanwhile.
class no_second_look {
 public:
  no_second_look() { detail::look_again_after = std::chrono::hours(1); }
  no_second_look(const no_second_look&) = delete;
  no_second_look& operator=(const no_second_look&) = delete;
  ~no_second_look() { detail::look_again_after = before_; }

 private:
  std::chrono::seconds before_ = detail::look_again_after;
};

/// A test of that: in it nobody looks again by himself.
class Sleeper : public ::testing::Test {
 protected:
  void SetUp() override;  ///< Skips where nothing can be forked.

 private:
  no_second_look alone_;
};

/// A token whose stop may be requested, and never is.
std::stop_token never_stopped();

/// Something that several wait for in World, and how they do.
template <class World>
struct wait_in {
  /// A way to wait.
  struct way {
    const char* name;                   ///< for the reader of a failure
    std::function<bool(World&)> wait;   ///< returns whether it came to what it should have
  };

  std::function<World()> make = [] { return World(); };  ///< a new one for each way
  /// Keeps others waiting while the function runs, and lets them go on afterwards.
  std::function<void(World&, const std::function<void()>&)> around{};
  std::vector<way> ways{};    ///< each is tried alone
  std::size_t sleepers = 2;   ///< who wait in the same way at once; at most 4
  bool deaths_wake = false;   ///< the one who lives wakes them as a death does
};

/// A wait without the type of the World, as above.
struct wait_to_end {
  std::string name;                                          ///< of the way
  std::function<void(const std::function<void()>&)> around;  ///< in the World
  std::function<bool()> wait;                                ///< in the World
  std::size_t sleepers;                                      ///< how many
};

/// Expects that all are woken by another process, which lives on. False: another's death came between, and may have
/// woken them.
bool woken_in_processes(const wait_to_end& w);
/// The same by another thread.
bool woken_in_threads(const wait_to_end& w);
/// Expects that all waits end as they should when the one who is inside `around` is killed.
bool told_of_death(const wait_to_end& w);

/// Calls `ended` for each way to wait, in a new World, until it is certain.
template <class World>
void expect_end_of_each(const wait_in<World>& all, bool (*ended)(const wait_to_end&)) {
  for (const auto& way : all.ways) {
    const auto once = [&] {
      World w = all.make();
      return ended({way.name, [&](const std::function<void()>& f) { all.around(w, f); }, [&] { return way.wait(w); },
                    all.sleepers});
    };
    for (int n = 1; !once() && !all.deaths_wake; ++n) ASSERT_LT(n, 20) << way.name << ": somebody died each time";
  }
}

/// Expects that who waits, in each way, is woken by another thread.
template <class World>
void expect_woken_by_a_thread(const wait_in<World>& all) {
  expect_end_of_each(all, woken_in_threads);
}

/// Expects that who waits, in each way, is woken by one who lives: a process, and a thread.
template <class World>
void expect_woken(const wait_in<World>& all) {
  expect_end_of_each(all, woken_in_processes);
  expect_end_of_each(all, woken_in_threads);
}

/// Expects that each way to wait ends as it should when the one who is inside `around` is killed.
template <class World>
void expect_told_of_death(const wait_in<World>& all) {
  expect_end_of_each(all, told_of_death);
}

/// What is waited for with a token, and how many waits have ended.
template <class Object>
struct with_stop {
  Object object;  ///< which nobody changes meanwhile
  std::stop_source source{};  ///< of the token
  std::shared_ptr<std::atomic<int>> ended = std::make_shared<std::atomic<int>>(0);  ///< in this process
};

/// Expects that `wait(object, token)`, by two threads, returns false once a stop is requested, and while nothing else
/// comes: `around` keeps them waiting, if it is needed.
template <class Object, class Around, class Wait>
void expect_stopped(const char* name, const Object& object, Around around, Wait wait) {
  using world = with_stop<Object>;
  const auto stop = [around](world& w, const std::function<void()>& sleep) {
    around(w.object, [&] {
      sleep();
      w.source.request_stop();
      while (*w.ended != 2) std::this_thread::yield();
    });
  };
  const auto wait_until_stopped = [wait](world& w) {
    const bool came = wait(w.object, w.source.get_token());
    ++*w.ended;
    return !came;
  };
  expect_woken_by_a_thread<world>(
      {.make = [object] { return world{object}; }, .around = stop, .ways = {{name, wait_until_stopped}}});
}

/// For expect_stopped: nobody need do anything.
inline constexpr auto around_nothing = [](auto&, const auto& f) { f(); };

/// Whether `f()` throws Exception.
template <class Exception, class F>
bool throws(const F& f) {
  try {
    f();
  } catch (const Exception&) {
    return true;
  }
  return false;
}

}  // namespace covey::testing
