// A pipe, with the largest buffer that anybody may have. Several readers share it as long as messages are whole: up to
// PIPE_BUF a write is.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <fcntl.h>
#include <unistd.h>

namespace bench {
namespace {

struct pipe_queue : peer_defaults {
  static constexpr const char* name = "pipe";

  template <std::size_t Bytes>
  struct channel {
    int ends[2];
    channel(int, int) {
      check(::pipe(ends), "pipe");
      check(::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20), "F_SETPIPE_SZ");
    }
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;
    ~channel() {
      ::close(ends[0]);
      ::close(ends[1]);
    }

    struct writer {
      using message = payload<Bytes>;
      int fd;
      writer(channel& c, int) : fd(c.ends[1]) {}
      void send(const message& m) {
        const auto* const from = reinterpret_cast<const std::byte*>(&m);
        for (std::size_t done = 0; done < Bytes;) done += check(::write(fd, from + done, Bytes - done), "write");
      }
    };
    struct reader {
      int fd;
      buffer<Bytes> own;
      reader(channel& c, int) : fd(c.ends[0]) {}
      template <class F>
      void receive(const F& f) {
        for (std::size_t done = 0; done < Bytes;) done += check(::read(fd, own.data() + done, Bytes - done), "read");
        f(own.first(), own.last());
      }
    };
  };
};

const at_start here(enroll_queue<pipe_queue>);

}  // namespace
}  // namespace bench
