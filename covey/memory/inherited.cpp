#include <covey/memory/inherited.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <covey/memory/messages.hpp>
#include <cstdlib>

namespace covey::detail {
namespace {

struct open_file {
  int fd;
  std::uint64_t identity;
};

// Fixed, because nothing is to be allocated before the C library has begun. Who was started with more keeps the rest.
constinit std::array<open_file, 256> inherited{};
constinit std::size_t inherited_count = 0;

}  // namespace

void note_inherited_descriptors() noexcept {
  const int folder = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  alignas(dirent64) char entries[4096];
  for (ssize_t bytes = 0; (bytes = ::getdents64(folder, entries, sizeof entries)) > 0;) {
    for (ssize_t at = 0; at < bytes;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(entries + at);
      at += entry->d_reclen;
      const int fd = std::atoi(entry->d_name);  // "." and ".." are 0
      if (fd > STDERR_FILENO && fd != folder && inherited_count < inherited.size())
        inherited[inherited_count++] = {fd, identity_of(fd)};
    }
  }
  ::close(folder);
}

void close_inherited_descriptors() noexcept {
  for (std::size_t i = 0; i < inherited_count; ++i)
    if (identity_of(inherited[i].fd) == inherited[i].identity) ::close(inherited[i].fd);
  inherited_count = 0;
}

}  // namespace covey::detail
