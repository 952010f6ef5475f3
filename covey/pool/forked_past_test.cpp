// What becomes of a child that the program forked itself, past covey: it finds all handles of its parent in its memory
// and is no member of the family. Each verb either refuses with a sentence or does no harm; none crashes or hangs.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <covey/ipc.hpp>
#include <covey/memory.hpp>
#include <covey/pool.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

enum class outcome { refused, went_on, said_something_else };

std::ostream& operator<<(std::ostream& out, outcome o) {
  constexpr const char* names[] = {"refused", "went on", "said something else"};
  return out << names[static_cast<int>(o)];
}

outcome run(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const std::system_error& e) {
    if (std::string(e.what()).find("forked past covey") != std::string::npos) return outcome::refused;
    std::fprintf(stderr, "%s\n", e.what());
    return outcome::said_something_else;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return outcome::said_something_else;
  }
  return outcome::went_on;
}

// In a child of its own, which a hang ends. How it ended, as waitpid tells.
int run_forked_past(const std::function<void()>& operation) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(15);
    ::_exit(static_cast<int>(run(operation)));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

struct row {
  std::string verb;
  std::function<void()> operation;
  outcome expected = outcome::refused;
};

constexpr outcome harmless = outcome::went_on;

void expect_all(const std::vector<row>& table) {
  for (const row& r : table) {
    const int status = run_forked_past(r.operation);
    EXPECT_FALSE(WIFSIGNALED(status)) << r.verb << ": signal " << WTERMSIG(status);
    if (WIFSIGNALED(status)) continue;
    EXPECT_EQ(static_cast<outcome>(WEXITSTATUS(status)), r.expected) << r.verb;
  }
}

struct inside {
  covey::mutex mutex;
  covey::event event;
  covey::vector<int> numbers{1, 2, 3};
};

TEST(ForkedPast, Locks) {
  covey::mutex mutex, watched{{.detect_deadlock = true}}, locked;
  covey::recursive_mutex recursive, locked_twice;
  covey::shared_mutex shared, read_locked, write_locked;
  locked.lock();
  locked_twice.lock();
  locked_twice.lock();
  read_locked.lock_shared();
  write_locked.lock();
  expect_all({
      {"mutex copied", [&] { const covey::mutex copy = mutex; }, harmless},
      {"mutex moved",
       [&] {
         covey::mutex moved = std::move(mutex);
         mutex = std::move(moved);
       },
       harmless},
      {"mutex.lock", [&] { mutex.lock(); }},
      {"mutex.try_lock", [&] { (void)mutex.try_lock(); }},
      {"mutex.lock_for", [&] { (void)mutex.lock_for(1ms); }},
      {"mutex.lock, watched", [&] { watched.lock(); }},
      {"mutex.recover", [&] { mutex.recover([] {}); }},
      {"mutex.needs_recovery_approx", [&] { (void)mutex.needs_recovery_approx(); }, harmless},
      {"mutex.lock, its parent's", [&] { locked.lock(); }},
      {"mutex.needs_recovery_approx, its parent's", [&] { (void)locked.needs_recovery_approx(); }, harmless},
      {"mutex.unlock, its parent's", [&] { locked.unlock(); }, harmless},
      {"recursive_mutex.lock", [&] { recursive.lock(); }},
      {"recursive_mutex.try_lock", [&] { (void)recursive.try_lock(); }},
      {"recursive_mutex.lock_for", [&] { (void)recursive.lock_for(1ms); }},
      {"recursive_mutex.recover", [&] { recursive.recover([] {}); }},
      {"recursive_mutex.lock, its parent's", [&] { locked_twice.lock(); }},
      {"recursive_mutex.unlock, its parent's", [&] { locked_twice.unlock(); }, harmless},
      {"shared_mutex.lock", [&] { shared.lock(); }},
      {"shared_mutex.try_lock", [&] { (void)shared.try_lock(); }},
      {"shared_mutex.lock_for", [&] { (void)shared.lock_for(1ms); }},
      {"shared_mutex.lock_shared", [&] { shared.lock_shared(); }},
      {"shared_mutex.try_lock_shared", [&] { (void)shared.try_lock_shared(); }},
      {"shared_mutex.lock_shared_for", [&] { (void)shared.lock_shared_for(1ms); }},
      {"shared_mutex.recover", [&] { shared.recover([] {}); }},
      {"shared_mutex.lock, its parent's", [&] { write_locked.lock(); }},
      {"shared_mutex.lock, its parent reads", [&] { read_locked.lock(); }},
      {"shared_mutex.unlock, its parent's", [&] { write_locked.unlock(); }, harmless},
      {"shared_mutex.unlock_shared, its parent's", [&] { read_locked.unlock_shared(); }, harmless},
      {"shared_mutex.needs_recovery_approx", [&] { (void)write_locked.needs_recovery_approx(); }, harmless},
      {"mutex made", [] { const covey::mutex fresh; }},
  });
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
  EXPECT_EQ(covey::process([](covey::mutex m) { return m.try_lock() ? 1 : 0; }, locked).join().code(), 0);
  locked.unlock();
  locked_twice.unlock();
  locked_twice.unlock();
  read_locked.unlock_shared();
  write_locked.unlock();
  EXPECT_TRUE(write_locked.try_lock() && read_locked.try_lock());
}

