/// @file
/// process_pool: tasks run in worker processes; a crash costs one task.
#pragma once

#include <algorithm>
#include <covey/pool/dispatcher.hpp>
#include <covey/pool/errors.hpp>
#include <covey/pool/future.hpp>
#include <covey/pool/task.hpp>
#include <deque>
#include <ranges>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace covey {

/// How a pool is made.
struct pool_options {
  std::size_t workers = 0;      ///< worker processes; 0 is one for each processor
  std::string name = "pool";    ///< shown by tools
  std::size_t bytes = 1U << 30;  ///< at most on the way to one worker, and from all of them: also of one task or answer
};

/// How one task is run.
struct task_options {
  unsigned retries = 0;  ///< how often it is run again when its worker died
};

namespace detail {

/// Keeps the answers of a map in input order.
template <class R>
class map_sink : public task_sink {
 public:
  void value(std::size_t index, decoder& in) override {
    try {
      set(index, outcome<R>(decode_result<R>(in)));
    } catch (...) {
      error(index, std::current_exception());
    }
  }
  void error(std::size_t index, std::exception_ptr e) override { set(index, outcome<R>(std::move(e))); }

  /// Makes room for `n` more answers; returns the index of the first.
  std::size_t expect(std::size_t n) {
    const std::scoped_lock lock(mutex_);
    answers_.resize(answers_.size() + n);
    missing_ += n;
    return answers_.size() - n;
  }

  /// Blocks until all answers are there.
  std::vector<outcome<R>> wait_for_all() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return missing_ == 0; });
    std::vector<outcome<R>> all;
    all.reserve(answers_.size());
    for (auto& a : answers_) all.push_back(std::move(*a));
    return all;
  }

  /// Blocks until an answer came that was not taken yet, and takes it.
  std::pair<std::size_t, outcome<R>> take_any() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !arrived_.empty(); });
    const std::size_t index = arrived_.front();
    arrived_.pop_front();
    return {index, std::move(*std::exchange(answers_[index], std::nullopt))};
  }

  /// Blocks until answer `index` is there, and takes it.
  outcome<R> take(std::size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return answers_[index].has_value(); });
    return std::move(*std::exchange(answers_[index], std::nullopt));
  }

 private:
  void set(std::size_t index, outcome<R> answer) {
    {
      const std::scoped_lock lock(mutex_);
      answers_[index] = std::move(answer);
      arrived_.push_back(index);
      --missing_;
    }
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::optional<outcome<R>>> answers_;  // guarded by mutex_
  std::deque<std::size_t> arrived_;  // guarded by mutex_
  std::size_t missing_ = 0;  // guarded by mutex_
};

/// One chunk's answers, shifted to their place in the map.
template <class R>
class shifted_sink : public task_sink {
 public:
  shifted_sink(std::shared_ptr<map_sink<R>> all, std::size_t first) : all_(std::move(all)), first_(first) {}
  void value(std::size_t index, decoder& in) override { all_->value(first_ + index, in); }
  void error(std::size_t index, std::exception_ptr e) override { all_->error(first_ + index, std::move(e)); }

 private:
  std::shared_ptr<map_sink<R>> all_;
  std::size_t first_;
};

/// Splits the parameters of a mapped function: the element's and the common ones.
template <class F, class List>
struct map_types;
template <class F, class First, class... Common>
struct map_types<F, parameters<First, Common...>> {
  using packer = chunk_packer<F, First, Common...>;
  using result = typename decltype(result_of<F>(parameters<First, Common...>{}))::type;
};
template <class F, class Element, class... Common>
using map_types_of = map_types<F, decltype(parameters_of<F, Element, Common...>())>;

}  // namespace detail

/// Answers of a map as they come; a range for one pass. Reading on may block; leaving it cancels what has not started.
///
/// Safety: thread-compatible. Must not outlive its pool.
template <class R, class Feed>
class answer_stream {
 public:
  /// An input iterator: * throws the error of the element; ++ goes on all the same.
  class iterator {
   public:
    using value_type = R;  ///< for std
    using difference_type = std::ptrdiff_t;  ///< for std
    using iterator_concept = std::input_iterator_tag;  ///< for std

