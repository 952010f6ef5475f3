#include <covey/sync/permits.hpp>

#include <string>
#include <system_error>

namespace covey {
namespace detail {

// First the free, then the dead's: to look whether an owner lives costs more. Either way one store of the own name.
bool permits_state::take() {
  family_check();  // a child forked past covey has its parent's number
  const process_id me = this_process_id();
  for (std::uint32_t i = 0; i < count(); ++i) {
    process_id nobody = 0;
    if (owners_[i].load(std::memory_order_relaxed) == 0 &&
        owners_[i].compare_exchange_strong(nobody, me, std::memory_order_seq_cst))
      return true;
  }
  for (std::uint32_t i = 0; i < count(); ++i) {
    process_id owner = owners_[i].load(std::memory_order_seq_cst);
    if ((owner == 0 || !process_alive(owner)) &&
        owners_[i].compare_exchange_strong(owner, me, std::memory_order_seq_cst))
      return true;
  }
  return false;
}

bool permits_state::wait(const deadline& until, const stop_word* stop) {
  return waiting_.wait([this] { return take(); }, until, stop);
}

bool permits_state::give() noexcept {
  for (std::uint32_t i = 0; i < count(); ++i) {
    process_id mine = this_process_id();
    if (owners_[i].load(std::memory_order_relaxed) != mine ||
        !owners_[i].compare_exchange_strong(mine, 0, std::memory_order_seq_cst))
      continue;
    waiting_.wake(1);
    return true;
  }
  return false;
}

std::uint32_t permits_state::held(process_id by) const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < count(); ++i) n += owners_[i].load(std::memory_order_relaxed) == by ? 1 : 0;
  return n;
}

std::uint32_t permits_state::available() const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < count(); ++i) {
    const process_id owner = owners_[i].load(std::memory_order_relaxed);
    n += owner == 0 || !process_alive(owner) ? 1 : 0;
  }
  return n;
}

bool permits_state::any_available() const noexcept {
  for (std::uint32_t i = 0; i < count(); ++i) {
    const process_id owner = owners_[i].load(std::memory_order_relaxed);
    if (owner == 0 || !process_alive(owner)) return true;
  }
  return false;
}

}  // namespace detail

namespace {

std::uint32_t checked(std::ptrdiff_t count) {
  if (count < 1 || count > permits::max())
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            "covey: there can be 1 to " + std::to_string(permits::max()) + " permits");
  return static_cast<std::uint32_t>(count);
}

}  // namespace

permits::permits(std::ptrdiff_t count) : state_(std::in_place, checked(count)) {}

bool permits::take_by(const detail::deadline& until, std::stop_token stop) {
  if (state_->take()) return true;
  const detail::stop_word stopped(std::move(stop));
  return state_->wait(until, &stopped);
}

void permits::release() {
  detail::family_check();  // a child forked past covey has its parent's
  if (!state_->give())
    throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                            "covey: this process owns no permit that it could release");
}

void permit::reset() noexcept {
  if (!from_) return;
  try {
    from_->release();
  } catch (const std::system_error&) {
    // Somebody else of this process released it: there is nothing to give back.
  }
  from_.reset();
}

}  // namespace covey
