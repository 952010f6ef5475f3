/// @file
/// wait_any: waits for the first of several things of any kind.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <concepts>
#include <covey/memory/park.hpp>
#include <covey/memory/waitable.hpp>
#include <covey/sync/handle.hpp>
#include <deque>
#include <optional>
#include <ranges>
#include <span>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <vector>

namespace covey {

/// What wait_any and pollable take: queue, priority_queue, lifo_queue, a reader or a writer of one, pipe, subscriber,
/// room in any of these or in a broadcast, event, counting_semaphore, permits, latch, process, readable, writable; and
/// any type with the member that covey/memory/waitable.hpp describes.
template <class T>
concept waitable = requires(const T& object) {
  { object.wait_hook().ready() } -> std::same_as<bool>;
  { object.wait_hook().arm() } -> std::same_as<detail::wait_word>;
};

namespace detail {

bool poll_now(int fd, short events) noexcept;

struct descriptor_hook {
  int fd;
  short events;
  [[nodiscard]] bool ready() const noexcept { return poll_now(fd, events); }
  [[nodiscard]] wait_word arm() const noexcept { return {}; }
  [[nodiscard]] wait_descriptor polled() const noexcept { return {fd, events, true}; }
};

/// A hook, whatever it is of.
class wait_target {
 public:
  wait_target() = default;
  wait_target(const wait_target&) = delete;
  wait_target& operator=(const wait_target&) = delete;
  virtual ~wait_target() = default;
  virtual bool ready() = 0;
  virtual wait_word arm() = 0;
  [[nodiscard]] virtual wait_descriptor polled() const { return {}; }
  /// polled() has come true: returns when ready() is true too, which is soon.
  virtual void settle() {}
  /// Neither a word nor a death would tell: look again after a moment.
  [[nodiscard]] virtual bool must_look_again() const { return false; }
};

template <class Hook>
class wait_target_on final : public wait_target {
 public:
  explicit(false) wait_target_on(Hook hook) : hook_(std::move(hook)) {}
  bool ready() override { return hook_.ready(); }
  wait_word arm() override { return hook_.arm(); }
  [[nodiscard]] wait_descriptor polled() const override {
    if constexpr (requires { hook_.polled(); })
      return hook_.polled();
    else
      return {};
  }
  void settle() override {
    if constexpr (requires { hook_.settle(); }) hook_.settle();
  }
  [[nodiscard]] bool must_look_again() const override {
    if constexpr (requires { hook_.must_look_again(); })
      return hook_.must_look_again();
    else
      return false;
  }

