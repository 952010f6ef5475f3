// One thread a pool, in the owner's process: it takes answers, notices deaths (it sleeps on the answers' queue, which
// every death wakes), replaces workers and hands out what waits. submit() and cancel() hand out too, under the same
// mutex. Sinks are called without it.
#include <covey/pool/dispatcher.hpp>

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <covey/memory/region.hpp>
#include <covey/pool/errors.hpp>
#include <covey/pool/worker.hpp>
#include <covey/process/process.hpp>
#include <deque>
#include <map>
#include <set>
#include <thread>

namespace covey::detail {
namespace {

constexpr std::size_t tasks_ahead = 2;       // in a worker's queue: one runs, one waits
constexpr auto at_once = std::chrono::steady_clock::time_point::min();  // of a deadline: does not block
constexpr auto room_comes_within = std::chrono::milliseconds(2);
constexpr unsigned idle_deaths_max = 8;      // workers that died one after another before they began a task

struct task_record {
  packed_call call;
  std::vector<region> held;  // what the arguments name, until the task is answered
  std::size_t count = 0;     // answers expected
  std::size_t next = 0;      // the first that is missing
  unsigned retries = 0;
  std::shared_ptr<task_sink> sink;
};

pool_channel make_tasks_channel(std::size_t bytes) {
  return {queue_core({.items = tasks_ahead + 1, .bytes = bytes, .on_death = in_flight_policy::drop})};
}

pool_channel make_answers_channel(std::size_t bytes) {
  return {queue_core({.items = 4096, .bytes = bytes, .on_death = in_flight_policy::drop})};
}

struct worker_record {
  explicit worker_record(std::size_t bytes) : tasks(make_tasks_channel(bytes)) {}

  pool_channel tasks;
  process runs;
  bool missing = false;           // it died and no other could be started
  std::deque<std::uint64_t> has;  // tasks in its queue or in its hand, in the order in which they were given
};

void close_or_kill(worker_record& w) {
  try {
    w.tasks.core.close(close_mode::drain);
  } catch (const queue_damaged&) {
    w.runs.kill();
  }
}

// Work for sinks that was found under the mutex and is done without it.
struct failure {
  std::shared_ptr<task_sink> sink;
  std::size_t index;
  std::exception_ptr error;
};

}  // namespace

struct dispatcher::state {
  state(std::string pool_name, std::size_t bytes_each)
      : name(std::move(pool_name)), bytes(bytes_each), answers(make_answers_channel(bytes)) {}

  const std::string name;
  const std::size_t bytes;  // of each queue

  mutable std::mutex mutex;
  std::condition_variable all_done;
  // Guarded by mutex.
  pool_channel answers;  // set by `thread` alone, which reads it without
  std::vector<std::unique_ptr<worker_record>> workers;
  std::map<std::uint64_t, task_record> tasks;
  std::deque<std::uint64_t> waiting;
  std::uint64_t last_task = 0;
  std::uint64_t replaced = 0;
  unsigned idle_deaths = 0;
  bool try_again = false;  // a worker that has nothing had no room: no answer of its own will tell when it has
  bool ending = false;
  std::jthread thread;

  void start_worker(worker_record& w) {
    w.runs = process{process_options{.name = name + " worker", .daemon = true}, run_pool_worker, w.tasks, answers};
  }

  // ---- handing out, under the mutex --------------------------------------------------------------------------------

  // Never blocks: who waits for room under the mutex keeps `thread` from the answers and deaths that make room.
  void hand_out(std::vector<failure>& failures) {
    try_again = false;
    while (!waiting.empty()) {
      const auto least = std::min_element(workers.begin(), workers.end(), [](const auto& a, const auto& b) {
        return std::pair(a->missing, a->has.size()) < std::pair(b->missing, b->has.size());
      });
      if ((*least)->missing || (*least)->has.size() >= tasks_ahead) return;
      const std::uint64_t id = waiting.front();
      waiting.pop_front();
      if (!give(**least, id, failures)) {
        waiting.push_front(id);
        try_again = (*least)->has.empty();
        return;
      }
    }
  }

