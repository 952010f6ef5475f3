/// @file
/// stop_signals: SIGTERM and SIGINT ring an alarm, in whichever thread they arrive.
#pragma once

#include <atomic>
#include <covey/base/unique_fd.hpp>
#include <cstdint>

namespace covey::detail {

/// Why an alarm rang: a signal's number, or one of these.
inline constexpr int not_asked = 0;
inline constexpr int asked_by_call = -1;

/// Wakes one who polls. The first cause is kept.
///
/// Safety: signal-safe.
class alarm_bell {
 public:
  /// Throws std::system_error when no descriptor can be had.
  alarm_bell();

  /// Asks to stop.
  void ring(int cause) noexcept;

  /// Wakes the poll and asks for nothing.
  void wake() noexcept;

  /// Forgets wakes, not the cause.
  void answer() noexcept;

  /// Why, or not_asked.
  [[nodiscard]] int cause() const noexcept { return cause_.load(std::memory_order_acquire); }  // pairs with ring()

  /// Forgets the cause.
  void reset() noexcept { cause_.store(not_asked, std::memory_order_relaxed); }

  /// Readable when it rang. Owned by this object.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  unique_fd fd_;
  std::atomic<int> cause_{not_asked};
};

/// While it lives, SIGTERM and SIGINT ring `bell` in place of what they did before. A signal that was ignored stays
/// ignored: whoever started this process decided so.
class stop_signals {
 public:
  /// Throws std::system_error when 16 are at work in this process already.
  explicit stop_signals(alarm_bell& bell);
  stop_signals(const stop_signals&) = delete;
  stop_signals& operator=(const stop_signals&) = delete;
  ~stop_signals();

 private:
  std::atomic<alarm_bell*>* place_ = nullptr;
};

}  // namespace covey::detail
