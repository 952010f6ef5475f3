// A pair of AF_UNIX sockets that keep messages whole.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <sys/socket.h>
#include <unistd.h>

namespace bench {
namespace {

struct seqpacket : peer_defaults {
  static constexpr const char* name = "seqpacket";

  template <std::size_t Bytes>
  struct channel {
    int ends[2];
    channel(int, int) {
      check(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
      const int room = 8 << 20;
      // Beyond the system's limit only with CAP_NET_ADMIN; a message that does not fit then fails with EMSGSIZE.
      if (::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
        check(::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), "SO_SNDBUF");
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
      void send(const message& m) { check(::send(fd, &m, Bytes, 0), "send"); }
    };
    struct reader {
      int fd;
      buffer<Bytes> own;
      reader(channel& c, int) : fd(c.ends[0]) {}
      template <class F>
      void receive(const F& f) {
        check(::recv(fd, own.data(), Bytes, 0), "recv");
        f(own.first(), own.last());
      }
    };
  };
};

const at_start here(enroll_queue<seqpacket>);

}  // namespace
}  // namespace bench
