/// @file
/// extent_ring: which parts of a producer's own region are free.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

namespace covey::detail {

/// Which parts of a lane's own region are free. In private memory: the slots say the same, and whoever takes the lane
/// over reads it from them.
class extent_ring {
 public:
  static constexpr std::uint64_t unit = 64;
  static constexpr std::uint64_t rounded(std::uint64_t bytes) { return (bytes + unit - 1) / unit * unit; }

  struct extent {
    std::uint64_t offset, bytes;
    std::uint64_t position;  // of the message that has it
  };
  static constexpr std::uint64_t not_published = ~0ULL;

  explicit extent_ring(std::uint64_t bytes) : end_(bytes) {}

  /// As they are when the lane is taken over.
  void adopt(std::vector<extent> live);

  /// `bytes` in one piece, as near to the last as possible; `is_free(position)` tells which messages are gone.
  template <class IsFree>
  std::optional<std::uint64_t> reserve(std::uint64_t bytes, const IsFree& is_free) {
    const std::uint64_t need = rounded(bytes);
    if (cursor_ + need > wall_) [[unlikely]]
      return find(need, is_free);
    return take(need);
  }

  /// The message at `offset` has got its position.
  void publish(std::uint64_t offset, std::uint64_t position);

  [[nodiscard]] bool has_reserved(std::uint64_t offset) const;
  /// What was reserved at `offset` is not needed.
  void give_back(std::uint64_t offset);

 private:
  std::uint64_t take(std::uint64_t need) {
    const std::uint64_t offset = std::exchange(cursor_, cursor_ + need);
    live_.push_back({offset, need, not_published});
    return offset;
  }
  template <class IsFree>
  std::optional<std::uint64_t> find(std::uint64_t need, const IsFree& is_free);

  static constexpr std::uint64_t first_ = unit;  // offset 0 is none
  static constexpr std::uint64_t looked_at_together = 32 * 1024;  // bytes whose messages are looked at in one burst
  std::deque<extent> live_;  // in the order in which the cursor will meet them
  std::uint64_t cursor_ = first_;
  std::uint64_t wall_ = 0;  // nothing lies between the cursor and here
  std::uint64_t window_ = 64 * 1024;  // the cursor turns back here: what was used lately is near
  std::uint64_t end_;
};

template <class IsFree>
[[gnu::noinline]] std::optional<std::uint64_t> extent_ring::find(std::uint64_t need, const IsFree& is_free) {
  wall_ = 0;
  // Who looks at the slot of a message that is just being taken takes its cache line from who takes it. So small ones
  // are looked at when a good many are gone: one look at the last of them tells.
  std::size_t at_once = std::clamp<std::uint64_t>(looked_at_together / need, 1, 32);
  const auto is_gone = [&](const extent& e) { return e.position != not_published && is_free(e.position); };
  const auto forget_gone = [&] {
    if (at_once > 1 && live_.size() >= at_once && !is_gone(live_[at_once - 1])) return false;
    const std::size_t before = live_.size();
    while (!live_.empty() && before - live_.size() < at_once && is_gone(live_.front())) live_.pop_front();
    if (live_.empty()) cursor_ = first_;
    return before != live_.size();
  };
  for (;;) {
    bool turned = false;
    for (std::size_t steps = live_.size() + 2; steps > 0;) {
      if (at_once == 1) {
        while (forget_gone()) {
        }
      }
      const bool ahead = !live_.empty() && live_.front().offset >= cursor_;
      const std::uint64_t wall = ahead ? live_.front().offset : window_;
      // Nothing lies before us up to the window's end: the low part, if it has room, is warmer.
      const bool better_low = !ahead && !live_.empty() && !turned && live_.front().offset >= first_ + need;
      if (!better_low && wall >= cursor_ + need) {
        if (at_once > 1) wall_ = wall;  // larger ones are looked after each time
        return take(need);
      }
      if (ahead && forget_gone()) continue;
      --steps;
      if (ahead) {  // step over one that stays
        cursor_ = live_.front().offset + live_.front().bytes;
        live_.push_back(live_.front());
        live_.pop_front();
      } else {
        if (std::exchange(turned, true)) break;
        cursor_ = first_;
      }
    }
    if (window_ < end_) {
      window_ = std::min(end_, window_ + std::max(window_ / 4, need));
    } else if (std::exchange(at_once, 1) == 1) {
      return std::nullopt;
    }
  }
}

}  // namespace covey::detail