    explicit iterator(answer_stream& stream) : stream_(&stream) {}  ///< for covey
    R operator*() const { return stream_->current_->value(); }
    iterator& operator++() {
      stream_->advance();
      return *this;
    }
    void operator++(int) { stream_->advance(); }
    bool operator==(std::default_sentinel_t) const { return !stream_->current_; }

   private:
    answer_stream* stream_;
  };

  answer_stream(detail::dispatcher& pool, Feed feed, bool ordered)
      : pool_(&pool), feed_(std::move(feed)), ordered_(ordered) {}  ///< for covey
  answer_stream(const answer_stream&) = delete;
  answer_stream& operator=(const answer_stream&) = delete;
  ~answer_stream() {
    for (const std::uint64_t task : tasks_) pool_->cancel(task);
  }

  /// Starts the work, and waits for the first answer.
  iterator begin() {
    if (!begun_) advance();
    return iterator(*this);
  }
  /// The end.
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  void refill() {
    while (submitted_ - taken_ < 4 * pool_->workers()) {
      const auto task = feed_(*pool_, sink_);
      if (!task) return;
      tasks_.push_back(*task);
      ++submitted_;
    }
    if (tasks_.size() > 64 * pool_->workers())
      tasks_.erase(tasks_.begin(), tasks_.end() - static_cast<std::ptrdiff_t>(4 * pool_->workers()));
  }
  void advance() {
    detail::family_check();
    begun_ = true;
    current_.reset();
    refill();
    if (taken_ == submitted_) return;
    current_.emplace(ordered_ ? sink_->take(taken_) : sink_->take_any().second);
    ++taken_;
    refill();
  }

  detail::dispatcher* pool_;
  Feed feed_;
  bool ordered_;
  bool begun_ = false;
  std::shared_ptr<detail::map_sink<R>> sink_ = std::make_shared<detail::map_sink<R>>();
  std::vector<std::uint64_t> tasks_;
  std::size_t submitted_ = 0;
  std::size_t taken_ = 0;
  std::optional<outcome<R>> current_;
};

/// Worker processes that run tasks. A task that crashes, or is killed, fails alone: its worker is replaced, and what
/// had not started runs elsewhere.
///
/// Safety:  thread-safe.
/// Death:   of a worker: the answer it was making fails with worker_died (or is tried again), all else goes on. Of the
/// owner: the
///          workers end with it.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/pool.md. Examples: examples/tour_02_pool.cpp, examples/tour_03_crash.cpp
class process_pool {
 public:
  /// One worker for each processor. Throws std::system_error when no process can be had.
  process_pool() : process_pool(pool_options{}) {}

  /// A pool as told.
  explicit process_pool(const pool_options& options)
      : dispatcher_(options.workers != 0 ? options.workers : std::max(1U, std::thread::hardware_concurrency()),
                    options.name, options.bytes) {}

  /// Runs f(args…) in a worker. Arguments are converted to f's parameters here, then travel. Does not wait for a
  /// worker, unless a gigabyte of arguments is already on its way to it.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_options>)
  auto submit(F&& f, Args&&... args) {
    return submit(task_options{}, std::forward<F>(f), std::forward<Args>(args)...);
  }

  /// The same, with options.
  template <class F, class... Args>
  auto submit(const task_options& options, F&& f, Args&&... args) {
    using kept = detail::kept<F>;
    using R = detail::task_result<kept, Args...>;
    const kept& callable = f;
    auto state = std::make_shared<detail::future_state<R>>();
    auto number = std::make_shared<std::atomic<std::uint64_t>>(0);
    state->cancel = [cancel = dispatcher_.canceller(), number] { return cancel(number->load()); };
    *number = dispatcher_.submit(detail::pack_call<detail::run_as_task>(callable, std::forward<Args>(args)...), 1,
                                 state, options.retries);
    return future<R>(std::move(state));
  }

  /// f(element, common…) for each element of `range`, in input order. Waits for all, then throws the first error in
  /// input order.
  template <class F, std::ranges::input_range Range, class... Common>
  auto map(F&& f, Range&& range, Common&&... common) {
    auto outcomes = map_outcomes(std::forward<F>(f), std::forward<Range>(range), std::forward<Common>(common)...);
    using R = decltype(outcomes.front().value());
    for (const auto& o : outcomes)
      if (!o) std::rethrow_exception(o.error());
    if constexpr (!std::is_void_v<R>) {
      std::vector<R> results;
      results.reserve(outcomes.size());
      for (auto& o : outcomes) results.push_back(o.value());
      return results;
    }
  }

