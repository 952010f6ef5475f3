#include <covey/testing/arena_watch.hpp>

#include <unistd.h>

#include <cerrno>
#include <covey/base/result.hpp>
#include <covey/memory/family.hpp>
#include <cstring>
#include <system_error>

namespace covey::testing {

bool arena_watch::changed() {
  const int fd = detail::family.arena_fd;
  extents_now_.clear();
  std::size_t read = 0;
  // Through the file: a look through the mapping would reserve pages that nobody has touched.
  for (off_t at = 0; (at = ::lseek(fd, at, SEEK_DATA)) >= 0;) {
    const off_t end = ::lseek(fd, at, SEEK_HOLE);
    const auto length = static_cast<std::size_t>(end - at);
    extents_now_.push_back({static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(end)});
    if (bytes_now_.size() < read + length) bytes_now_.resize(read + length);
    if (::pread(fd, bytes_now_.data() + read, length, at) != static_cast<ssize_t>(length))
      throw std::system_error(errno, std::system_category(), "covey: read the arena");
    read += length;
    at = end;
  }
  // memcmp: == of vectors of std::byte goes byte by byte, and this is asked after each step.
  if (extents_now_ == extents_ && (read == 0 || std::memcmp(bytes_now_.data(), bytes_.data(), read) == 0)) return false;
  extents_.swap(extents_now_);
  bytes_.swap(bytes_now_);
  return true;
}

}  // namespace covey::testing