TEST(ForkedPast, OtherSync) {
  covey::event event, set;
  covey::latch latch{2}, open{0};
  covey::barrier barrier{2};
  covey::condition_variable condition;
  covey::counting_semaphore<> semaphore{3}, empty{0};
  covey::permits permits{2}, gone{1};
  covey::once_flag once, done;
  covey::guarded<int> number{7};
  covey::guarded<std::string> text{"seven"};
  covey::mutex locked;
  set.set();
  gone.acquire();
  covey::call_once(done, [] {});
  const auto token = barrier.arrive();
  std::unique_lock lock(locked);
  expect_all({
      {"event copied", [&] { const covey::event copy = event; }, harmless},
      {"event.is_set", [&] { (void)event.is_set(); }, harmless},
      {"event.wait", [&] { set.wait(); }, harmless},
      {"event.wait_for", [&] { (void)event.wait_for(10ms); }, harmless},
      {"event.clear", [&] { event.clear(); }, harmless},
      {"event.set", [&] { event.set(); }, harmless},
      {"latch.wait", [&] { open.wait(); }, harmless},
      {"latch.try_wait", [&] { (void)latch.try_wait(); }, harmless},
      {"latch.wait_for", [&] { (void)latch.wait_for(10ms); }, harmless},
      {"latch.count_down", [&] { latch.count_down(); }, harmless},
      {"barrier.enlist", [&] { barrier.enlist(); }},
      {"barrier.arrive", [&] { (void)barrier.arrive(); }},
      {"barrier.wait_for", [&] { (void)barrier.wait_for(token, 10ms); }, harmless},
      {"barrier.arrive_and_wait", [&] { barrier.arrive_and_wait(); }},
      {"barrier.arrive_and_drop", [&] { barrier.arrive_and_drop(); }},
      {"condition_variable.wait_for", [&] { (void)condition.wait_for(lock, 10ms); }},
      {"condition_variable.wait_for, a predicate", [&] { (void)condition.wait_for(lock, 10ms, [] { return false; }); }},
      {"condition_variable.notify_one", [&] { condition.notify_one(); }, harmless},
      {"condition_variable.notify_all", [&] { condition.notify_all(); }, harmless},
      {"semaphore.acquire", [&] { semaphore.acquire(); }, harmless},
      {"semaphore.try_acquire_for", [&] { (void)empty.try_acquire_for(10ms); }, harmless},
      {"semaphore.release", [&] { semaphore.release(); }, harmless},
      {"permits.acquire", [&] { permits.acquire(); }},
      {"permits.try_acquire", [&] { (void)permits.try_acquire(); }},
      {"permits.try_acquire_for", [&] { (void)gone.try_acquire_for(10ms); }},
      {"permits.release", [&] { gone.release(); }},
      {"permits.available_approx", [&] { (void)gone.available_approx(); }, harmless},
      {"permit", [&] { const covey::permit p{permits}; }},
      {"permit, its parent's", [&] { const covey::permit p{gone, std::adopt_lock}; }, harmless},
      {"once_flag.done", [&] { (void)once.done(); }, harmless},
      {"call_once", [&] { covey::call_once(once, [] {}); }},
      {"call_once, done", [&] { covey::call_once(done, [] {}); }, harmless},
      {"guarded.load", [&] { (void)number.load(); }, harmless},
      {"guarded.load of a string", [&] { (void)text.load(); }, harmless},
      {"guarded.read", [&] { number.read([](int) {}); }, harmless},
      {"guarded.store", [&] { number.store(8); }},
      {"guarded.update", [&] { number.update([](int& n) { ++n; }); }},
      {"guarded.update of a string", [&] { text.update([](std::string& s) { s += "teen"; }); }},
      {"guarded.update_for", [&] { (void)number.update_for(10ms, [](int& n) { ++n; }); }},
      {"guarded copied", [&] { const covey::guarded<int> copy = number; }, harmless},
  });
  EXPECT_EQ(permits.available_approx(), 2);
  EXPECT_EQ(gone.owned_approx(), 1);
  EXPECT_EQ(number.load(), 7);
  EXPECT_EQ(text.load(), "seven");
  EXPECT_FALSE(once.done());
}

