// The physical floor: a ring between one producer and one consumer in shared memory, 5 µs of spinning, then a futex. It
// survives nothing: whoever dies leaves the other asleep for ever. With several producers and consumers there is one
// ring for each pair, which is not a work queue: a pair's messages wait for its consumer, even when another is free.
#include <benchmarks/harness/bytes.hpp>
#include <benchmarks/harness/futex.hpp>
#include <benchmarks/queue/channel.hpp>

namespace bench {
namespace {

template <std::size_t Bytes>
struct ring {
  static constexpr std::size_t cells = room_for(Bytes);

  // Written by the producer.
  alignas(line) std::atomic<std::uint64_t> filled{0};
  std::uint64_t emptied_seen = 0;
  std::atomic<std::uint32_t> producer_sleeps{0};
  // Written by the consumer.
  alignas(line) std::atomic<std::uint64_t> emptied{0};
  std::uint64_t filled_seen = 0;
  std::atomic<std::uint32_t> consumer_sleeps{0};

  alignas(line) payload<Bytes> cell[cells];

  void put(const payload<Bytes>& m) noexcept {
    const std::uint64_t n = filled.load(std::memory_order_relaxed);
    if (n - emptied_seen == cells) {
      const auto has_room = [&] {
        emptied_seen = emptied.load(std::memory_order_acquire);
        return n - emptied_seen < cells;
      };
      sleep_until(has_room, producer_sleeps);
    }
    cell[n % cells] = m;
    filled.exchange(n + 1, std::memory_order_seq_cst);  // before the look at who sleeps
    wake(consumer_sleeps);
  }

  template <class F>
  void get(const F& f) noexcept {
    const std::uint64_t n = emptied.load(std::memory_order_relaxed);
    if (n == filled_seen) {
      const auto has_message = [&] {
        filled_seen = filled.load(std::memory_order_acquire);
        return n < filled_seen;
      };
      sleep_until(has_message, consumer_sleeps);
    }
    alignas(64) std::byte copy[Bytes];  // a queue hands out what is the caller's own
    std::memcpy(copy, &cell[n % cells], Bytes);
    asm volatile("" : : "r"(copy) : "memory");  // all of it
    emptied.exchange(n + 1, std::memory_order_seq_cst);
    // A producer that waits for room gets some at once, not one cell at a time.
    if (filled_seen - n <= cells / 2 + 1) wake(producer_sleeps);
    f(word_at(copy), word_at(copy + Bytes - 8));
  }

 private:
  template <class Done>
  static void sleep_until(const Done& done, std::atomic<std::uint32_t>& sleeps) noexcept {
    while (!done() && !spin_5us(done)) {
      sleeps.store(1, std::memory_order_seq_cst);
      if (!done()) futex_wait(sleeps, 1);
      sleeps.store(0, std::memory_order_relaxed);
    }
  }
  static void wake(std::atomic<std::uint32_t>& sleeps) noexcept {
    if (sleeps.load(std::memory_order_relaxed) == 0) return;
    sleeps.store(0, std::memory_order_relaxed);
    futex_wake(sleeps);
  }
};

struct bare_ring : peer_defaults {
  static constexpr const char* name = "bare_ring";

  template <std::size_t Bytes>
  struct channel {
    using message = payload<Bytes>;
    std::vector<std::unique_ptr<shared<ring<Bytes>>>> rings;
    channel(int pairs, int) {
      while (pairs-- > 0) rings.push_back(std::make_unique<shared<ring<Bytes>>>());
    }

    struct writer {
      using message = payload<Bytes>;
      ring<Bytes>& own;
      writer(channel& c, int index) : own(**c.rings[static_cast<std::size_t>(index)]) {}
      void send(const message& m) { own.put(m); }
      // Singly, on purpose: covey's batches are measured against single messages here.
      void send_many(std::span<const message> many) {
        for (const message& m : many) own.put(m);
      }
    };
    struct reader {
      ring<Bytes>& own;
      reader(channel& c, int index) : own(**c.rings[static_cast<std::size_t>(index)]) {}
      template <class F>
      void receive(const F& f) {
        own.get(f);
      }
      template <class F>
      void receive_many(std::size_t, const F& f) {
        own.get(f);
      }
    };
  };
};

const at_start here(enroll_queue<bare_ring>);

}  // namespace
}  // namespace bench
