/// @file
/// pipe: two ends that talk to each other.
#pragma once

#include <covey/ipc/queue.hpp>
#include <utility>

namespace covey {

/// One end of a pipe: what is put here is got at the other end, and the other way round.
///
/// An end is *taken* by the process that it arrives in or that first uses it. When the last process that took the other
/// end is gone, put() throws no_consumers; get() gives what was put before, and then nothing if that process closed the
/// pipe or ended in order, or throws no_producers if it died.
///
/// Handle:  a copy is the same end; give it to any task, process or message.
/// Safety:  process-safe; one object is thread-compatible: give each thread its own copy.
/// Death:   as of queue's participants: nothing put is lost, nobody waits for the dead. A message in the hand of a
///          holder of this end that died is delivered again to another holder of this end.
/// Order:   first in, first out for each thread that puts.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/queue.md: two queues with roles. Example: examples/pipe.cpp
template <class Out, class In = Out>
class pipe {
 public:
  using covey_handle = void;  ///< may travel to other processes

  /// Blocks while full. Throws as queue::put().
  void put(const Out& value) const { taken().out_.put(value); }
  /// As put(), but returns false when `stop` was requested while it was full.
  [[nodiscard]] bool put(const Out& value, std::stop_token stop) const {
    return taken().out_.put(value, std::move(stop));
  }
  /// Returns false when full. Never blocks for room. Throws as queue::put().
  [[nodiscard]] bool try_put(const Out& value) const { return taken().out_.try_put(value); }
  /// Returns false when it stayed full for `timeout`, or `stop` was requested. Throws as queue::put().
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const Out& value, const std::chrono::duration<Rep, Period>& timeout,
                             std::stop_token stop = {}) const {
    return taken().out_.put_for(value, timeout, std::move(stop));
  }
  /// As put_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool put_until(const Out& value, const std::chrono::time_point<Clock, Duration>& until,
                               std::stop_token stop = {}) const {
    return taken().out_.put_until(value, until, std::move(stop));
  }

  /// Blocks until a message comes; nothing when the other end closed, or ended in order, and all was read.
  /// Acknowledges this thread's message before. Throws no_producers, queue_damaged, bad_message.
  std::optional<In> get() const { return taken().in_.get(); }
  /// As get(), but nothing also when `stop` was requested.
  std::optional<In> get(std::stop_token stop) const { return taken().in_.get(std::move(stop)); }
  /// Takes a message if there is one. Never blocks.
  std::optional<In> try_get() const { return taken().in_.try_get(); }
  /// As get(), but nothing also when none came within `timeout` or `stop` was requested.
  template <class Rep, class Period>
  std::optional<In> get_for(const std::chrono::duration<Rep, Period>& timeout, std::stop_token stop = {}) const {
    return taken().in_.get_for(timeout, std::move(stop));
  }
  /// As get_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  std::optional<In> get_until(const std::chrono::time_point<Clock, Duration>& until, std::stop_token stop = {}) const {
    return taken().in_.get_until(until, std::move(stop));
  }

  /// What this end puts into, with all that a queue_writer can do: put_many(), loan()…
  [[nodiscard]] const queue_writer<Out>& writer() const { return taken().out_; }
  /// What this end gets from, with all that a queue_reader can do: get_many(), get_delivery(), get_view(), task_done()…
  [[nodiscard]] const queue_reader<In>& reader() const { return taken().in_; }

  /// For wait_any: ready when there is a message, or the end.
  [[nodiscard]] auto wait_hook() const { return taken().in_.wait_hook(); }
  /// For covey::room: of what is put here.
  [[nodiscard]] auto room_hook(std::size_t bytes) const { return taken().out_.room_hook(bytes); }

  /// This end puts no more: the other reads what was put, and then the end. Getting goes on.
  void close() const { taken().out_.close(); }

  /// Whether both are the same end of the same pipe.
  bool operator==(const pipe& other) const noexcept { return out_ == other.out_ && in_ == other.in_; }

  /// For covey.
  void encode_handle(detail::encoder& out) const {
    out_.encode_handle(out);
    in_.encode_handle(out);
  }
  /// For covey.
  static pipe decode_handle(detail::decoder& in) {
    queue_writer<Out> out = queue_writer<Out>::decode_handle(in);
    return pipe(std::move(out), queue_reader<In>::decode_handle(in));
  }

 private:
  template <class A, class B>
  friend std::pair<pipe<A, B>, pipe<B, A>> make_pipe(const queue_options&);
  pipe(queue_writer<Out> out, queue_reader<In> in) : out_(std::move(out)), in_(std::move(in)) {}

  const pipe& taken() const {
    out_.take_role();
    in_.take_role();
    return *this;
  }

  queue_writer<Out> out_;
  queue_reader<In> in_;
};

/// Makes a pipe: A is what the first end puts, B what the second puts. `options` are those of each direction. Throws
/// std::system_error if no shared memory can be had.
template <class A, class B = A>
std::pair<pipe<A, B>, pipe<B, A>> make_pipe(const queue_options& options = {}) {
  const queue<A> there(options);
  const queue<B> back(options);
  return {pipe<A, B>(there.writer(), back.reader()), pipe<B, A>(back.writer(), there.reader())};
}

}  // namespace covey
