// Boost.Interprocess message_queue: one process-shared mutex and two conditions around a heap of messages by priority.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <boost/interprocess/ipc/message_queue.hpp>

#include <unistd.h>

namespace bench {
namespace {

struct boost_ipc_mq : peer_defaults {
  static constexpr const char* name = "boost_ipc_mq";

  template <std::size_t Bytes>
  struct channel {
    // Two queues of one program need two names.
    std::string path = "covey_bench." + std::to_string(::getpid()) + "." + std::to_string(made()++);
    boost::interprocess::message_queue queue{boost::interprocess::create_only, path.c_str(), room_for(Bytes), Bytes};
    channel(int, int) {
      boost::interprocess::message_queue::remove(path.c_str());  // the children inherit the mapping
    }
    static int& made() {
      static int count = 0;
      return count;
    }

    struct writer {
      using message = payload<Bytes>;
      boost::interprocess::message_queue& queue;
      writer(channel& c, int) : queue(c.queue) {}
      void send(const message& m) { queue.send(&m, Bytes, 0); }
    };
    struct reader {
      boost::interprocess::message_queue& queue;
      buffer<Bytes> own;
      reader(channel& c, int) : queue(c.queue) {}
      template <class F>
      void receive(const F& f) {
        boost::interprocess::message_queue::size_type size = 0;
        unsigned priority = 0;
        queue.receive(own.data(), Bytes, size, priority);
        f(own.first(), own.last());
      }
    };
  };
};

const at_start here(enroll_queue<boost_ipc_mq>);

}  // namespace
}  // namespace bench
