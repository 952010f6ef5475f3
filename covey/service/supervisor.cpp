// Who runs what: one thread, the one in run(). It sleeps in poll() on one pidfd a child and on the bell, which stop(),
// add() and the signals ring, until the next restart is due. Children are the keeper's; a child's death is learnt
// twice, from its pidfd, which wakes us, and from the ledger, which has the status.
#include <covey/service/supervisor.hpp>

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <covey/base/check.hpp>
#include <covey/service/stop_signals.hpp>
#include <deque>
#include <mutex>
#include <stdexcept>

namespace covey {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using kind = supervisor_event::kind;

constexpr milliseconds first_delay = 10ms;
constexpr milliseconds longest_delay = 500ms;
constexpr milliseconds for_ever = std::chrono::years(100);  // more than that would not fit into nanoseconds

// What happened within the last `within`.
class window {
 public:
  explicit window(milliseconds within) : within_(std::min(within, for_ever)) {}

  /// Notes one more, and says how many there are.
  std::size_t note(clock::time_point now) {
    while (!times_.empty() && now - times_.front() > within_) times_.pop_front();
    times_.push_back(now);
    return times_.size();
  }

 private:
  milliseconds within_;
  std::deque<clock::time_point> times_;
};

// At once the first time; then twice as long each time.
milliseconds delay_before(std::size_t restart) {
  if (restart <= 1) return 0ms;
  const std::size_t doublings = std::min<std::size_t>(restart - 2, 10);
  return std::min(first_delay * (1 << doublings), longest_delay);
}

std::string in_words(milliseconds t) {
  return t % 1s == 0ms ? std::to_string(t / 1s) + " s" : std::to_string(t.count()) + " ms";
}

// How it ended, with the exception's words where one escaped.
std::string in_words(const exit_status& status) {
  std::string text = status.describe();
  if (!status.exception()) return text;
  try {
    std::rethrow_exception(status.exception());
  } catch (const std::exception& e) {
    return text + ": " + e.what();
  } catch (...) {
    return text + ": an exception";
  }
}

// A supervised child: what it is, its process, and what is told of it.
struct child {
  child(child_options o, const supervisor_options& defaults)
      : options(std::move(o)),
        counted_alone(options.max_restarts.has_value() || options.within.has_value()),
        max_restarts(options.max_restarts.value_or(defaults.max_restarts)),
        within(options.within.value_or(defaults.within)),
        restarts(within) {
    told.name = options.name;
  }

  child_options options;
  bool counted_alone;
  unsigned max_restarts;
  milliseconds within;
  window restarts;
  process current;        // joinable while it runs
  bool ended = false;     // its pidfd said so
  clock::time_point due;  // when `restarting`
  child_state told;
};

std::string why_stopped(int cause) {
  if (cause == detail::asked_by_call) return "asked to stop";
  return cause == SIGINT ? "stopped by SIGINT" : "stopped by SIGTERM";
}

}  // namespace

class supervisor::state {
 public:
  explicit state(supervisor_options options) : options_(std::move(options)), restarts_(options_.within) {}

  void add(child_options added);
  int run(std::stop_token stop);
  void stop() noexcept { bell_.ring(detail::asked_by_call); }
  [[nodiscard]] std::string reason() const;
  [[nodiscard]] const supervisor_view& view() const { return view_; }

 private:
  enum class verdict { go_on, give_up };

  struct rest_at_end {
    state& self;
    ~rest_at_end() {
      self.bell_.reset();
      self.at_work_ = false;
    }
  };

  int keep_alive();
  void receive();
  verdict look_after(child& c);
  std::optional<std::string> start(child& c);
  verdict start_again(child& c);
  verdict collect(child& c);
  verdict on_end(child& c, const std::optional<exit_status>& status, const std::string& how);
  verdict give_up(const child& c, const std::string& why);
  [[nodiscard]] bool nothing_left() const;
  void sleep();
  void stop_all(bool quietly);
  void stop_one(child& c, bool quietly);
  void set_phase(child& c, child_phase phase);
  void set_reason(std::string why);
  void tell(const supervisor_event& event) const {
    if (options_.on_event) options_.on_event(event);
  }

  const supervisor_options options_;
  const supervisor_view view_;
  detail::alarm_bell bell_;
  std::atomic<bool> at_work_{false};

