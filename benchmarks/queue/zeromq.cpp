// ZeroMQ PUSH and PULL over ipc://. Each consumer has an address, each producer is connected to all of them and takes
// turns; so a slow consumer's messages wait for it, as in no work queue, until its high-water mark is reached.
#include <zmq.h>
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <unistd.h>

namespace bench {
namespace {

std::size_t zmq_check(int returned, const char* what) {
  if (returned < 0) throw std::runtime_error(std::string(what) + ": " + zmq_strerror(zmq_errno()));
  return static_cast<std::size_t>(returned);
}

struct zmq_ipc : peer_defaults {
  static constexpr const char* name = "zmq_ipc";

  template <std::size_t Bytes>
  struct channel {
    std::string address = "ipc://@covey_bench." + std::to_string(::getpid()) + "." + std::to_string(made()++) + ".";
    int consumers;
    channel(int, int how_many) : consumers(how_many) {}
    static int& made() {
      static int count = 0;
      return count;
    }

    // Made after the fork: ZeroMQ's threads do not survive one.
    static void* socket_of(int type) {
      void* const socket = zmq_socket(zmq_ctx_new(), type);
      const int messages = static_cast<int>(room_for(Bytes));
      zmq_check(zmq_setsockopt(socket, ZMQ_SNDHWM, &messages, sizeof messages), "ZMQ_SNDHWM");
      zmq_check(zmq_setsockopt(socket, ZMQ_RCVHWM, &messages, sizeof messages), "ZMQ_RCVHWM");
      return socket;
    }

    struct writer {
      using message = payload<Bytes>;
      void* socket = socket_of(ZMQ_PUSH);
      writer(channel& c, int) {
        for (int i = 0; i < c.consumers; ++i)
          zmq_check(zmq_connect(socket, (c.address + std::to_string(i)).c_str()), "zmq_connect");
      }
      void send(const message& m) { zmq_check(zmq_send(socket, &m, Bytes, 0), "zmq_send"); }
    };
    struct reader {
      void* socket = socket_of(ZMQ_PULL);
      buffer<Bytes> own;
      reader(channel& c, int index) {
        zmq_check(zmq_bind(socket, (c.address + std::to_string(index)).c_str()), "zmq_bind");
      }
      template <class F>
      void receive(const F& f) {
        zmq_check(zmq_recv(socket, own.data(), Bytes, 0), "zmq_recv");
        f(own.first(), own.last());
      }
    };
  };
};

const at_start here(enroll_queue<zmq_ipc>);

}  // namespace
}  // namespace bench
