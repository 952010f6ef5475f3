// covey::queue, by its public interface.
#include <benchmarks/harness/family_workers.hpp>
#include <benchmarks/queue/channel.hpp>
#include <covey/ipc.hpp>

namespace bench {
namespace {

// What one would send: small messages are values, large ones own their bytes.
template <std::size_t Bytes>
using value_of = std::conditional_t<(Bytes <= 1024), payload<Bytes>, std::vector<std::uint64_t>>;

template <std::size_t Bytes>
std::pair<std::uint64_t, std::uint64_t> ends(const payload<Bytes>& m) {
  return {m.first, m.last};
}
[[maybe_unused]] std::pair<std::uint64_t, std::uint64_t> ends(const std::vector<std::uint64_t>& m) {
  return {m.front(), m.back()};
}

template <class Queue>
concept puts_many =
    requires(const Queue& q, std::span<const typename Queue::value_type> values) { q.put_many(values); };
template <class Queue>
concept lends = requires(const Queue& q) {
  q.publish(q.loan(std::size_t{64}));
  q.get_view();
};

// Large messages are read where they lie, or copied out of there, which is another subject. Small ones are values.
enum class reading { in_place, copies };

template <reading How>
struct covey_queue : peer_defaults {
  static constexpr const char* name = How == reading::in_place ? "covey" : "covey_get";
  static constexpr std::size_t bytes_min = How == reading::in_place ? 0 : 65536;
  using workers = family_workers;

  template <std::size_t Bytes, class Value>
  struct channel_of {
    using queue = covey::queue<Value>;
    queue q;
    channel_of(int, int) : q(room_for(Bytes)) {}

    struct writer {
      using message = Value;
      const queue& q;
      writer(channel_of& c, int) : q(c.q) {}
      void send(const message& m) { q.put(m); }
      void send_many(std::span<const message> many) {
        if constexpr (puts_many<queue>)
          q.put_many(many);
        else
          for (const message& m : many) q.put(m);
      }
      void lend_untouched()
        requires(How == reading::in_place && lends<queue>)
      {
        q.publish(q.loan(Bytes / sizeof(std::uint64_t)));
      }
    };

    struct reader {
      const queue& q;
      reader(channel_of& c, int) : q(c.q) {}
      template <class F>
      void receive(const F& f) {
        if constexpr (Bytes > 1024 && How == reading::in_place) {
          const auto m = q.get_view().value();
          f(m.elements().front(), m.elements().back());
        } else {
          hand_over(q.get(), f);
        }
      }
      template <class F>
      void receive_many(std::size_t max, const F& f) {
        for (const auto& m : q.get_many(max)) f(ends(m).first, ends(m).second);
      }
      void drop_untouched()
        requires(How == reading::in_place && lends<queue>)
      {
        (void)q.get_view();
      }

     private:
      template <class F>
      static void hand_over(const std::optional<typename queue::value_type>& m, const F& f) {
        const auto [first, last] = ends(m.value());
        f(first, last);
      }
    };
  };
  template <std::size_t Bytes>
  using channel = channel_of<Bytes, value_of<Bytes>>;
  template <std::size_t Bytes>
  using lender = channel_of<Bytes, std::vector<std::uint64_t>>;  // what can be lent is a range
};

const at_start in_place(enroll_queue<covey_queue<reading::in_place>>);
const at_start copies(enroll_queue<covey_queue<reading::copies>>);

}  // namespace
}  // namespace bench
