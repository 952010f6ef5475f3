// Pictures without a copy: a camera writes each into the queue's own memory, and a viewer reads it there. The first
// viewer is killed with a picture before its eyes; the next one gets that picture again.
#include <fmt/format.h>
#include <unistd.h>
#include <covey/ipc.hpp>
#include <covey/process.hpp>
#include <covey/sync.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

using frame = std::vector<std::uint8_t>;
constexpr std::size_t frame_bytes = 1920 * 1080 * 3;

void film(covey::queue<frame> out) {
  for (std::uint8_t n = 1; n <= 5; ++n) {
    auto picture = out.loan(frame_bytes);
    std::ranges::fill(picture, n);
    out.publish(picture);
  }
  out.close();
}

void stare(covey::queue<frame> in, covey::event has_one) {
  const auto picture = in.get_view();
  has_one.set();
  for (;;) ::pause();
}

}  // namespace

int main() {
  const covey::queue<frame> frames{{.items = 4}};
  covey::event has_one;
  covey::process viewer{stare, frames, has_one};
  const covey::process camera{film, frames};
  has_one.wait();
  viewer.kill();
  viewer.join();

  while (const auto picture = frames.get_view())
    fmt::print("frame {}: {} of {} bytes are right, seen by {}\n", (*picture)[0],
               std::ranges::count(*picture, (*picture)[0]), picture->size(), picture->deliveries());
}
