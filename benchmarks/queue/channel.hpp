/// @file
/// One measurement for all queues. A peer is a struct in a file of its own:
///
///     struct my_queue : peer_defaults {
///       static constexpr const char* name = "my_queue";
///       template <std::size_t Bytes> struct channel {
///         using message = payload<Bytes>;
///         channel(int producers, int consumers);               // in the parent, before anybody starts
///         struct writer { writer(channel&, int index); void send(const message&); };     // in the producer
///         struct reader { reader(channel&, int index); template <class F> void receive(const F& f); };
///       };
///     };
///     const at_start here(enroll_queue<my_queue>);
///
/// send() copies the whole message; receive() waits for at least one and calls f(first, last) with its first and last
/// 8 bytes for each. Optional: send_many(span), receive_many(max, f); lend_untouched(), drop_untouched().
#pragma once

#include <benchmarks/harness/board.hpp>
#include <benchmarks/harness/workers.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

namespace bench {

template <std::size_t Bytes>
struct payload {
  std::uint64_t first = 0;
  std::array<std::uint64_t, Bytes / 8 - 2> middle{};
  std::uint64_t last = 0;
};

template <std::size_t Bytes>
void set_ends(payload<Bytes>& m, std::uint64_t stamp) {
  m.first = m.last = stamp;
}
inline void set_ends(std::vector<std::uint64_t>& m, std::uint64_t stamp) { m.front() = m.back() = stamp; }

/// A message of `Bytes`, none of it zero pages.
template <class Message, std::size_t Bytes>
std::unique_ptr<Message> new_message() {
  auto m = std::make_unique<Message>();
  if constexpr (std::is_same_v<Message, std::vector<std::uint64_t>>)
    m->assign(Bytes / 8, 0x5a5a5a5a5a5a5a5a);
  else
    m->middle.fill(0x5a5a5a5a5a5a5a5a);
  return m;
}

/// How many messages may wait: as many as fit in about a megabyte, within limits; the same for all who let one choose.
constexpr std::size_t room_for(std::size_t bytes) {
  if (bytes <= 1024) return 1024;
  return bytes <= 65536 ? 64 : 8;
}

enum class measurement : std::uint8_t { throughput, batches, loans, ping_pong, asleep, idle };

struct plan {
  const char* name;
  measurement what;
  std::size_t bytes;
  int producers = 1;
  int consumers = 1;
};

/// benchmarks/suites.py has their titles and goals.
inline constexpr plan plans[] = {
    {"throughput-64B-1to1", measurement::throughput, 64},
    {"throughput-64B-2to2", measurement::throughput, 64, 2, 2},
    {"throughput-64B-4to4", measurement::throughput, 64, 4, 4},
    {"throughput-64B-8to8", measurement::throughput, 64, 8, 8},
    {"throughput-1KiB-1to1", measurement::throughput, 1024},
    {"throughput-1KiB-2to2", measurement::throughput, 1024, 2, 2},
    {"throughput-64KiB-1to1", measurement::throughput, 65536},
    {"throughput-1MiB-1to1", measurement::throughput, 1U << 20},
    {"batch16-64B-1to1", measurement::batches, 64},
    {"loan-64B-1to1", measurement::loans, 64},
    {"loan-1MiB-1to1", measurement::loans, 1U << 20},
    {"pingpong-64B", measurement::ping_pong, 64},
    {"asleep-64B", measurement::asleep, 64},
    {"idle", measurement::idle, 64},
};
inline constexpr std::size_t batch = 16;

struct peer_defaults {
  using workers = forked_workers;
  static constexpr std::size_t bytes_min = 0;         // smaller ones are not tried
  static constexpr std::size_t bytes_max = 1U << 20;  // nor are larger ones
  static constexpr bool shares_work = true;           // several consumers get different messages
};

template <std::size_t Bytes, bool Batches, class Writer>
void produce(Writer& out, board& b, seat& mine) {
  using message = typename Writer::message;
  std::uint64_t n = 0;
  std::uint64_t sum = 0;
  const auto stamped = [&](message& m) {
    set_ends(m, ++n);
    sum += n;
  };
  if constexpr (Batches) {
    const auto m = std::make_unique<std::array<message, batch>>();
    while (!b.stop.load(std::memory_order_relaxed)) {
      for (message& one : *m) stamped(one);
      out.send_many(std::span<const message>(*m));
    }
  } else {
    const auto m = new_message<message, Bytes>();
    while (!b.stop.load(std::memory_order_relaxed)) {
      stamped(*m);
      out.send(*m);
    }
  }
  mine.report(n, sum);
  mine.done.store(true, std::memory_order_release);
  stay();  // what it sent may still need it
}

template <bool Batches, class Reader>
void consume(Reader& in, board& b, seat& mine) {
  std::uint64_t n = 0;
  std::uint64_t sum = 0;
  const auto take = [&](std::uint64_t first, std::uint64_t last) {
    if (first != last) b.torn.store(true, std::memory_order_relaxed);
    sum += first;
    ++n;
  };
  for (;;) {
    if constexpr (Batches)
      in.receive_many(batch, take);
    else
      in.receive(take);
    mine.report(n, sum);
  }
}

inline std::uint64_t total(const seat (&seats)[seats_max], std::atomic<std::uint64_t> seat::* what) {
  std::uint64_t sum = 0;
  for (const seat& s : seats) sum += (s.*what).load(std::memory_order_acquire);
  return sum;
}

/// Messages a second that consumers have received in the window; then everything that was sent must arrive, once.
inline results count_at_consumers(board& b, const plan& p, const settings& how) {
  const auto received = [&] { return total(b.consumers, &seat::count); };
  wait_until("the first message", [&] { return received() > 0; });
  sleep_ns(how.window.count() / 4);  // warm: pages touched, sizes found, caches full
  const std::uint64_t before = received();
  const std::int64_t start = now_ns();
  sleep_ns(how.window.count());
  const std::uint64_t after = received();
  const std::int64_t end = now_ns();
  b.stop.store(true);
  wait_until("the producers to stop", [&] {
    int done = 0;
    for (const seat& s : b.producers) done += s.done.load(std::memory_order_acquire) ? 1 : 0;
    return done == p.producers;
  });
  const std::uint64_t sent = total(b.producers, &seat::count);
  wait_until("all messages to arrive", [&] { return received() >= sent; });
  if (received() != sent || total(b.consumers, &seat::checksum) != total(b.producers, &seat::checksum) || b.torn)
    throw std::runtime_error("messages were lost, doubled or torn");
  return {{"rate", static_cast<double>(after - before) * 1e9 / static_cast<double>(end - start)},
          {"messages", static_cast<double>(sent)}};  // of the whole run, for who counts system calls
}

template <class Peer, std::size_t Bytes, bool Batches>
results measure_throughput(const plan& p, const settings& how) {
  using channel = typename Peer::template channel<Bytes>;
  const shared<board> b;
  channel c(p.producers, p.consumers);
  typename Peer::workers workers;
  const auto all_ready = [&](int n) { wait_until("the workers", [&] { return b->ready.load() == n; }); };
  for (int i = 0; i < p.consumers; ++i)
    workers.start([&, i] {
      typename channel::reader in(c, i);
      ++b->ready;
      consume<Batches>(in, *b, b->consumers[i]);
    });
  all_ready(p.consumers);
  for (int i = 0; i < p.producers; ++i)
    workers.start([&, i] {
      typename channel::writer out(c, i);
      ++b->ready;
      while (b->ready.load() < p.producers + p.consumers) sleep_ns(100'000);
      produce<Bytes, Batches>(out, *b, b->producers[i]);
    });
  return count_at_consumers(*b, p, how);
}

/// What a peer lends from, if that is not its channel: Peer::lender<Bytes>.
template <class Peer, std::size_t Bytes>
struct lender_of {
  using type = typename Peer::template channel<Bytes>;
};
template <class Peer, std::size_t Bytes>
  requires requires { typename Peer::template lender<Bytes>; }
struct lender_of<Peer, Bytes> {
  using type = typename Peer::template lender<Bytes>;
};

/// Loans whose payload nobody touches.
template <class Peer, std::size_t Bytes>
results measure_loans(const plan& p, const settings& how) {
  using channel = typename lender_of<Peer, Bytes>::type;
  const shared<board> b;
  channel c(1, 1);
  typename Peer::workers workers;
  workers.start([&] {
    typename channel::reader in(c, 0);
    ++b->ready;
    for (std::uint64_t n = 1;; ++n) {
      in.drop_untouched();
      b->consumers[0].report(n, 0);
    }
  });
  wait_until("the consumer", [&] { return b->ready.load() == 1; });
  workers.start([&] {
    typename channel::writer out(c, 0);
    std::uint64_t n = 0;
    for (; !b->stop.load(std::memory_order_relaxed); ++n) out.lend_untouched();
    b->producers[0].report(n, 0);
    b->producers[0].done.store(true, std::memory_order_release);
    stay();
  });
  return count_at_consumers(*b, p, how);
}

/// There and back. `rest` is how long each side waits before it sends: then the other sleeps, and what counts is the
/// time under way, both ways together.
template <class Peer>
results measure_ping_pong(const settings& how, std::int64_t rest_ns) {
  using channel = typename Peer::template channel<64>;
  const shared<board> b;
  channel there(1, 1);
  channel back(1, 1);
  typename Peer::workers workers;
  const std::int64_t window = how.window.count();
  workers.start([&] {
    typename channel::reader in(there, 0);
    typename channel::writer out(back, 0);
    const auto m = new_message<typename channel::writer::message, 64>();
    ++b->ready;
    for (;;) {
      std::uint64_t stamp = 0;
      in.receive([&](std::uint64_t first, std::uint64_t) { stamp = first; });
      if (rest_ns != 0) {
        stamp = static_cast<std::uint64_t>(now_ns()) - stamp;  // the way here
        sleep_ns(rest_ns);
        stamp = static_cast<std::uint64_t>(now_ns()) - stamp;  // so that the client's clock shows the sum of both ways
      }
      set_ends(*m, stamp);
      out.send(*m);
    }
  });
  workers.start([&] {
    typename channel::reader in(back, 0);
    typename channel::writer out(there, 0);
    const auto m = new_message<typename channel::writer::message, 64>();
    ++b->ready;
    while (b->ready.load() < 2) sleep_ns(100'000);
    const auto there_and_back = [&] {
      if (rest_ns != 0) sleep_ns(rest_ns);
      set_ends(*m, static_cast<std::uint64_t>(now_ns()));
      out.send(*m);
      std::uint64_t stamp = 0;
      in.receive([&](std::uint64_t first, std::uint64_t) { stamp = first; });
      return now_ns() - static_cast<std::int64_t>(stamp);
    };
    there_and_back();  // whatever has to connect does so now
    const std::int64_t begin = now_ns();
    while (now_ns() < begin + window / 4) there_and_back();
    do b->sample(there_and_back());
    while (now_ns() < begin + window + window / 4);
    b->consumers[0].done.store(true, std::memory_order_release);
    stay();
  });
  sleep_ns(window + window / 4);  // nothing but the two runs meanwhile: a parent that looks wakes a processor each time
  wait_until("the last answer", [&] { return b->consumers[0].done.load(std::memory_order_acquire); });
  return percentiles(*b);
}

/// CPU time that waiting costs, of all processes that the subject needs.
template <class Peer>
results measure_idle(const settings& how) {
  using channel = typename Peer::template channel<64>;
  const shared<board> b;
  channel c(1, 1);
  typename Peer::workers workers;
  workers.start([&] {
    typename channel::reader in(c, 0);
    ++b->ready;
    in.receive([](std::uint64_t, std::uint64_t) {});
  });
  wait_until("the consumer", [&] { return b->ready.load() == 1; });
  sleep_ns(50'000'000);
  const std::int64_t window = how.window.count() * 5 / 2;  // 1 s, if nobody asked for less
  const std::int64_t before = cpu_ns_of_others_of_this_program();
  sleep_ns(window);
  const std::int64_t used = cpu_ns_of_others_of_this_program() - before;
  return {{"cpu", static_cast<double>(used) * 1e6 / static_cast<double>(window)}};  // µs a second
}

template <class Peer, std::size_t Bytes>
void enroll_plan(const plan& p) {
  using channel = typename Peer::template channel<Bytes>;
  using writer = typename channel::writer;
  using message = typename writer::message;
  switch (p.what) {
    case measurement::throughput:
      return enroll(p.name, Peer::name,
                    [p](const settings& how) { return measure_throughput<Peer, Bytes, false>(p, how); });
    case measurement::batches:
      if constexpr (Bytes == 64 && requires(writer w, std::span<const message> m) { w.send_many(m); })
        enroll(p.name, Peer::name, [p](const settings& how) { return measure_throughput<Peer, Bytes, true>(p, how); });
      return;
    case measurement::loans:
      if constexpr (requires(typename lender_of<Peer, Bytes>::type::writer w) { w.lend_untouched(); })
        enroll(p.name, Peer::name, [p](const settings& how) { return measure_loans<Peer, Bytes>(p, how); });
      return;
    case measurement::ping_pong:
      return enroll(p.name, Peer::name, [](const settings& how) { return measure_ping_pong<Peer>(how, 0); });
    case measurement::asleep:
      return enroll(p.name, Peer::name, [](const settings& how) { return measure_ping_pong<Peer>(how, 1'200'000); });
    case measurement::idle:
      if constexpr (!std::is_same_v<typename Peer::workers, thread_workers>)  // the CPU time of processes is counted
        enroll(p.name, Peer::name, [](const settings& how) { return measure_idle<Peer>(how); });
  }
}

/// All plans that the peer can do.
template <class Peer>
void enroll_queue() {
  for (const plan& p : plans) {
    if (p.bytes < Peer::bytes_min || p.bytes > Peer::bytes_max || (p.consumers > 1 && !Peer::shares_work)) continue;
    if (p.bytes == 64) enroll_plan<Peer, 64>(p);
    if constexpr (Peer::bytes_max >= 1024)
      if (p.bytes == 1024) enroll_plan<Peer, 1024>(p);
    if constexpr (Peer::bytes_max >= 65536)
      if (p.bytes == 65536) enroll_plan<Peer, 65536>(p);
    if constexpr (Peer::bytes_max >= 1U << 20)
      if (p.bytes == 1U << 20) enroll_plan<Peer, 1U << 20>(p);
  }
}

}  // namespace bench