  /// As map, but never throws for an element: a value or an error for each.
  template <class F, std::ranges::input_range Range, class... Common>
  auto map_outcomes(F&& f, Range&& range, Common&&... common) {
    using types = detail::map_types_of<detail::kept<F>, std::ranges::range_value_t<Range>, Common...>;
    using R = typename types::result;
    const detail::kept<F>& callable = f;
    typename types::packer packer(callable, std::forward<Common>(common)...);
    auto sink = std::make_shared<detail::map_sink<R>>();
    const std::size_t chunk = chunk_size(range);
    const auto send = [&] {
      const std::size_t count = packer.count();
      const std::size_t first = sink->expect(count);
      dispatcher_.submit(packer.take(), count, std::make_shared<detail::shifted_sink<R>>(sink, first));
    };
    for (auto&& element : range) {
      packer.add(std::forward<decltype(element)>(element));
      if (packer.count() == chunk) send();
    }
    if (packer.count() > 0) send();
    return sink->wait_for_all();
  }

  /// f(element, common…) for each element, as they finish. Input is read a little ahead; leaving the loop cancels the
  /// rest.
  template <class F, std::ranges::input_range Range, class... Common>
  auto imap_unordered(F&& f, Range&& range, Common&&... common) {
    return stream(false, std::forward<F>(f), std::forward<Range>(range), std::forward<Common>(common)...);
  }

  /// The same in input order.
  template <class F, std::ranges::input_range Range, class... Common>
  auto imap(F&& f, Range&& range, Common&&... common) {
    return stream(true, std::forward<F>(f), std::forward<Range>(range), std::forward<Common>(common)...);
  }

  /// How many workers there are.
  [[nodiscard]] std::size_t workers() const noexcept { return dispatcher_.workers(); }

  /// The workers' process ids at this moment.
  [[nodiscard]] std::vector<pid_t> worker_pids() const { return dispatcher_.worker_pids(); }

  /// How many workers were replaced because they died.
  [[nodiscard]] std::uint64_t workers_replaced() const { return dispatcher_.workers_replaced(); }

  /// Tasks that no worker has yet; may be stale.
  [[nodiscard]] std::size_t waiting_approx() const { return dispatcher_.waiting_approx(); }

 private:
  // A few chunks for each worker, so that one slow chunk does not hold up the end.
  template <class Range>
  std::size_t chunk_size(const Range& range) const {
    if constexpr (std::ranges::sized_range<Range>)
      return std::clamp<std::size_t>(std::ranges::size(range) / (4 * workers()), 1, 4096);
    else
      return 1;
  }

  template <class F, class Range, class... Common>
  auto stream(bool ordered, F&& f, Range&& range, Common&&... common) {
    using types = detail::map_types_of<detail::kept<F>, std::ranges::range_value_t<Range>, Common...>;
    using R = typename types::result;
    const detail::kept<F>& callable = f;
    // The range is kept (lvalues by reference, as views do), and its position with it.
    struct source {
      explicit source(std::views::all_t<Range> r) : elements(std::move(r)), at(std::ranges::begin(elements)) {}
      std::views::all_t<Range> elements;
      std::ranges::iterator_t<std::views::all_t<Range>> at;
    };
    auto from = std::make_shared<source>(std::views::all(std::forward<Range>(range)));
    auto feed = [from, packer = typename types::packer(callable, std::forward<Common>(common)...)](
                    detail::dispatcher& pool,
                    const std::shared_ptr<detail::map_sink<R>>& sink) mutable -> std::optional<std::uint64_t> {
      if (from->at == std::ranges::end(from->elements)) return std::nullopt;
      packer.add(*from->at);
      ++from->at;
      const std::size_t index = sink->expect(1);
      return pool.submit(packer.take(), 1, std::make_shared<detail::shifted_sink<R>>(sink, index));
    };
    return answer_stream<R, decltype(feed)>(dispatcher_, std::move(feed), ordered);
  }

  detail::dispatcher dispatcher_;
};

}  // namespace covey
