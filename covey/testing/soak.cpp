// The processes write what they do into a journal in shared memory, each into lines of its own, so that of a dead one
// it is known which single message it was putting and which messages it had in hand. The journal is checked and renewed
// every round; queue and mutex stay the same from the first round to the last.
#include <covey/testing/soak.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <covey/ipc/queue.hpp>
#include <covey/memory/shared_ptr.hpp>
#include <covey/process/process.hpp>
#include <covey/sync/mutex.hpp>
#include <covey/testing/settle.hpp>
#include <random>
#include <thread>

namespace covey::testing {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr unsigned lines_max = 16;  // processes of a kind
constexpr std::uint32_t numbers_max = 1U << 20;  // messages of one producer's line in one round
constexpr std::size_t batch = 8;
constexpr int gave_wrong_bytes = 3;
constexpr std::uint32_t the_end = ~0U;  // the line of the message after which a consumer ends, and puts it for the next
constexpr std::size_t bytes_max = 100 << 10;

struct letter {
  std::uint32_t line = 0;
  std::uint32_t number = 0;
  std::string text{};
};

struct alignas(64) producer_line {
  std::atomic<std::uint32_t> putting = 0;  // the number it is about to put, or has put
  std::atomic<std::uint32_t> put = 0;  // the highest whose put returned
};

struct alignas(64) consumer_line {
  std::atomic<std::uint64_t> hand[batch] = {};  // line << 32 | number of what it got and has not acknowledged
  std::atomic<std::uint64_t> done = 0;  // may miss some: consumers die
};

struct alignas(64) locker_line {
  std::atomic<std::uint64_t> sections = 0;
};

struct journal {
  std::atomic<bool> no_more_puts = false;
  std::atomic<bool> end = false;
  producer_line producers[lines_max];
  consumer_line consumers[lines_max];
  locker_line lockers[lines_max];
  std::atomic<std::uint8_t> got[lines_max][numbers_max];  // how often
};

struct ledger_pair {
  std::uint64_t debit = 0, credit = 0;  // equal outside the mutex
  std::atomic<std::uint64_t> sections = 0, torn = 0, repaired = 0;
};

// The text of a letter is known from its number: mostly small, some of a few pages, a few of 100 KiB.
std::string text_of(std::uint32_t line, std::uint32_t number) {
  std::uint64_t h = (std::uint64_t{line} << 32 | number) * 0x9e3779b97f4a7c15ULL;
  h ^= h >> 29;
  const std::uint64_t kind = h % 100;
  const std::uint64_t more = h >> 8;
  const std::size_t bytes = kind < 70   ? 8 + more % 57
                            : kind < 92 ? 65 + more % 4000
                            : kind < 99 ? 4097 + more % 20'000
                                        : bytes_max;
  return std::string(bytes, static_cast<char>('a' + h % 26));
}

// Who kills and who replaces come first, so that there are many deaths in little time.
void stand_back() { [[maybe_unused]] const int niceness = ::nice(5); }

// Who waits so is not saved by its own clock when nobody wakes it.
constexpr bool waits_without_limit(std::uint32_t line) { return line % 2 == 1; }

// ---- what the processes do
// -----------------------------------------------------------------------------------------------

bool put(const queue<letter>& q, const letter& l, const journal& j) {
  if (waits_without_limit(l.line)) {
    q.put(l);
    return true;
  }
  while (!q.put_for(l, 20ms))
    if (j.no_more_puts) return false;
  return true;
}

int produce(shared_ptr<journal> j, queue<letter> q, std::uint32_t line) {
  stand_back();
  producer_line& mine = j->producers[line];
  for (std::uint32_t n = mine.putting + 1; n < numbers_max && !j->no_more_puts; ++n) {
    const letter l{line, n, text_of(line, n)};
    mine.putting = n;
    if (!put(q, l, *j)) {
      mine.putting = n - 1;
      return 0;
    }
    mine.put = n;
  }
  return 0;
}

int consume(shared_ptr<journal> j, queue<letter> q, std::uint32_t line) {
  stand_back();
  consumer_line& mine = j->consumers[line];
  std::vector<letter> letters;
  while (!j->end) {
    if (waits_without_limit(line)) {
      letters.clear();
      letters.push_back(q.get().value());
    } else {
      letters = q.get_many_for(batch, 20ms);
    }
    for (std::size_t i = 0; i < letters.size(); ++i)
      mine.hand[i] = std::uint64_t{letters[i].line} << 32 | letters[i].number;
    for (std::size_t i = 0; i < letters.size(); ++i) {
      const letter& l = letters[i];
      if (l.line == the_end) {
        q.put(l);
        return 0;
      }
      if (l.line >= lines_max || l.number >= numbers_max || l.text != text_of(l.line, l.number))
        return gave_wrong_bytes;
      ++j->got[l.line][l.number];
      q.task_done();
      mine.hand[i] = 0;
      mine.done.fetch_add(1, std::memory_order_relaxed);
    }
  }
  return 0;
}

int book(shared_ptr<journal> j, shared_ptr<ledger_pair> books, mutex lock, std::uint32_t line) {
  stand_back();
  while (!j->end) {
    try {
      if (waits_without_limit(line))
        lock.lock();
      else if (!lock.lock_for(20ms))
        continue;
      if (books->debit != books->credit) ++books->torn;
      ++books->debit;
      books->sections.fetch_add(1, std::memory_order_relaxed);
      ++books->credit;
      lock.unlock();
      j->lockers[line].sections.fetch_add(1, std::memory_order_relaxed);
    } catch (const owner_died&) {
      lock.recover([&] {
        books->credit = books->debit;
        ++books->repaired;
      });
    }
  }
  return 0;
}

// ---- who runs them
// -----------------------------------------------------------------------------------------------------

enum class kind { producer, consumer, locker };
constexpr kind kinds[] = {kind::producer, kind::consumer, kind::locker};

const char* name_of(kind k) {
  switch (k) {
    case kind::producer: return "producer";
    case kind::consumer: return "consumer";
    case kind::locker: break;
  }
  return "locker";
}

// What those of one kind have done, and when that was last seen to grow; time between rounds, which are shorter than
// our patience, does not count.
struct movement {
  std::uint64_t done = 0;
  clock::time_point at = clock::now();
};

struct participant {
  kind role;
  std::uint32_t line;
  process running{};
  bool stopped = false;
};

class soak {
 public:
  soak(const soak_options& options, const std::function<void(const soak_result&)>& progress)
      : options_(options), progress_(progress), random_(options.seed) {
    const auto add = [&](kind role, unsigned count) {
      for (std::uint32_t line = 0; line < std::min(count, lines_max); ++line) people_.push_back({role, line});
    };
    add(kind::producer, options.producers);
    add(kind::consumer, options.consumers);
    add(kind::locker, options.lockers);
  }

