#include <covey/testing/arena_watch.hpp>

#include <unistd.h>

#include <cerrno>
#include <covey/base/result.hpp>
#include <covey/memory/family.hpp>

namespace covey::testing {

bool arena_watch::changed() {
  const int fd = detail::family.arena_fd;
  extents_now_.clear();
  bytes_now_.clear();
  // Through the file: a look through the mapping would reserve pages that nobody has touched.
  for (off_t at = 0; (at = ::lseek(fd, at, SEEK_DATA)) >= 0;) {
    const off_t end = ::lseek(fd, at, SEEK_HOLE);
    const auto length = static_cast<std::size_t>(end - at);
    extents_now_.push_back({static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(end)});
    bytes_now_.resize(bytes_now_.size() + length);
    if (::pread(fd, bytes_now_.data() + bytes_now_.size() - length, length, at) != static_cast<ssize_t>(length))
      throw std::system_error(errno, std::system_category(), "covey: read the arena");
    at = end;
  }
  if (extents_now_ == extents_ && bytes_now_ == bytes_) return false;
  extents_.swap(extents_now_);
  bytes_.swap(bytes_now_);
  return true;
}

}  // namespace covey::testing