  // Lets `thread`, which may sleep, hand out again. For the others.
  void wake_thread() {
    encoder nothing;
    encode(nothing, answer_head{});
    try {
      (void)answers.core.put(nothing, at_once, nullptr);  // where that does not fit, `thread` has enough to look at
    } catch (const queue_damaged&) {
      // `thread` finds that too.
    }
  }

  // False: its queue has no room for that many bytes now, or is no longer a queue.
  bool give(worker_record& w, std::uint64_t id, std::vector<failure>& failures) {
    task_record& task = tasks.at(id);
    encoder out;
    encode(out, task_head{id, task.call.entry, task.next});
    out.raw(task.call.bytes.data(), task.call.bytes.size());
    out.attachments = task.call.attachments;
    try {
      if (!w.tasks.core.put(out, at_once, nullptr)) return false;
      w.has.push_back(id);
    } catch (const queue_damaged&) {
      w.runs.kill();  // it wrote over its queue: the next one gets another, and this task
      return false;
    } catch (...) {
      fail_all(id, std::current_exception(), failures);
    }
    return true;
  }

  void fail_all(std::uint64_t id, const std::exception_ptr& error, std::vector<failure>& failures) {
    task_record& task = tasks.at(id);
    for (std::size_t i = task.next; i < task.count; ++i) failures.push_back({task.sink, i, error});
    forget(id);
  }

  void forget(std::uint64_t id) {
    tasks.erase(id);
    if (tasks.empty()) all_done.notify_all();
  }

  bool cancel(std::uint64_t id) {
    if (is_forked_past()) return false;  // it is the parent's, and so is whoever has the mutex
    std::vector<failure> failures;
    {
      const std::scoped_lock lock(mutex);
      const auto it = std::find(waiting.begin(), waiting.end(), id);
      if (it == waiting.end()) return false;
      waiting.erase(it);
      fail_all(id, std::make_exception_ptr(task_cancelled()), failures);
    }
    report(failures);
    return true;
  }

  // ---- answers -----------------------------------------------------------------------------------------------------

  void take_answer(const queue_core::taken& message) {
    decoder in{message.bytes};
    const auto head = decode<answer_head>(in);
    std::shared_ptr<task_sink> sink;
    {
      const std::scoped_lock lock(mutex);
      const auto task = tasks.find(head.task);
      if (task == tasks.end() || head.index != task->second.next) return;  // an answer to what was given up
      sink = task->second.sink;
    }
    if (head.is_value)
      sink->value(head.index, in);
    else
      sink->error(head.index, decode_exception(in));
    finish_answer(head.task);
  }

  // Only this thread advances `next`, so the task is still there unless that was its last answer.
  void finish_answer(std::uint64_t id) {
    std::vector<failure> failures;
    {
      const std::scoped_lock lock(mutex);
      task_record& task = tasks.at(id);
      idle_deaths = 0;
      if (++task.next < task.count) return;
      for (auto& w : workers) std::erase(w->has, id);
      forget(id);
      hand_out(failures);
    }
    report(failures);
  }

  static void report(const std::vector<failure>& failures) {
    for (const failure& f : failures) f.sink->error(f.index, f.error);
  }

  // ---- deaths ------------------------------------------------------------------------------------------------------

  // All answers that the dead gave were taken before: what it has in hand now, it did not answer.
  void bury(const std::vector<worker_record*>& dead) {
    std::vector<failure> failures;
    {
      const std::scoped_lock lock(mutex);
      if (ending) return;  // nothing is left to be done, and whom we started now nobody would end
      for (worker_record* const w : dead) bury(*w, failures);
      hand_out(failures);
    }
    report(failures);
  }