  mutable std::mutex mutex_;
  std::vector<child_options> arrivals_;  // guarded by mutex_: added, not yet seen by run()
  std::vector<std::string> names_;       // guarded by mutex_: of all children
  std::string reason_;                   // guarded by mutex_

  // Of run()'s thread.
  std::deque<child> children_;  // in order of start
  window restarts_;             // of those that are not counted alone
};

void supervisor::state::add(child_options added) {
  if (added.name.empty()) throw std::invalid_argument("covey: a supervised child needs a name");
  if (!added.run) throw std::invalid_argument("covey: the supervised child " + added.name + " has nothing to run");
  const std::scoped_lock lock(mutex_);
  if (std::find(names_.begin(), names_.end(), added.name) != names_.end())
    throw std::invalid_argument("covey: there is a supervised child " + added.name + " already");
  if (names_.size() == supervised_children_max)
    throw std::length_error("covey: a supervisor has at most " + std::to_string(supervised_children_max) + " children");
  names_.push_back(added.name);
  arrivals_.push_back(std::move(added));
  bell_.wake();
}

std::string supervisor::state::reason() const {
  const std::scoped_lock lock(mutex_);
  return reason_;
}

void supervisor::state::set_reason(std::string why) {
  const std::scoped_lock lock(mutex_);
  reason_ = std::move(why);
}

void supervisor::state::set_phase(child& c, child_phase phase) {
  c.told.phase = phase;
  std::vector<child_state> all;
  for (const child& each : children_) all.push_back(each.told);
  view_.publish(all);
}

int supervisor::state::run(std::stop_token stop_asked) {
  detail::family_check();  // a child forked past covey has its parent's bell and view
  COVEY_CHECK(!at_work_.exchange(true), "one run() of a supervisor at a time");
  const rest_at_end rest{*this};
  set_reason({});
  const detail::stop_signals signals(bell_);
  const std::stop_callback on_stop(std::move(stop_asked), [this] { stop(); });
  for (child& c : children_) c.told.phase = child_phase::waiting;
  try {
    const int code = keep_alive();
    stop_all(false);
    return code;
  } catch (...) {
    stop_all(true);
    throw;
  }
}

int supervisor::state::keep_alive() {
  for (;;) {
    bell_.answer();  // before looking at what it rings for
    if (const int cause = bell_.cause(); cause != detail::not_asked) {
      set_reason(why_stopped(cause));
      return 0;
    }
    receive();
    for (child& c : children_)
      if (look_after(c) == verdict::give_up) return 1;
    if (nothing_left()) {
      set_reason("no child is left to run");
      return 0;
    }
    sleep();
  }
}

void supervisor::state::receive() {
  std::vector<child_options> arrivals;
  {
    const std::scoped_lock lock(mutex_);
    arrivals.swap(arrivals_);
  }
  for (child_options& o : arrivals) children_.emplace_back(std::move(o), options_);
}

bool supervisor::state::nothing_left() const {
  return std::all_of(children_.begin(), children_.end(),
                     [](const child& c) { return c.told.phase == child_phase::ended; });
}

supervisor::state::verdict supervisor::state::look_after(child& c) {
  switch (c.told.phase) {
    case child_phase::waiting:
      if (const auto refused = start(c)) return give_up(c, c.options.name + " " + *refused);
      return verdict::go_on;
    case child_phase::running: return c.ended ? collect(c) : verdict::go_on;
    case child_phase::restarting: return clock::now() >= c.due ? start_again(c) : verdict::go_on;
    case child_phase::stopping:
    case child_phase::ended: break;
  }
  return verdict::go_on;
}

// Says what is wrong when no process can be had.
std::optional<std::string> supervisor::state::start(child& c) {
  const supervised_call& call = c.options.run;
  try {
    c.current = process::from_packed({.name = c.options.name}, call.call_, call.takes_token_);
  } catch (const std::system_error& e) {
    return std::string("could not be started: ") + e.what();
  }
  c.ended = c.current.native_handle() < 0;  // over already: the keeper had no pidfd to give
  c.told.pid = c.current.pid();
  c.told.started = std::chrono::system_clock::now();
  set_phase(c, child_phase::running);
  tell({.what = kind::started, .child = c.options.name, .pid = c.told.pid});
  return std::nullopt;
}

supervisor::state::verdict supervisor::state::start_again(child& c) {
  ++c.told.restarts;
  if (const auto refused = start(c)) return on_end(c, std::nullopt, *refused);
  return verdict::go_on;
}

