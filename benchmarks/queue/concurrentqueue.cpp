// moodycamel::BlockingConcurrentQueue between the threads of one process, which is all it is for. Its name in tables
// says so: in_process_….
#include <concurrentqueue/blockingconcurrentqueue.h>
#include <benchmarks/harness/futex.hpp>
#include <benchmarks/queue/channel.hpp>

#include <sched.h>

namespace bench {
namespace {

struct concurrentqueue : peer_defaults {
  static constexpr const char* name = "in_process_moodycamel";
  static constexpr std::size_t bytes_max = 1024;
  using workers = thread_workers;

  template <std::size_t Bytes>
  struct channel {
    using blocking_queue = moodycamel::BlockingConcurrentQueue<payload<Bytes>>;
    blocking_queue queue;
    channel(int producers, int) : queue(room_for(Bytes), 0, static_cast<std::size_t>(producers)) {}

    // It grows without bound if one lets it; try_enqueue takes only what was reserved.
    struct writer {
      using message = payload<Bytes>;
      blocking_queue& queue;
      writer(channel& c, int) : queue(c.queue) {}
      void send(const message& m) {
        for (unsigned n = 1; !queue.try_enqueue(m); ++n) n % 64 == 0 ? static_cast<void>(::sched_yield()) : pause_cpu();
      }
    };
    struct reader {
      blocking_queue& queue;
      std::unique_ptr<payload<Bytes>> own = std::make_unique<payload<Bytes>>();
      reader(channel& c, int) : queue(c.queue) {}
      template <class F>
      void receive(const F& f) {
        while (!queue.wait_dequeue_timed(*own, std::chrono::milliseconds(10)))
          if (thread_workers::ending()) stay();
        f(own->first, own->last);
      }
    };
  };
};

const at_start here(enroll_queue<concurrentqueue>);

}  // namespace
}  // namespace bench