  void run() {
    result.rate_before = measure();
    deadline_ = clock::now() + options_.time;
    while (result.stuck == 0 && !enough()) round();
    // Other programs may be busy just now; a queue that is wedged stays so.
    for (int i = 0; i < 40 && result.stuck == 0 && !result.recovered(); ++i)
      result.rate_after = std::max(result.rate_after, measure());
    result.locks = books_->sections;
    result.torn = books_->torn;
    result.repaired = books_->repaired;
  }

  soak_result result;

 private:
  // A round ends so that its journal can be checked; nothing else begins anew.
  static constexpr std::uint64_t kills_of_a_round = 2000;
  static constexpr auto time_of_a_round = 5s;

  [[nodiscard]] bool enough() const {
    return (options_.kills != 0 && result.kills >= options_.kills) ||
           (options_.time.count() != 0 && clock::now() >= deadline_);
  }

  void open() {
    journal_ = make_shared<journal>();
    unsure_.clear();
    excused_.clear();
    for (participant& p : people_) start(p);
    for (const kind k : kinds) {
      movement& m = moved_[static_cast<std::size_t>(k)];
      m.done = done_by(k);  // which begin anew
      m.at += clock::now() - closed_at_;
    }
  }

  void start(participant& p) {
    const process_options how{.name = "soak", .daemon = true};
    p.stopped = false;
    switch (p.role) {
      case kind::producer: p.running = process(how, produce, journal_, queue_, p.line); break;
      case kind::consumer: p.running = process(how, consume, journal_, queue_, p.line); break;
      case kind::locker: p.running = process(how, book, journal_, books_, mutex_, p.line); break;
    }
  }