// Whatever queue it is.
template <class Queue>
std::vector<row> queue_table(Queue& q, const Queue& full, const Queue& in_hand) {
  return {
      {"copied", [&] { const Queue copy = q; }, harmless},
      {"put", [&] { q.put(1); }},
      {"try_put", [&] { (void)q.try_put(1); }},
      {"put_for, full", [&] { (void)full.put_for(1, 10ms); }},
      {"put_many", [&] { q.put_many(std::vector<int>{1, 2}); }},
      {"get", [&] { (void)full.get(); }},
      {"try_get", [&] { (void)q.try_get(); }},
      {"get_for", [&] { (void)q.get_for(10ms); }},
      {"get_many", [&] { (void)full.get_many(3); }},
      {"get_delivery", [&] { (void)full.get_delivery(); }},
      {"get_failed", [&] { (void)q.get_failed(); }},
      {"failed", [&] { (void)q.failed(); }},
      {"task_done", [&] { in_hand.task_done(); }},
      {"join_for", [&] { (void)full.join_for(10ms); }},
      {"size", [&] { (void)full.size(); }},
      {"empty", [&] { (void)full.empty(); }},
      {"size_approx", [&] { (void)full.size_approx(); }, harmless},
      {"capacity", [&] { (void)full.capacity(); }, harmless},
      {"close", [&] { q.close(); }},
      {"reader", [&] { (void)q.reader().try_get(); }},
      {"writer", [&] { q.writer().put(1); }},
      {"wait_any", [&] { (void)covey::wait_any_for(10ms, q); }},
      {"pollable", [&] { const covey::pollable p{q}; }},
      {"made", [] { const Queue fresh{4}; }},
  };
}

template <class Queue>
class ForkedPastQueue : public testing::Test {};
using queues = testing::Types<covey::queue<int>, covey::priority_queue<int>, covey::lifo_queue<int>>;
TYPED_TEST_SUITE(ForkedPastQueue, queues);

TYPED_TEST(ForkedPastQueue, Queues) {
  TypeParam q{4};
  const TypeParam full{1}, in_hand{4};
  full.put(1);
  in_hand.put(1);
  EXPECT_TRUE(in_hand.get());
  expect_all(queue_table(q, full, in_hand));
  const auto reader = q.reader();
  const auto writer = q.writer();
  reader.take_role();
  writer.put(1);
  expect_all({
      {"a used reader", [&] { (void)reader.try_get(); }},
      {"a used reader copied", [&] { const auto copy = reader; }},
      {"a used writer", [&] { writer.put(2); }},
      {"its end", [r = std::make_shared<decltype(q.reader())>(q.reader())]() mutable { r.reset(); }, harmless},
  });
  EXPECT_EQ(q.size(), 1U);
  EXPECT_EQ(full.get(), 1);
  in_hand.task_done();
}

TEST(ForkedPast, QueuesInPlace) {
  const covey::queue<std::vector<int>> q{4};
  auto loan = std::make_unique<covey::loaned<std::vector<int>>>(q.loan(1000));
  q.put(std::vector<int>(5000, 3));
  q.put(std::vector<int>(5000, 4));
  auto view = std::make_unique<covey::message_view<std::vector<int>>>(*q.get_view());
  expect_all({
      {"loan", [&] { (void)q.loan(10); }},
      {"a loan written", [&] { loan->elements()[0] = 1; }, harmless},
      {"publish", [&] { q.publish(*loan); }},
      {"try_publish", [&] { (void)q.try_publish(*loan); }},
      {"a loan's end", [&] { loan.reset(); }, harmless},
      {"get_view", [&] { (void)q.get_view(); }},
      {"a view read", [&] { (void)view->elements()[4999]; }, harmless},
      {"a view's end", [&] { view.reset(); }, harmless},
  });
  EXPECT_EQ(view->elements()[4999], 3);
  view.reset();
  q.publish(*loan);
  EXPECT_EQ(q.get()->front(), 4);
  EXPECT_EQ(q.get()->size(), 1000U);
}

