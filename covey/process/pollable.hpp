/// @file
/// pollable: a descriptor for an object, for event loops.
#pragma once

#include <covey/base/unique_fd.hpp>
#include <covey/process/wait_any.hpp>
#include <covey/process/watcher.hpp>
#include <memory>
#include <optional>

namespace covey {
namespace detail {

/// An object that is polled, whatever it is.
class polled_object {
 public:
  polled_object() = default;
  polled_object(const polled_object&) = delete;
  polled_object& operator=(const polled_object&) = delete;
  virtual ~polled_object() = default;
  /// As it is to be waited for from now on.
  virtual wait_target& target() = 0;
};

template <class Object>
class polled_object_of final : public polled_object {
 public:
  explicit polled_object_of(const Object& object) : object_(object) {}
  wait_target& target() override { return target_.emplace(object_.wait_hook()); }

 private:
  Object object_;
  std::optional<target_of<Object>> target_;
};

}  // namespace detail

/// Gives a queue, an event, a semaphore… a descriptor that poll, epoll and event loops take. (A process has one
/// already: process::native_handle().)
///
/// It becomes readable when the object may have become ready, at each death in the family, and a second after rearm();
/// it stays so until rearm(). Nothing is to be read from it. The loop takes what there is without blocking and rearms
/// then:
///
///     covey::pollable p{queue};
///     epoll_event e{.events = EPOLLIN, .data = {.ptr = &p}};
///     epoll_ctl(epoll, EPOLL_CTL_ADD, p.fd(), &e);
///     …                                          // p is readable:
///     const bool closed = queue.closed();        // asked first: nothing comes after what is taken then
///     while (auto message = queue.try_get()) handle(*message);
///     if (closed) epoll_ctl(epoll, EPOLL_CTL_DEL, p.fd(), nullptr);  // an end stays readable
///     else p.rearm();
///
/// rearm() looks at the object: what came in between makes the descriptor readable again at once, so that nothing is
/// missed, and a loop that takes one message a turn is told again too. This is right with level-triggered and with
/// edge-triggered (EPOLLET) polling; without rearm() after each turn the first one spins and the second one sleeps for
/// ever. When the object is found ready the descriptor counts as new: EPOLLET tells of it once more.
///
/// The first one starts a thread of covey's which sleeps until something happens; one serves 126 pollables. From then
/// on process::forked refuses. A pollable keeps its object.
///
/// Safety: thread-compatible; not to be used in a forked child. Not movable: loops keep its address.
/// Death:  others may die at any instruction. When this process dies, one needless wake is left.
/// Design: docs/design/waiting.md. Example: examples/wait_any.cpp
class pollable {
 public:
  /// Throws std::system_error when there is no descriptor or thread to be had.
  template <waitable Object>
    requires(std::copy_constructible<Object>)
  explicit pollable(const Object& object) : pollable(std::make_unique<detail::polled_object_of<Object>>(object)) {}

  pollable(const pollable&) = delete;
  pollable& operator=(const pollable&) = delete;
  ~pollable() = default;  ///< Closes the descriptor.

  /// The descriptor, for as long as this lives. Owned by this object.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  /// Makes it unreadable, unless the object is ready; whether it is. Never blocks. Of an event that is set and cleared
  /// at once, it sees what happens from here on.
  bool rearm();

 private:
  explicit pollable(std::unique_ptr<detail::polled_object> object);

  std::unique_ptr<detail::polled_object> object_;
  unique_fd fd_;
  detail::watching watching_;
};

}  // namespace covey
