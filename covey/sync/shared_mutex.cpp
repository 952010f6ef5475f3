// A reader enters by one store of its name into the table, and then looks for a writer; a writer says that it is there,
// and then looks at the table. All of that is sequentially consistent, so at least one of the two sees the other; a
// reader that sees a writer takes its name back and waits.
#include <covey/sync/shared_mutex.hpp>

#include <bit>
#include <system_error>

namespace covey {
namespace detail {
namespace {

// Where a thread looks first for its place: spread, so that neighbours do not share cache lines.
std::uint32_t first_place(participant name) noexcept {
  return static_cast<std::uint32_t>((name & 0xffff'ffff) * 0x9e37'79b9'7f4a'7c15 >> 40) %
         shared_lock_state::readers_max;
}

std::uint64_t line_bit(std::uint32_t place) { return std::uint64_t{1} << place / 8; }

[[noreturn]] void refuse_own() {
  throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                          "covey: lock a shared_mutex that this thread owns");
}

}  // namespace

// ---- readers -------------------------------------------------------------------------------------------------------

bool shared_lock_state::writer_there() const noexcept {
  const participant w = writer_.load(std::memory_order_seq_cst);
  return w != 0 && alive(w);
}

bool shared_lock_state::take_slot() noexcept {
  const participant me = this_name();
  const std::uint32_t first = first_place(me);
  for (std::uint32_t i = 0; i < readers_max; ++i) {
    const std::uint32_t at = (first + i) % readers_max;
    participant nobody = 0;
    if (readers_[at].load(std::memory_order_relaxed) != 0) continue;
    if ((lines_used_.load(std::memory_order_seq_cst) & line_bit(at)) == 0)
      lines_used_.fetch_or(line_bit(at), std::memory_order_seq_cst);  // before the name: a writer must find it
    if (readers_[at].compare_exchange_strong(nobody, me, std::memory_order_seq_cst)) return true;
  }
  return false;
}

// Also of one that was seen there and never entered: who waits for it may have told so.
void shared_lock_state::clear_slot() noexcept {
  if (watched_ != 0) note_release();
  const participant me = this_name();
  const std::uint32_t first = first_place(me);
  for (std::uint32_t i = 0; i < readers_max; ++i) {
    auto& place = readers_[(first + i) % readers_max];
    if (place.load(std::memory_order_relaxed) != me) continue;
    place.store(0, std::memory_order_seq_cst);
    break;
  }
  writer_waits_.wake();
  room_wait_.wake(1);
}

// Whether a place is free, after the dead have lost theirs.
bool shared_lock_state::has_room() noexcept {
  bool free = false;
  for (auto& place : readers_) {
    participant reader = place.load(std::memory_order_seq_cst);
    if (reader != 0 && !alive(reader)) place.compare_exchange_strong(reader, 0, std::memory_order_seq_cst);
    free = free || place.load(std::memory_order_relaxed) == 0;
  }
  return free;
}

shared_lock_state::entry shared_lock_state::try_enter() {
  if (writer_.load(std::memory_order_relaxed) == this_name()) refuse_own();
  if (writer_there()) return entry::writer_there;
  if (!take_slot()) return entry::no_room;
  if (writer_there()) {
    clear_slot();
    return entry::writer_there;
  }
  // No writer can begin now, so this is what a dead one left.
  if (dirty_.load(std::memory_order_seq_cst) != 0) {
    clear_slot();
    throw owner_died();
  }
  ++locks_owned;
  return entry::entered;
}

bool shared_lock_state::try_lock_shared() {
  const entry e = try_enter();
  return e == entry::entered || (e == entry::no_room && has_room() && try_enter() == entry::entered);
}

bool shared_lock_state::lock_shared_until(const deadline& until, const stop_word* stop) {
  for (;;) {
    switch (try_enter()) {
      case entry::entered: return true;
      case entry::writer_there:
        if (!readers_wait_.wait([&] { return !writer_there(); }, until, stop)) return false;
        break;
      case entry::no_room:
        if (!room_wait_.wait([&] { return has_room(); }, until, stop)) return false;
        break;
    }
  }
}

void shared_lock_state::lock_shared(std::uint32_t number) {
  if (try_enter() == entry::entered) return;
  wait_watched(
      watched_ != 0, number, [&](const deadline& until) { return lock_shared_until(until, nullptr); },
      [&](const auto& ask) {
        if (const participant w = writer_.load(std::memory_order_seq_cst); w != 0)
          ask(w, [&] { return writer_.load(std::memory_order_seq_cst) == w; });
      });
}

void shared_lock_state::unlock_shared() noexcept {
  if (is_forked_past()) return;
  if (locks_owned != 0) --locks_owned;
  clear_slot();
}

// ---- writers -------------------------------------------------------------------------------------------------------

// Keeps other writers and new readers out.
bool shared_lock_state::take_writing(const deadline& until, const stop_word* stop) {
  if (writing_.lock(lock_word::unrepaired_lock::take, until, stop) == lock_word::outcome::not_now) return false;
  writer_.store(this_name(), std::memory_order_seq_cst);
  return true;
}

void shared_lock_state::leave_writing() noexcept {
  if (watched_ != 0) note_release();
  writer_.store(0, std::memory_order_seq_cst);
  writing_.unlock();
  readers_wait_.wake();
}

// Calls `f(place)` for each that may have a reader, until it returns false; whether it never did.
template <class F>
bool shared_lock_state::each_place(const F& f) {
  for (std::uint64_t used = lines_used_.load(std::memory_order_seq_cst); used != 0; used &= used - 1) {
    const auto line = static_cast<std::uint32_t>(std::countr_zero(used));
    for (std::uint32_t i = line * 8; i < line * 8 + 8 && i < readers_max; ++i)
      if (!f(readers_[i])) return false;
  }
  return true;
}

bool shared_lock_state::drained() {
  return each_place([&](std::atomic<participant>& place) {
    participant reader = place.load(std::memory_order_seq_cst);
    if (reader == 0) return true;
    if (reader == this_name()) refuse_own();
    if (alive(reader)) return false;
    place.compare_exchange_strong(reader, 0, std::memory_order_seq_cst);
    return true;
  });
}

bool shared_lock_state::drain(const deadline& until, const stop_word* stop) {
  return writer_waits_.wait([&] { return drained(); }, until, stop);
}

// The caller has `writing_`: what it does then goes on in the section, or leaves.
template <class Drain>
bool shared_lock_state::enter_section(const Drain& drained_in_time) {
  try {
    if (dirty_.load(std::memory_order_seq_cst) != 0) throw owner_died();
    if (drained_in_time()) {
      dirty_.store(1, std::memory_order_seq_cst);
      return true;
    }
  } catch (...) {
    leave_writing();
    throw;
  }
  leave_writing();
  return false;
}

bool shared_lock_state::try_lock() {
  if (writing_.try_lock(lock_word::unrepaired_lock::take) == lock_word::outcome::not_now) return false;
  writer_.store(this_name(), std::memory_order_seq_cst);
  return enter_section([&] { return drained(); });
}

bool shared_lock_state::lock_until(const deadline& until, const stop_word* stop) {
  return take_writing(until, stop) && enter_section([&] { return drain(until, stop); });
}

void shared_lock_state::take_writing_watched(std::uint32_t number) {
  wait_watched(
      watched_ != 0, number, [&](const deadline& until) { return take_writing(until, nullptr); },
      [&](const auto& ask) {
        if (const participant w = writing_.owner_approx(); w != 0) ask(w, [&] { return writing_.owner_approx() == w; });
      });
}

void shared_lock_state::drain_watched(std::uint32_t number) {
  wait_watched(
      watched_ != 0, number, [&](const deadline& until) { return drain(until, nullptr); },
      [&](const auto& ask) {
        each_place([&](std::atomic<participant>& place) {
          const participant r = place.load(std::memory_order_seq_cst);
          return r == 0 || !ask(r, [&] { return place.load(std::memory_order_seq_cst) == r; });
        });
      });
}

void shared_lock_state::lock(std::uint32_t number) {
  take_writing_watched(number);
  (void)enter_section([&] {
    drain_watched(number);
    return true;
  });
}

void shared_lock_state::unlock() noexcept {
  if (is_forked_past()) return;
  dirty_.store(0, std::memory_order_seq_cst);
  leave_writing();
}

// As enter_section, with the whole of a recover() inside.
template <class Drain>
recovery shared_lock_state::repair_section(const Drain& drained_in_time, const std::function<void()>& repair) {
  try {
    if (!drained_in_time()) {
      leave_writing();
      return recovery::not_in_time;
    }
    const bool unrepaired = dirty_.load(std::memory_order_seq_cst) != 0;
    if (unrepaired) repair();
    dirty_.store(0, std::memory_order_seq_cst);
    leave_writing();
    return unrepaired ? recovery::repaired : recovery::was_whole;
  } catch (...) {
    leave_writing();
    throw;
  }
}

bool shared_lock_state::recover(std::uint32_t number, const std::function<void()>& repair) {
  take_writing_watched(number);
  const auto drained = [&] {
    drain_watched(number);
    return true;
  };
  return repair_section(drained, repair) == recovery::repaired;
}

recovery shared_lock_state::recover(const std::function<void()>& repair, const deadline& until, const stop_word* stop) {
  if (!take_writing(until, stop)) return recovery::not_in_time;
  return repair_section([&] { return drain(until, stop); }, repair);
}

bool shared_lock_state::unrepaired_approx() const noexcept {
  return dirty_.load(std::memory_order_seq_cst) != 0 && !writer_there();
}

}  // namespace detail

bool shared_mutex::try_lock() { return state_->try_lock(); }

bool shared_mutex::lock_by(const detail::deadline& until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_until(until, &stopped);
}

recovery shared_mutex::recover_by(const detail::deadline& until, std::stop_token stop,
                                  const std::function<void()>& repair) {
  const detail::stop_word stopped(std::move(stop));
  return state_->recover(repair, until, &stopped);
}

bool shared_mutex::try_lock_shared() { return state_->try_lock_shared(); }

bool shared_mutex::lock_shared_by(const detail::deadline& until, std::stop_token stop) {
  const detail::stop_word stopped(std::move(stop));
  return state_->lock_shared_until(until, &stopped);
}

}  // namespace covey
