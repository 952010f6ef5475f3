// iceoryx: chunks of shared memory are lent, filled in place, published, read in place. It needs iox-roudi, which
// benchmarks/run starts. It publishes to all subscribers, so there is no sharing of work among consumers. Two ways to
// wait: looking again and again, or a WaitSet.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/queue/channel.hpp>

#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#include <unistd.h>

namespace bench {
namespace {

iox::capro::IdString_t text(const std::string& s) { return {iox::cxx::TruncateToCapacity, s}; }

// Every process has one runtime, made after the fork.
void enter_runtime() {
  static const bool once = [] {
    iox::runtime::PoshRuntime::initRuntime(text("covey_bench_" + std::to_string(::getpid())));
    return true;
  }();
  static_cast<void>(once);
}

template <bool Waits>
struct iceoryx : peer_defaults {
  static constexpr const char* name = Waits ? "iceoryx_waitset" : "iceoryx_poll";
  static constexpr bool shares_work = false;

  template <std::size_t Bytes>
  struct channel {
    std::string topic = std::to_string(::getpid()) + "." + std::to_string(made()++);
    channel(int, int) {}
    static int& made() {
      static int count = 0;
      return count;
    }
    [[nodiscard]] iox::capro::ServiceDescription service() const {
      enter_runtime();
      return {text("covey"), text("bench"), text(topic)};
    }

    struct writer {
      using message = payload<Bytes>;
      iox::popo::UntypedPublisher publisher;
      explicit writer(channel& c, int) : publisher(c.service(), options()) {
        wait_until("iceoryx's subscriber", [this] { return publisher.hasSubscribers(); });
      }
      static iox::popo::PublisherOptions options() {
        iox::popo::PublisherOptions o;
        o.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
        return o;
      }
      void* lend() {
        auto chunk = publisher.loan(Bytes, alignof(std::uint64_t));
        if (chunk.has_error()) throw std::runtime_error("iceoryx has no chunk");
        return chunk.value();
      }
      void send(const message& m) {
        void* const chunk = lend();
        std::memcpy(chunk, &m, Bytes);
        publisher.publish(chunk);
      }
      void lend_untouched() { publisher.publish(lend()); }
    };

    struct reader {
      iox::popo::UntypedSubscriber subscriber;
      iox::popo::WaitSet<1> arrivals;
      explicit reader(channel& c, int) : subscriber(c.service(), options()) {
        if constexpr (Waits)
          arrivals.attachState(subscriber, iox::popo::SubscriberState::HAS_DATA).or_else([](auto) {
            throw std::runtime_error("iceoryx's WaitSet takes no subscriber");
          });
      }
      static iox::popo::SubscriberOptions options() {
        iox::popo::SubscriberOptions o;
        o.queueCapacity = std::min<std::uint64_t>(room_for(Bytes), 256);
        o.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
        return o;
      }
      template <class F>
      void receive_chunk(const F& f) {
        for (;;) {
          auto chunk = subscriber.take();
          if (!chunk.has_error()) {
            f(chunk.value());
            subscriber.release(chunk.value());
            return;
          }
          if constexpr (Waits) arrivals.wait();
        }
      }
      template <class F>
      void receive(const F& f) {
        receive_chunk([&](const void* p) { f(word_at(p), word_at(static_cast<const std::byte*>(p) + Bytes - 8)); });
      }
      void drop_untouched() {
        receive_chunk([](const void*) {});
      }
    };
  };
};

const at_start polling(enroll_queue<iceoryx<false>>);
const at_start waiting(enroll_queue<iceoryx<true>>);

}  // namespace
}  // namespace bench
