#include <covey/ipc/extent_ring.hpp>

#include <algorithm>

namespace covey::detail {

void extent_ring::adopt(std::vector<extent> live) {
  std::sort(live.begin(), live.end(), [](const extent& a, const extent& b) { return a.offset < b.offset; });
  live_.assign(live.begin(), live.end());
  if (!live_.empty()) window_ = std::min(end_, std::max(window_, live_.back().offset + live_.back().bytes));
}

void extent_ring::publish(std::uint64_t offset, std::uint64_t position) {
  if (live_.back().offset == offset) {  // mostly
    live_.back().position = position;
    return;
  }
  const auto it = std::find_if(live_.rbegin(), live_.rend(), [&](const extent& e) { return e.offset == offset; });
  it->position = position;
}

bool extent_ring::has_reserved(std::uint64_t offset) const {
  return std::any_of(live_.rbegin(), live_.rend(),
                     [&](const extent& e) { return e.offset == offset && e.position == not_published; });
}

void extent_ring::give_back(std::uint64_t offset) {
  std::erase_if(live_, [&](const extent& e) {
    if (e.offset != offset) return false;
    if (cursor_ == e.offset + e.bytes) cursor_ = e.offset;  // it was the latest: the next one lies there
    return true;
  });
}

}  // namespace covey::detail
