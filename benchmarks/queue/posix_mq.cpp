// POSIX message queues, within the limits that every user has: 10 messages of 8 KiB.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

namespace bench {
namespace {

struct posix_mq : peer_defaults {
  static constexpr const char* name = "posix_mq";
  static constexpr std::size_t bytes_max = 8192;

  template <std::size_t Bytes>
  struct channel {
    mqd_t queue;
    channel(int, int) {
      mq_attr how{};
      how.mq_maxmsg = 10;
      how.mq_msgsize = static_cast<long>(Bytes);
      const std::string path = "/covey_bench." + std::to_string(::getpid());
      queue = ::mq_open(path.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &how);
      check(queue, "mq_open");
      ::mq_unlink(path.c_str());  // the children inherit the descriptor
    }
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;
    ~channel() { ::mq_close(queue); }

    struct writer {
      using message = payload<Bytes>;
      mqd_t queue;
      writer(channel& c, int) : queue(c.queue) {}
      void send(const message& m) { check(::mq_send(queue, reinterpret_cast<const char*>(&m), Bytes, 0), "mq_send"); }
    };
    struct reader {
      mqd_t queue;
      buffer<Bytes> own;
      reader(channel& c, int) : queue(c.queue) {}
      template <class F>
      void receive(const F& f) {
        check(::mq_receive(queue, reinterpret_cast<char*>(own.data()), Bytes, nullptr), "mq_receive");
        f(own.first(), own.last());
      }
    };
  };
};

const at_start here(enroll_queue<posix_mq>);

}  // namespace
}  // namespace bench