TEST(ForkedPast, PipesAndBroadcasts) {
  const auto [here, there] = covey::make_pipe<int>();
  const auto [used, other] = covey::make_pipe<int>();
  used.put(1);
  const covey::broadcast<int> news{4};
  auto subscriber = std::make_unique<covey::subscriber<int>>(news.subscribe());
  news.put(1);
  expect_all({
      {"pipe.put", [&] { here.put(1); }},
      {"pipe.get_for", [&] { (void)there.get_for(10ms); }},
      {"pipe.put, used", [&] { used.put(1); }},
      {"pipe.close", [&] { used.close(); }},
      {"broadcast.put", [&] { news.put(2); }},
      {"broadcast.try_put", [&] { (void)news.try_put(2); }},
      {"broadcast.close", [&] { news.close(); }},
      {"broadcast.closed", [&] { (void)news.closed(); }, harmless},
      {"broadcast.capacity", [&] { (void)news.capacity(); }, harmless},
      {"broadcast.subscribers", [&] { (void)news.subscribers(); }},
      {"broadcast.subscribe", [&] { (void)news.subscribe(); }},
      {"broadcast made", [] { const covey::broadcast<int> fresh{4}; }},
      {"subscriber.get", [&] { (void)subscriber->get(); }},
      {"subscriber.try_get", [&] { (void)subscriber->try_get(); }},
      {"subscriber.get_for", [&] { (void)subscriber->get_for(10ms); }},
      {"subscriber.get_many", [&] { (void)subscriber->get_many(2); }},
      {"subscriber.missed", [&] { (void)subscriber->missed(); }},
      {"subscriber.closed", [&] { (void)subscriber->closed(); }, harmless},
      {"subscriber copied", [&] { const auto copy = *subscriber; }, harmless},
      {"subscriber's end", [&] { subscriber.reset(); }, harmless},
  });
  EXPECT_EQ(subscriber->get(), 1);
  EXPECT_EQ(news.subscribers(), 1U);
  EXPECT_EQ(other.get(), 1);
}