  void bury(worker_record& w, std::vector<failure>& failures) {
    w.runs.kill();  // a task may have replaced its program by another one, by exec
    const exit_status status = w.runs.join();
    const auto not_begun = tasks_in_queue_of(w);
    auto has = std::exchange(w.has, {});
    const auto begun = std::ranges::find_if(has, [&](std::uint64_t id) { return !not_begun.contains(id); });
    if (begun != has.end()) {
      const std::uint64_t running = *begun;
      has.erase(begun);
      idle_deaths = 0;
      charge(running, status, failures);
    } else {
      ++idle_deaths;
    }
    for (auto it = has.rbegin(); it != has.rend(); ++it) waiting.push_front(*it);
    replace(w);
    if (idle_deaths == idle_deaths_max) give_up(std::make_exception_ptr(worker_died(status)), failures);
    if (nobody_is_left()) give_up(std::make_exception_ptr(worker_died(status)), failures);
  }

  // Not in order: they may have been put by several threads, and the worker may have got the last one first. What was
  // in its hand is dropped.
  static std::set<std::uint64_t> tasks_in_queue_of(const worker_record& w) {
    std::set<std::uint64_t> ids;
    try {
      for (queue_core::taken message; w.tasks.core.get(message, at_once, nullptr) == queue_core::get_result::got;) {
        decoder in{message.bytes};
        ids.insert(decode<task_head>(in).task);
      }
    } catch (const queue_damaged&) {
      // It wrote over its queue as well: what was not seen there had begun.
    } catch (const bad_message&) {
      // As above.
    }
    return ids;
  }

  // Somebody wrote over the queue of answers, and nobody knows who: all workers are replaced, and what they had fails.
  bool start_over(const std::exception_ptr& why) {
    std::vector<failure> failures;
    {
      const std::scoped_lock lock(mutex);
      if (ending) return false;
      answers = make_answers_channel(bytes);
      for (auto& w : workers) {
        w->runs.kill();
        if (w->runs.joinable()) w->runs.join();
        for (const std::uint64_t id : std::exchange(w->has, {})) fail_all(id, why, failures);
        replace(*w);
      }
      if (nobody_is_left()) give_up(why, failures);
      hand_out(failures);
    }
    report(failures);
    return true;
  }

  [[nodiscard]] bool nobody_is_left() const {
    return std::all_of(workers.begin(), workers.end(), [](const auto& w) { return w->missing; });
  }

  void replace(worker_record& w) {
    try {
      w.tasks = make_tasks_channel(bytes);
      start_worker(w);
      w.missing = false;
      ++replaced;
    } catch (const std::exception&) {
      w.missing = true;  // submit() tries again
    }
  }

  // The answer that was being made fails or is tried again; the rest of the task goes on elsewhere.
  void charge(std::uint64_t id, const exit_status& status, std::vector<failure>& failures) {
    task_record& task = tasks.at(id);
    if (task.retries > 0) {
      --task.retries;
    } else {
      failures.push_back({task.sink, task.next, std::make_exception_ptr(worker_died(status))});
      if (++task.next == task.count) return forget(id);
    }
    waiting.push_front(id);
  }

  // Workers die as soon as they start, or cannot be started: nothing that waits will ever run.
  void give_up(const std::exception_ptr& why, std::vector<failure>& failures) {
    while (!waiting.empty()) {
      const std::uint64_t id = waiting.front();
      waiting.pop_front();
      fail_all(id, why, failures);
    }
    idle_deaths = 0;
  }

  void run() {
    for (;;) {
      try {
        return take_answers();
      } catch (const queue_damaged&) {
        if (!start_over(std::current_exception())) return;
      } catch (const bad_message&) {
        if (!start_over(std::current_exception())) return;
      }
    }
  }

  // Until the pool ends.
  void take_answers() {
    queue_core::taken message;
    for (;;) {
      const std::uint32_t deaths = deaths_seen();
      bury_the_dead_after_answers(message);
      switch (answers.core.get(message, hand_out_again(), nullptr, &deaths)) {
        case queue_core::get_result::got: take_answer(message); break;
        case queue_core::get_result::ended: return;
        case queue_core::get_result::not_now: break;
      }
    }
  }