supervisor::state::verdict supervisor::state::collect(child& c) {
  const exit_status status = c.current.join();
  c.current = process();
  return on_end(c, status, in_words(status));
}

supervisor::state::verdict supervisor::state::on_end(child& c, const std::optional<exit_status>& status,
                                                     const std::string& how) {
  const bool success = status && status->success();
  const bool wanted = c.options.restart == permanent || (c.options.restart == transient && !success);
  c.told.last_end = how;
  set_phase(c, wanted ? child_phase::restarting : child_phase::ended);
  tell({.what = kind::ended, .child = c.options.name, .pid = c.told.pid, .status = status, .text = how});
  if (!wanted) return verdict::go_on;

  const auto now = clock::now();
  const std::size_t own = c.restarts.note(now);
  const std::size_t counted = c.counted_alone ? own : restarts_.note(now);
  const unsigned allowed = c.counted_alone ? c.max_restarts : options_.max_restarts;
  if (counted > allowed) {
    const std::string times = std::to_string(allowed) + (allowed == 1 ? " restart" : " restarts") + " within " +
                              in_words(c.counted_alone ? c.within : options_.within);
    return give_up(c, c.counted_alone ? c.options.name + " needed more than " + times + "; the last time it " + how
                                      : "the children needed more than " + times + "; the last was " + c.options.name +
                                            ", which " + how);
  }
  const milliseconds delay = delay_before(own);
  c.due = now + delay;
  tell({.what = kind::restarting, .child = c.options.name, .pid = c.told.pid, .delay = delay});
  return delay == 0ms ? start_again(c) : verdict::go_on;
}

supervisor::state::verdict supervisor::state::give_up(const child& c, const std::string& why) {
  set_reason("gave up: " + why);
  tell({.what = kind::gave_up, .child = c.options.name, .pid = c.told.pid, .text = "gave up: " + why});
  return verdict::give_up;
}

// Until a child ends, the bell rings, or a restart is due.
void supervisor::state::sleep() {
  std::vector<pollfd> fds{{bell_.fd(), POLLIN, 0}};
  std::vector<child*> whose{nullptr};
  std::optional<clock::time_point> until;
  for (child& c : children_) {
    if (c.told.phase == child_phase::running && c.ended) return;
    if (c.told.phase == child_phase::running) {
      fds.push_back({c.current.native_handle(), POLLIN, 0});
      whose.push_back(&c);
    }
    if (c.told.phase == child_phase::restarting) until = until ? std::min(*until, c.due) : c.due;
  }
  int timeout = -1;
  if (until)
    timeout = static_cast<int>(std::max<long>(0, std::chrono::ceil<milliseconds>(*until - clock::now()).count()));
  if (::poll(fds.data(), fds.size(), timeout) <= 0) return;
  for (std::size_t i = 1; i < fds.size(); ++i) whose[i]->ended = fds[i].revents != 0;
}

void supervisor::state::stop_all(bool quietly) {
  for (auto c = children_.rbegin(); c != children_.rend(); ++c) stop_one(*c, quietly);
}

void supervisor::state::stop_one(child& c, bool quietly) {
  if (!c.current.joinable()) {
    set_phase(c, child_phase::ended);
    return;
  }
  set_phase(c, child_phase::stopping);
  c.current.terminate();
  if (!quietly) tell({.what = kind::stopping, .child = c.options.name, .pid = c.told.pid});
  if (!c.current.join_for(std::min(c.options.stop_grace, for_ever))) c.current.kill();
  const exit_status status = c.current.join();
  c.current = process();
  c.told.last_end = in_words(status);
  set_phase(c, child_phase::ended);
  if (!quietly)
    tell({.what = kind::ended, .child = c.options.name, .pid = c.told.pid, .status = status, .text = c.told.last_end});
}

supervisor::supervisor(supervisor_options options) : state_(std::make_unique<state>(std::move(options))) {}

supervisor::~supervisor() = default;

void supervisor::add(child_options child) { state_->add(std::move(child)); }

int supervisor::run(std::stop_token stop) { return state_->run(std::move(stop)); }

void supervisor::stop() noexcept { state_->stop(); }

std::string supervisor::reason() const { return state_->reason(); }

supervisor_view supervisor::view() const { return state_->view(); }

}  // namespace covey