TEST(ForkedPast, Memory) {
  auto object = covey::make_shared<inside>();
  const auto array = covey::make_shared_array<int>(1000);
  const covey::weak_ptr<inside> weak = object;
  const covey::read_only<inside> only{object};
  const covey::shared_ptr<inside> none;
  expect_all({
      {"shared_ptr read", [&] { (void)object->numbers.at(2); }, harmless},
      {"shared_ptr copied", [&] { const auto copy = object; }, harmless},
      {"shared_ptr copied to const", [&] { const covey::shared_ptr<const inside> copy = object; }, harmless},
      {"shared_ptr assigned",
       [&] {
         covey::shared_ptr<inside> copy;
         copy = object;
         copy.reset();
       },
       harmless},
      {"shared_ptr.reset", [&] { object.reset(); }, harmless},
      {"make_shared", [] { (void)covey::make_shared<int>(1); }},
      {"make_shared_array", [] { (void)covey::make_shared_array<int>(10); }},
      {"shared_array read", [&] { (void)array[999]; }, harmless},
      {"shared_array copied", [&] { const auto copy = array; }, harmless},
      {"weak_ptr.lock", [&] { (void)weak.lock(); }},
      {"weak_ptr.expired",
       [&] {
         if (weak.expired()) throw std::logic_error("expired");
       },
       harmless},
      {"read_only read", [&] { (void)only->numbers.at(2); }, harmless},
      {"read_only copied", [&] { const auto copy = only; }, harmless},
      {"a shared vector grows", [&] { object->numbers.resize(10'000); }},
      {"a shared vector copied", [&] { const covey::vector<int> copy = object->numbers; }, harmless},
      {"stranded_bytes", [&] { (void)covey::stranded_bytes(object); }},
      {"a mutex in an object, first used", [&] { object->mutex.lock(); }},
      {"a mutex in an object copied", [&] { const covey::mutex copy = object->mutex; }, harmless},
  });
  object->mutex.lock();
  object->mutex.unlock();
  object->event.set();
  expect_all({
      {"a mutex in an object", [&] { object->mutex.lock(); }},
      {"an event in an object", [&] { object->event.set(); }, harmless},
  });
  EXPECT_EQ(object->numbers.size(), 3U);
}

TEST(ForkedPast, Processes) {
  auto child = std::make_unique<covey::process>(covey::process_options{.daemon = true}, [] {
    for (;;) ::pause();
  });
  std::unique_ptr<covey::process> forked;
  if (std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}) == 1)  // else it is refused
    forked = std::make_unique<covey::process>(covey::process::forked(
        [] {
          for (;;) ::pause();
          return 0;
        },
        {.daemon = true}));
  covey::process ended([] { return 3; });
  ended.join();
  const covey::event event;
  auto polled = std::make_unique<covey::event>(event);
  const covey::inspect_entry entry{"number", 1};
  std::vector<row> table;
  for (auto* const p : {&child, &forked}) {
    if (!*p) continue;
    for (const row& r : std::vector<row>{
             {"process.alive",
              [p] {
                if (!(*p)->alive()) throw std::logic_error("dead");
              },
              harmless},
             {"process.join", [p] { (*p)->join(); }},
             {"process.join_for", [p] { (void)(*p)->join_for(10ms); }},
             {"process.status", [p] { (void)(*p)->status(); }},
             {"process.request_stop", [p] { (*p)->request_stop(); }, harmless},
             {"process.joinable", [p] { (void)(*p)->joinable(); }, harmless},
             {"process moved", [p] { covey::process moved = std::move(**p); }, harmless},
             {"process assigned to", [p] { **p = covey::process(); }, harmless},
             {"wait_any", [p] { (void)covey::wait_any_for(10ms, **p); }},
         })
      table.push_back(r);
  }
  expect_all(table);
  expect_all({
      {"process joined before", [&] { (void)ended.join(); }, harmless},
      {"process", [] { const covey::process p([] {}); }},
      {"process::forked", [] { (void)covey::process::forked([] { return 0; }); }},
      {"wait_any", [&] { (void)covey::wait_any_for(10ms, event); }},
      {"inspect", [] { (void)covey::inspect(); }},
      {"inspect_entry", [] { const covey::inspect_entry fresh{"name", 1}; }},
      {"inspect_entry.set", [&] { const_cast<covey::inspect_entry&>(entry).set(2); }, harmless},
      {"name_object", [&] { covey::name_object(event, "event"); }},
      {"pollable", [&] { const covey::pollable p{event}; }},
  });
  EXPECT_TRUE(child->alive() && (!forked || forked->alive()));
  auto pollable = std::make_unique<covey::pollable>(event);  // has a thread from here on
  expect_all({
      {"pollable.rearm", [&] { (void)pollable->rearm(); }},
      {"pollable's end", [&] { pollable.reset(); }, harmless},
  });
}

TEST(ForkedPast, Pools) {
  auto pool = std::make_unique<covey::process_pool>(covey::pool_options{.workers = 1});
  covey::event go;
  auto ready = pool->submit([] { return 1; });
  ready.wait();
  auto running = pool->submit(
      [](covey::event e) {
        e.wait();
        return 2;
      },
      go);
  const auto two = std::vector<int>{1, 2};
  expect_all({
      {"submit", [&] { (void)pool->submit([] { return 1; }).get(); }},
      {"map", [&] { (void)pool->map([](int i) { return i; }, two); }},
      {"imap",
       [&] {
         for (const int i : pool->imap([](int i) { return i; }, two)) (void)i;
       }},
      {"future.get", [&] { (void)running.get(); }},
      {"future.wait_for", [&] { (void)running.wait_for(10ms); }},
      {"future.cancel", [&] { (void)running.cancel(); }},
      {"workers", [&] { (void)pool->workers(); }, harmless},
      {"worker_pids", [&] { (void)pool->worker_pids(); }},
      {"a pool's end", [&] { pool.reset(); }, harmless},
      {"made", [] { covey::process_pool fresh{{.workers = 1}}; }},
  });
  go.set();
  EXPECT_EQ(running.get(), 2);
  EXPECT_EQ(ready.get(), 1);
}

TEST(ForkedPast, LeavesItsParentsLastWordsAlone) {
  covey::process worker([] {
    const pid_t child = ::fork();
    if (child == 0) ::abort();
    int status = 0;
    ::waitpid(child, &status, 0);
    ::raise(SIGKILL);
  });
  EXPECT_EQ(worker.join().signal(), SIGKILL);
  EXPECT_TRUE(worker.join().backtrace().empty());
}

// Static objects and what threads have of their own end with exit().
TEST(ForkedPast, MayExit) {
  static covey::mutex mutex;
  static covey::queue<int> queue{4};
  static covey::process_pool pool{{.workers = 1}};
  mutex.lock();
  queue.put(1);
  EXPECT_EQ(queue.get(), 1);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(15);
    std::exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_FALSE(WIFSIGNALED(status));  // its code may be LeakSanitizer's, for what threads had that the child has not
  queue.task_done();
  mutex.unlock();
  EXPECT_EQ(pool.submit([] { return 1; }).get(), 1);
}

}  // namespace
