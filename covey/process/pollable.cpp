#include <covey/process/pollable.hpp>

#include <utility>

namespace covey {

using namespace detail;

pollable::pollable(std::unique_ptr<polled_object> object)
    : object_(std::move(object)), fd_(make_eventfd()), watching_(fd_.get()) {
  rearm();
}

bool pollable::rearm() {
  family_check();  // a child forked past covey shares its parent's descriptor
  watching_.forget();
  lower(fd_.get());
  const std::uint32_t deaths = deaths_seen();
  wait_target& target = object_->target();
  const wait_word word = target.arm();
  std::atomic_thread_fence(std::memory_order_seq_cst);  // as in wait_any
  if (target.ready()) {
    raise(fd_.get());
    return true;
  }
  watching_.watch(std::span(&word, word.word != nullptr ? 1 : 0), deaths);
  return false;
}

}  // namespace covey
