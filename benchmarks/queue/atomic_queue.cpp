// atomic_queue::AtomicQueue2 placed in shared memory: it has no pointers in it, so that works, though it was made for
// threads. It cannot sleep; who finds it full or empty spins 64 times and then gives up the processor.
#include <atomic_queue/atomic_queue.h>
#include <benchmarks/harness/futex.hpp>
#include <benchmarks/queue/channel.hpp>

#include <sched.h>

namespace bench {
namespace {

template <class Try>
void insist(const Try& attempt) {
  for (unsigned n = 1; !attempt(); ++n) n % 64 == 0 ? static_cast<void>(::sched_yield()) : pause_cpu();
}

struct atomic_queue_shm : peer_defaults {
  static constexpr const char* name = "atomic_queue";
  static constexpr std::size_t bytes_max = 65536;

  template <std::size_t Bytes>
  struct channel {
    shared<atomic_queue::AtomicQueue2<payload<Bytes>, room_for(Bytes)>> queue;
    channel(int, int) {}

    struct writer {
      using message = payload<Bytes>;
      channel& c;
      writer(channel& of, int) : c(of) {}
      void send(const message& m) {
        insist([&] { return c.queue->try_push(m); });
      }
    };
    struct reader {
      channel& c;
      std::unique_ptr<payload<Bytes>> own = std::make_unique<payload<Bytes>>();
      reader(channel& of, int) : c(of) {}
      template <class F>
      void receive(const F& f) {
        insist([&] { return c.queue->try_pop(*own); });
        f(own->first, own->last);
      }
    };
  };
};

const at_start here(enroll_queue<atomic_queue_shm>);

}  // namespace
}  // namespace bench