  double measure() {
    open();
    (void)eventually([&] { return done_by(kind::consumer) > 0; });
    const std::uint64_t before = done_by(kind::consumer);
    const auto begin = clock::now();
    std::this_thread::sleep_for(500ms);
    const std::uint64_t after = done_by(kind::consumer);
    const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
    close();
    return static_cast<double>(after - before) / seconds;
  }

  void round() {
    open();
    const std::uint64_t kills = result.kills;
    const auto begin = clock::now();
    while (!enough() && result.kills - kills < kills_of_a_round && clock::now() - begin < time_of_a_round &&
           result.stuck == 0)
      strike();
    close();
  }

  // One or several at once are killed, in whatever they do; some are stopped for a while, and some of those killed.
  void strike() {
    ::usleep(static_cast<useconds_t>(random_() % 1000));
    const std::size_t victims = random_() % 8 == 0 ? 1 + random_() % people_.size() : 1;
    std::vector<participant*> dead;
    for (std::size_t i = 0; i < victims; ++i) {
      participant& p = people_[random_() % people_.size()];
      if (random_() % 6 == 0) {
        ::kill(p.running.pid(), p.stopped ? SIGCONT : SIGSTOP);
        p.stopped = !p.stopped;
        result.stops += p.stopped ? 1 : 0;
      } else if (std::find(dead.begin(), dead.end(), &p) == dead.end()) {
        p.running.kill();
        dead.push_back(&p);
      }
    }
    for (participant* p : dead) bury(*p);
    for (participant* p : dead) start(*p);
    look();
  }

  // What it was doing is read when it does nothing more.
  void bury(participant& p) {
    const exit_status status = p.running.join();
    if (status.signal() == SIGKILL) {
      ++result.kills;
    } else {
      note_end(status);
    }
    if (p.role == kind::producer) {
      const producer_line& line = journal_->producers[p.line];
      if (line.putting != line.put) unsure_.push_back({p.line, line.putting});
    } else if (p.role == kind::consumer) {
      for (auto& hand : journal_->consumers[p.line].hand)
        if (const std::uint64_t l = hand.exchange(0); l != 0)
          excused_.push_back({static_cast<std::uint32_t>(l >> 32), static_cast<std::uint32_t>(l)});
    }
  }

  void note_end(const exit_status& status) {
    if (!status.known() || status.code() == 0) return;
    ++(status.code() == gave_wrong_bytes ? result.damaged : result.failed);
    std::fprintf(stderr, "prove: a process %s\n", status.describe().c_str());
  }

  // Whether those of each kind move: a mutex that lives says nothing of the queue. All are let go on before one is said
  // to be stuck.
  void look() {
    const auto now = clock::now();
    for (const kind k : kinds) {
      movement& last = moved_[static_cast<std::size_t>(k)];
      const std::uint64_t done = done_by(k);
      if (done != last.done || !has(k)) {
        last = {done, now};
      } else if (now - last.at > options_.patience / 2) {
        go_on();
        if (now - last.at <= options_.patience) continue;
        ++result.stuck;
        std::fprintf(stderr, "prove: no %s moves\n", name_of(k));
      }
    }
    if (now - told_at_ > 1s) {
      told_at_ = now;
      progress_(result);
    }
  }

  [[nodiscard]] bool has(kind k) const {
    return std::any_of(people_.begin(), people_.end(), [k](const participant& p) { return p.role == k; });
  }

  // In this round.
  [[nodiscard]] std::uint64_t done_by(const participant& p) const {
    switch (p.role) {
      case kind::producer: return journal_->producers[p.line].put;
      case kind::consumer: return journal_->consumers[p.line].done;
      case kind::locker: break;
    }
    return journal_->lockers[p.line].sections;
  }

  [[nodiscard]] std::uint64_t done_by(kind k) const {
    std::uint64_t sum = 0;
    for (const participant& p : people_) sum += p.role == k ? done_by(p) : 0;
    return sum;
  }

  void go_on() {
    for (participant& p : people_) {
      if (p.stopped) ::kill(p.running.pid(), SIGCONT);
      p.stopped = false;
    }
  }