  // Until when to wait for an answer then.
  deadline hand_out_again() {
    std::vector<failure> failures;
    bool soon = false;
    {
      const std::scoped_lock lock(mutex);
      if (std::exchange(try_again, false)) hand_out(failures);
      soon = try_again;
    }
    report(failures);
    return soon ? deadline_in(room_comes_within) : std::nullopt;
  }

  // Who is dead is decided before the last answers are read, so that nothing which the dead said is overlooked.
  void bury_the_dead_after_answers(queue_core::taken& message) {
    std::vector<worker_record*> dead;
    {
      const std::scoped_lock lock(mutex);
      for (const auto& w : workers)
        if (!ending && !w->missing && !process_alive(w->runs.id())) dead.push_back(w.get());
    }
    if (dead.empty()) return;
    while (answers.core.get(message, at_once, nullptr) == queue_core::get_result::got) take_answer(message);
    bury(dead);
  }
};

dispatcher::dispatcher(std::size_t workers, std::string name, std::size_t bytes)
    : state_(std::make_shared<state>(std::move(name), bytes)) {
  for (std::size_t i = 0; i < workers; ++i) {
    state_->workers.push_back(std::make_unique<worker_record>(bytes));
    state_->start_worker(*state_->workers.back());
  }
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  state_->thread = std::jthread([s = state_.get()] { s->run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

dispatcher::~dispatcher() {
  // A child forked past covey has neither the thread nor the workers: what is left of the pool stays.
  if (is_forked_past()) {
    static auto* const left = new std::vector<std::shared_ptr<state>>;
    left->push_back(state_);
    return;
  }
  {
    std::unique_lock lock(state_->mutex);
    state_->all_done.wait(lock, [this] { return state_->tasks.empty(); });
    state_->ending = true;
    for (auto& w : state_->workers) close_or_kill(*w);
  }
  for (auto& w : state_->workers)
    if (!w->missing) w->runs.join();
  try {
    state_->answers.core.close(close_mode::discard);
  } catch (const queue_damaged&) {
    // The thread has found that too.
  }
  state_->thread.join();
}

std::uint64_t dispatcher::submit(packed_call call, std::size_t count, std::shared_ptr<task_sink> sink,
                                 unsigned retries) {
  family_check();
  task_record task;
  for (const std::uint64_t region_id : call.attachments) task.held.push_back(region::hold(region_id));
  task.call = std::move(call);
  task.count = count;
  task.retries = retries;
  task.sink = std::move(sink);
  std::vector<failure> failures;
  std::uint64_t id = 0;
  {
    const std::scoped_lock lock(state_->mutex);
    for (auto& w : state_->workers)
      if (w->missing) state_->replace(*w);
    id = ++state_->last_task;
    state_->waiting.push_back(id);
    state_->tasks.emplace(id, std::move(task));
    state_->hand_out(failures);
    if (state_->try_again) state_->wake_thread();
  }
  state::report(failures);
  return id;
}

bool dispatcher::cancel(std::uint64_t task) { return state_->cancel(task); }

std::function<bool(std::uint64_t)> dispatcher::canceller() const {
  return [pool = std::weak_ptr<state>(state_)](std::uint64_t task) {
    const auto alive = pool.lock();
    return alive && alive->cancel(task);
  };
}

std::size_t dispatcher::workers() const noexcept { return state_->workers.size(); }

std::vector<pid_t> dispatcher::worker_pids() const {
  family_check();
  const std::scoped_lock lock(state_->mutex);
  std::vector<pid_t> pids;
  for (const auto& w : state_->workers) pids.push_back(w->runs.pid());
  return pids;
}

std::size_t dispatcher::waiting_approx() const {
  family_check();
  const std::scoped_lock lock(state_->mutex);
  return state_->waiting.size();
}

std::uint64_t dispatcher::workers_replaced() const {
  family_check();
  const std::scoped_lock lock(state_->mutex);
  return state_->replaced;
}

}  // namespace covey::detail