 private:
  Hook hook_;
};

/// Nothing: `until` passed, or stopped. Throws std::system_error.
std::optional<std::size_t> wait_for_one(std::span<wait_target* const> all, const deadline& until, std::stop_token stop);

template <class T>
using target_of = wait_target_on<decltype(std::declval<const T&>().wait_hook())>;

template <class R>
using element_of = std::remove_cvref_t<std::ranges::range_reference_t<R>>;

template <class R>
concept range_of_waitables =
    std::ranges::input_range<const R> &&
    (waitable<element_of<const R>> || waitable<std::remove_cv_t<std::remove_pointer_t<element_of<const R>>>>);

template <class... Objects>
concept waitables = sizeof...(Objects) != 0 &&
                    ((waitable<Objects> && ...) || (sizeof...(Objects) == 1 && (range_of_waitables<Objects> && ...)));

template <class... Objects>
std::optional<std::size_t> wait_for_objects(const deadline& until, std::stop_token stop, const Objects&... objects) {
  std::tuple<target_of<Objects>...> targets(objects.wait_hook()...);
  const auto all = std::apply([](auto&... t) { return std::array<wait_target*, sizeof...(Objects)>{&t...}; }, targets);
  return wait_for_one(all, until, std::move(stop));
}

template <class R>
std::optional<std::size_t> wait_for_range(const deadline& until, std::stop_token stop, const R& range) {
  using element = element_of<const R>;
  std::deque<target_of<std::remove_cv_t<std::remove_pointer_t<element>>>> targets;
  std::vector<wait_target*> all;
  for (const auto& object : range) {
    if constexpr (std::is_pointer_v<element>)
      all.push_back(&targets.emplace_back(object->wait_hook()));
    else
      all.push_back(&targets.emplace_back(object.wait_hook()));
  }
  return wait_for_one(all, until, std::move(stop));
}

template <class... Objects>
std::optional<std::size_t> wait_for_any(const deadline& until, std::stop_token stop, const Objects&... objects) {
  if constexpr ((waitable<Objects> && ...))
    return wait_for_objects(until, std::move(stop), objects...);
  else
    return wait_for_range(until, std::move(stop), objects...);
}

}  // namespace detail

/// A descriptor that wait_any waits for until a read would not block, or it has ended or failed. Not owned. One that is
/// not open counts as ready: the read says why.
struct readable {
  int fd = -1;  ///< any descriptor that poll(2) takes
  /// For wait_any.
  [[nodiscard]] detail::descriptor_hook wait_hook() const noexcept { return {fd, POLLIN}; }
};

/// As readable, until a write would not block.
struct writable {
  int fd = -1;  ///< any descriptor that poll(2) takes
  /// For wait_any.
  [[nodiscard]] detail::descriptor_hook wait_hook() const noexcept { return {fd, POLLOUT}; }
};

/// Blocks until one of the objects is ready, and returns the index of the first that is: a queue has a message or has
/// ended, a room{queue} is there or put() would throw, an event is set (or was, since the call), a semaphore or permits
/// have one to acquire, a latch is at 0, a process has ended, a descriptor can be read or written. Instead of objects
/// it also takes one range of objects, or of pointers to objects, of one kind.
///
/// It takes nothing and reserves nothing: another may be faster than the try_get() or try_acquire() that follows. The
/// first ready one wins always; to serve a second one beside a busy first, change the order from call to call. All that
/// wait in this way wake when something is ready, as with poll(2); those who wait for an object alone lose no wake by
/// it.
///
/// An event, a semaphore and a latch do not know whom they wait for: `wait_any(event, process)` is how to wait for what
/// a process may die over.
///
/// With a descriptor among other things than processes it uses a thread of covey's, which is started then and sleeps
/// ever after; from then on process::forked refuses.
///
/// Safety: process-safe. Death: others may die at any instruction; a caller that dies leaves others one needless wake.
/// Throws std::system_error: argument_list_too_long beyond 126 objects (processes and descriptors are not counted, and
/// each may be there twice), and when there is no descriptor or thread to be had. Without objects it blocks until
/// stopped.
template <class... Objects>
  requires(detail::waitables<Objects...>)
std::size_t wait_any(const Objects&... objects) {
  return *detail::wait_for_any(std::nullopt, {}, objects...);
}

/// The same; nothing when `stop` was requested first.
template <class... Objects>
  requires(detail::waitables<Objects...>)
[[nodiscard]] std::optional<std::size_t> wait_any(std::stop_token stop, const Objects&... objects) {
  return detail::wait_for_any(std::nullopt, std::move(stop), objects...);
}

/// The same; nothing when `timeout` passed first. One of 0 only looks.
template <class Rep, class Period, class... Objects>
  requires(detail::waitables<Objects...>)
[[nodiscard]] std::optional<std::size_t> wait_any_for(const std::chrono::duration<Rep, Period>& timeout,
                                                      const Objects&... objects) {
  return detail::wait_for_any(detail::deadline_in(timeout), {}, objects...);
}

/// The same; nothing when `timeout` passed, or `stop` was requested, first.
template <class Rep, class Period, class... Objects>
  requires(detail::waitables<Objects...>)
[[nodiscard]] std::optional<std::size_t> wait_any_for(const std::chrono::duration<Rep, Period>& timeout,
                                                      std::stop_token stop, const Objects&... objects) {
  return detail::wait_for_any(detail::deadline_in(timeout), std::move(stop), objects...);
}

/// As wait_any_for, with a point in time. A clock that is set while this waits is not followed.
template <class Clock, class Duration, class... Objects>
  requires(detail::waitables<Objects...>)
[[nodiscard]] std::optional<std::size_t> wait_any_until(const std::chrono::time_point<Clock, Duration>& until,
                                                        const Objects&... objects) {
  return detail::wait_for_any(detail::steady(until), {}, objects...);
}

/// As wait_any_for, with a point in time.
template <class Clock, class Duration, class... Objects>
  requires(detail::waitables<Objects...>)
[[nodiscard]] std::optional<std::size_t> wait_any_until(const std::chrono::time_point<Clock, Duration>& until,
                                                        std::stop_token stop, const Objects&... objects) {
  return detail::wait_for_any(detail::steady(until), std::move(stop), objects...);
}

}  // namespace covey