  // Everybody ends in order, the queue runs empty, and the journal is checked.
  void close() {
    closed_at_ = clock::now();
    go_on();
    see_each_move();
    journal_->no_more_puts = true;
    join_all(kind::producer);
    if (!queue_.join_for(options_.patience)) {
      ++result.stuck;
      std::fprintf(stderr, "prove: the queue does not run empty: %zu wait\n", queue_.size_approx());
    }
    journal_->end = true;
    (void)queue_.put_for({.line = the_end}, options_.patience);
    join_all(kind::consumer);
    join_all(kind::locker);
    while (queue_.try_get()) {
    }
    check();
    journal_.reset();
  }

  // Nobody is killed or ends now, which would wake whoever sleeps: who does not move was not woken when he should be.
  void see_each_move() {
    std::vector<std::uint64_t> before;
    for (const participant& p : people_) {
      before.push_back(done_by(p));
      if (p.role == kind::producer && before.back() + 1 >= numbers_max) return;  // and others wait for it
    }
    const auto until = clock::now() + options_.patience;
    for (std::size_t i = 0; i < people_.size(); ++i) {
      const auto moves = [&] { return done_by(people_[i]) != before[i]; };
      while (!moves() && clock::now() < until) std::this_thread::sleep_for(100us);
      if (moves()) continue;
      ++result.stuck;
      std::fprintf(stderr, "prove: a %s does not move\n", name_of(people_[i].role));
    }
  }

  // Nobody is killed any more, so each must find its own way out of whatever it waits in.
  void join_all(kind k) {
    for (participant& p : people_) {
      if (p.role != k) continue;
      if (const auto status = p.running.join_for(options_.patience)) {
        note_end(*status);
      } else {
        ++result.stuck;
        std::fprintf(stderr, "prove: a %s does not end\n", name_of(k));
        p.running.kill();
        p.running.join();
      }
    }
  }

  void check() {
    using place = std::pair<std::uint32_t, std::uint32_t>;
    std::sort(unsure_.begin(), unsure_.end());
    std::sort(excused_.begin(), excused_.end());
    for (std::uint32_t line = 0; line < lines_max; ++line) {
      const std::uint32_t last = journal_->producers[line].putting;
      for (std::uint32_t n = 1; n <= last; ++n) {
        const unsigned got = journal_->got[line][n];
        const place here{line, n};
        const bool sure = !std::binary_search(unsure_.begin(), unsure_.end(), here);
        result.committed += sure || got != 0 ? 1 : 0;
        result.lost += sure && got == 0 ? 1 : 0;
        if (got < 2) continue;
        const auto [from, to] = std::equal_range(excused_.begin(), excused_.end(), here);
        const auto allowed = static_cast<unsigned>(to - from);
        result.redelivered += std::min(got - 1, allowed);
        result.duplicated += got - 1 > allowed ? got - 1 - allowed : 0;
      }
    }
  }

  const soak_options& options_;
  const std::function<void(const soak_result&)>& progress_;
  std::mt19937_64 random_;
  queue<letter> queue_{queue_options{.items = 256, .bytes = 4U << 20}};
  mutex mutex_;
  shared_ptr<ledger_pair> books_ = make_shared<ledger_pair>();
  shared_ptr<journal> journal_;
  std::vector<participant> people_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> unsure_;  // (line, number) that a dead producer was putting
  std::vector<std::pair<std::uint32_t, std::uint32_t>> excused_;  // that a dead consumer had in hand
  clock::time_point deadline_;
  clock::time_point told_at_ = clock::now();
  clock::time_point closed_at_ = clock::now();
  std::array<movement, std::size(kinds)> moved_;
};

}  // namespace

soak_result run_soak(const soak_options& options, const std::function<void(const soak_result&)>& progress) {
  process([] { return 0; }).join();  // what is opened once is open
  (void)mutex();
  const auto memory = settled();
  const auto fds = descriptors_open();
  soak_result result;
  {
    soak s(options, progress);
    s.run();
    result = s.result;
  }
  (void)settled();
  (void)comes_back_to(memory);
  result.leaked_bytes =
      static_cast<std::int64_t>(detail::arena_in_use().bytes) - static_cast<std::int64_t>(memory.bytes);
  result.leaked_fds = descriptors_open() - fds;
  return result;
}

}  // namespace covey::testing
