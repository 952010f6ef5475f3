/// @file
/// future<T>: the answer of a task that runs elsewhere.
#pragma once

#include <chrono>
#include <condition_variable>
#include <covey/base/check.hpp>
#include <covey/base/codec.hpp>
#include <covey/memory/deadline.hpp>
#include <covey/memory/family.hpp>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>

namespace covey {

namespace detail {

/// Where the answers of a task go; called by the pool's thread, one answer for each index.
class task_sink {
 public:
  task_sink() = default;
  task_sink(const task_sink&) = delete;
  task_sink& operator=(const task_sink&) = delete;
  virtual ~task_sink() = default;
  virtual void value(std::size_t index, decoder& in) = 0;
  virtual void error(std::size_t index, std::exception_ptr e) = 0;
};

/// void has no values; a place for it where one is needed.
template <class T>
using storable = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class T>
storable<T> decode_result(decoder& in) {
  if constexpr (std::is_void_v<T>) {
    return {};
  } else {
    T result = decode<T>(in);
    expect_end(in);
    return result;
  }
}

template <class T>
class future_state : public task_sink {
 public:
  void value(std::size_t, decoder& in) override {
    try {
      set(decode_result<T>(in));
    } catch (...) {
      error(0, std::current_exception());
    }
  }
  void error(std::size_t, std::exception_ptr e) override { set(std::move(e)); }

  void wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return done(); });
  }
  bool wait_by(const deadline& until) {
    std::unique_lock lock(mutex_);
    const auto answered = [this] { return done(); };
    if (until) return ready_.wait_until(lock, *until, answered);
    ready_.wait(lock, answered);
    return true;
  }
  T get() {
    wait();
    if (auto* const e = std::get_if<std::exception_ptr>(&answer_)) std::rethrow_exception(*e);
    if constexpr (!std::is_void_v<T>) return std::move(std::get<1>(answer_));
  }

  std::function<bool()> cancel;  // constant after construction

 private:
  [[nodiscard]] bool done() const { return answer_.index() != 0; }
  template <class U>
  void set(U&& answer) {
    {
      const std::scoped_lock lock(mutex_);
      if constexpr (std::is_same_v<std::remove_cvref_t<U>, std::exception_ptr>)
        answer_.template emplace<2>(std::forward<U>(answer));
      else
        answer_.template emplace<1>(std::forward<U>(answer));
    }
    ready_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::variant<std::monostate, storable<T>, std::exception_ptr> answer_;  // guarded by mutex_ until done
};

}  // namespace detail

/// The answer of a task: a value, the task's own exception, or why there is none. std::future's names and contract.
///
/// Safety:  thread-compatible. Move-only. Lives in the process that submitted the task.
/// Death:   when the task's worker dies, get() throws worker_died.
template <class T>
class future {
 public:
  /// No task.
  future() noexcept = default;

  /// Whether there is an answer to get.
  [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

  /// Blocks until the answer is there and returns it, once. Throws the task's own exception, worker_died, or
  /// task_cancelled; and std::future_error (no_state) when not valid.
  T get() {
    require_state();
    const auto state = std::move(state_);
    return state->get();
  }

  /// Blocks until the answer is there.
  void wait() const {
    require_state();
    state_->wait();
  }

  /// As std::future::wait_for.
  template <class Rep, class Period>
  std::future_status wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    return wait_by(detail::deadline_in(timeout));
  }

  /// As std::future::wait_until. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  std::future_status wait_until(const std::chrono::time_point<Clock, Duration>& until) const {
    return wait_by(detail::steady(until));
  }

  /// Cancels the task if no worker has it yet: then get() throws task_cancelled. Returns whether it did. The pool may
  /// be gone.
  bool cancel() {
    require_state();
    return state_->cancel();
  }

  explicit future(std::shared_ptr<detail::future_state<T>> state) : state_(std::move(state)) {}  ///< for covey

 private:
  std::future_status wait_by(const detail::deadline& until) const {
    require_state();
    return state_->wait_by(until) ? std::future_status::ready : std::future_status::timeout;
  }
  void require_state() const {
    if (!state_) throw std::future_error(std::future_errc::no_state);
    detail::family_check();  // nobody answers in a child forked past covey
  }
  std::shared_ptr<detail::future_state<T>> state_;
};

/// What became of one element of a map: a value or an error.
///
/// Safety: thread-compatible.
template <class T>
class outcome {
 public:
  /// A value.
  explicit outcome(detail::storable<T> value) : answer_(std::in_place_index<0>, std::move(value)) {}
  /// An error.
  explicit outcome(std::exception_ptr e) : answer_(std::in_place_index<1>, std::move(e)) {}

  /// Whether it is a value.
  [[nodiscard]] bool has_value() const noexcept { return answer_.index() == 0; }
  /// Whether it is a value.
  explicit operator bool() const noexcept { return has_value(); }

  /// The value; throws the error when it is one.
  T value() const {
    if (!has_value()) std::rethrow_exception(std::get<1>(answer_));
    if constexpr (!std::is_void_v<T>) return std::get<0>(answer_);
  }

  /// The error, or null.
  [[nodiscard]] std::exception_ptr error() const noexcept {
    return has_value() ? std::exception_ptr{} : std::get<1>(answer_);
  }

 private:
  std::variant<detail::storable<T>, std::exception_ptr> answer_;
};

}  // namespace covey
