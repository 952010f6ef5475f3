// The ledger is mapped read-only in every process: who exists and who holds what is copied from it, entry by entry, and
// an entry whose generation changed meanwhile is left out. Only the queues are looked into, and only those held here.
#include <covey/process/inspect.hpp>

#include <algorithm>
#include <covey/ipc/queue_inspection.hpp>
#include <covey/memory/family.hpp>
#include <covey/memory/region.hpp>
#include <covey/sync/owned_lock.hpp>
#include <iomanip>
#include <map>
#include <sstream>

namespace covey {
namespace {

using namespace detail;

std::string name_of(process_phase phase) {
  switch (phase) {
    case process_phase::starting: return "starting";
    case process_phase::alive: return "alive";
    case process_phase::dead: return "dead";
    case process_phase::free: break;
  }
  return "free";
}

std::string name_of_kind(std::uint32_t kind) {
  switch (static_cast<region_kind>(kind)) {
    case region_kind::plain: return "plain";
    case region_kind::object: return "object";
    case region_kind::mutex: return "mutex";
    case region_kind::event: return "event";
    case region_kind::queue: return "queue";
    case region_kind::board: return "board";
    case region_kind::lane: return "lane";
    case region_kind::recursive_mutex: return "recursive_mutex";
    case region_kind::shared_mutex: return "shared_mutex";
    case region_kind::semaphore: return "semaphore";
    case region_kind::permits: return "permits";
    case region_kind::condition: return "condition_variable";
    case region_kind::barrier: return "barrier";
    case region_kind::latch: return "latch";
    case region_kind::once: return "once_flag";
    case region_kind::guarded: return "guarded";
    case region_kind::ordered_queue: return "ordered_queue";
    case region_kind::broadcast: return "broadcast";
    case region_kind::subscription: return "subscription";
  }
  return "unknown";
}

// What is no text, or would end it, becomes '?'.
std::string printable(const char* text, std::size_t size_max) {
  std::string out(text, std::find(text, text + size_max, '\0'));
  for (char& c : out)
    if (c < ' ' || c > '~' || c == '"' || c == '\\') c = '?';
  return out;
}

std::int64_t pid_of(std::uint32_t slot) {
  return slot < processes_max ? family.book->processes[slot].pid.load(std::memory_order_relaxed) : 0;
}

std::vector<process_info> processes_now() {
  std::vector<process_info> all;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (std::uint32_t slot = 0; slot < processes_max; ++slot) {
    const process_entry& e = family.book->processes[slot];
    const std::uint64_t state = e.state.load(std::memory_order_acquire);
    if (phase_of(state) == process_phase::free) continue;
    process_info p;
    p.pid = e.pid.load(std::memory_order_relaxed);
    const std::uint32_t parent = e.parent.load(std::memory_order_relaxed);
    p.parent = parent == slot ? 0 : pid_of(parent);
    p.name = printable(e.name, sizeof e.name);
    p.state = name_of(phase_of(state));
    p.age = now - std::chrono::nanoseconds(e.started_ns.load(std::memory_order_relaxed));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.state.load(std::memory_order_relaxed) == state) all.push_back(std::move(p));
  }
  return all;
}

// From region to holders: one pass over all references.
std::multimap<std::uint64_t, holder_info> holders_now() {
  std::multimap<std::uint64_t, holder_info> all;
  const std::uint32_t used = std::min(family.book->edges_used.load(std::memory_order_acquire), edges_max);
  for (std::uint32_t i = 0; i < used; ++i) {
    const edge_entry& e = family.book->edges[i];
    const std::uint64_t to = e.to.load(std::memory_order_acquire);
    if (to == 0) continue;
    const std::uint64_t from = e.from;
    holder_info h{.count = e.count};
    const bool is_process = (from & (edge_from_process | edge_from_arguments)) != 0;
    if (is_process)
      h.pid = pid_of(slot_of_process(from & ~(edge_from_process | edge_from_arguments)));
    else
      h.region = from;
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.to.load(std::memory_order_relaxed) == to) all.emplace(to, h);
  }
  return all;
}

bool is_held_here(const region_info& r) {
  const std::int64_t me = pid_of(family.slot);
  return std::ranges::any_of(r.holders, [&](const holder_info& h) { return h.pid == me && h.count > 0; });
}

std::vector<region_info> regions_now() {
  const auto holders = holders_now();
  std::vector<region_info> all;
  const std::uint32_t used = std::min(family.book->regions_used.load(std::memory_order_acquire), regions_max);
  for (std::uint32_t i = 0; i < used; ++i) {
    const region_entry& e = family.book->regions[i];
    const std::uint32_t generation = e.generation.load(std::memory_order_acquire);
    if (generation % 2 == 0) continue;
    region_info r;
    r.id = i | static_cast<std::uint64_t>(generation) << 32;
    r.kind = name_of_kind(e.kind);
    r.bytes = e.bytes;
    r.damaged = e.damaged.load(std::memory_order_relaxed) != 0;
    r.left_by_the_dead = e.left_by_the_dead.load(std::memory_order_relaxed) != 0;
    for (auto [it, end] = holders.equal_range(r.id); it != end; ++it) r.holders.push_back(it->second);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.generation.load(std::memory_order_relaxed) == generation) all.push_back(std::move(r));
  }
  return all;
}

std::optional<queue_info> look_into(const region_info& r) {
  const auto seen = inspect_queue(r.id);
  if (!seen) return std::nullopt;
  queue_info q{
      .region = r.id, .capacity = seen->capacity, .waiting = seen->waiting, .put = seen->put, .closed = seen->closed};
  std::map<std::int64_t, std::int64_t> by_process;
  for (const participant hand : seen->hands) ++by_process[pid_of(slot_of(hand))];
  for (const auto& [pid, count] : by_process) q.in_flight.push_back({.pid = pid, .count = count});
  return q;
}

std::optional<lock_info> look_at_lock(const region_info& r) {
  const region held = region::hold_if_counted(r.id);
  if (!held) return std::nullopt;
  const auto& lock = *reinterpret_cast<const owned_lock*>(held.data());  // both kinds begin with it
  const participant owner = lock.owner_approx();
  const bool lives = owner != 0 && alive(owner);
  return lock_info{.region = r.id,
                   .kind = r.kind,
                   .owner = lives ? pid_of(slot_of(owner)) : 0,
                   .waited_for = lock.waited_for_approx(),
                   .needs_recovery = lock.unrepaired_approx()};
}

// ---- for people and programs ---------------------------------------------------------------------------------------

std::string in_words(const holder_info& h) {
  const std::string who = h.pid != 0 ? std::to_string(h.pid) : "region " + std::to_string(h.region);
  return h.count == 1 ? who : who + " (" + std::to_string(h.count) + ")";
}

std::string in_words(const std::vector<holder_info>& holders) {
  std::string all;
  for (const holder_info& h : holders) all += (all.empty() ? "" : ", ") + in_words(h);
  return all;
}

template <class Range, class Print>
void list(std::ostream& out, const char* name, const Range& range, const Print& print) {
  out << '"' << name << "\":[";
  bool first = true;
  for (const auto& each : range) {
    if (!std::exchange(first, false)) out << ',';
    out << '{';
    print(each);
    out << '}';
  }
  out << ']';
}

void list_holders(std::ostream& out, const char* name, const std::vector<holder_info>& holders) {
  list(out, name, holders, [&](const holder_info& h) {
    out << "\"pid\":" << h.pid << ",\"region\":" << h.region << ",\"count\":" << h.count;
  });
}

const char* word(bool b) { return b ? "true" : "false"; }

}  // namespace

snapshot inspect() {
  family_check();
  snapshot s;
  s.processes = processes_now();
  s.regions = regions_now();
  for (const region_info& r : s.regions) {
    if (r.damaged || !is_held_here(r)) continue;
    if (r.kind == "queue")
      if (auto q = look_into(r)) s.queues.push_back(std::move(*q));
    if (r.kind == "mutex" || r.kind == "recursive_mutex")
      if (auto l = look_at_lock(r)) s.locks.push_back(std::move(*l));
  }
  s.bytes_in_use = arena_in_use().bytes;
  return s;
}

std::string to_text(const snapshot& s) {
  std::ostringstream out;
  out << std::left << std::setw(9) << "PID" << std::setw(9) << "PARENT" << std::setw(10) << "STATE" << std::setw(10)
      << "AGE s" << "NAME\n";
  for (const process_info& p : s.processes)
    out << std::setw(9) << p.pid << std::setw(9) << p.parent << std::setw(10) << p.state << std::setw(10)
        << std::chrono::duration_cast<std::chrono::seconds>(p.age).count() << p.name << '\n';
  out << '\n'
      << std::setw(22) << "QUEUE" << std::setw(10) << "WAITING" << std::setw(10) << "OF" << std::setw(12) << "PUT"
      << "IN FLIGHT AT\n";
  for (const queue_info& q : s.queues)
    out << std::setw(22) << q.region << std::setw(10) << q.waiting << std::setw(10) << q.capacity << std::setw(12)
        << q.put << in_words(q.in_flight) << (q.closed ? "  (closed)" : "") << '\n';
  out << '\n' << std::setw(22) << "LOCK" << std::setw(20) << "KIND" << "HAD BY\n";
  for (const lock_info& l : s.locks)
    out << std::setw(22) << l.region << std::setw(20) << l.kind << (l.owner != 0 ? std::to_string(l.owner) : "nobody")
        << (l.waited_for ? ", waited for" : "") << (l.needs_recovery ? "  (needs recovery)" : "") << '\n';
  out << '\n' << std::setw(22) << "REGION" << std::setw(20) << "KIND" << std::setw(16) << "BYTES" << "HELD BY\n";
  for (const region_info& r : s.regions)
    out << std::setw(22) << r.id << std::setw(20) << r.kind << std::setw(16) << r.bytes << in_words(r.holders)
        << (r.damaged ? "  (damaged)" : "") << (r.left_by_the_dead ? "  (a holder was killed)" : "") << '\n';
  out << "\nmemory in use: " << s.bytes_in_use << " bytes\n";
  return out.str();
}

std::string to_json(const snapshot& s) {
  std::ostringstream out;
  out << '{';
  list(out, "processes", s.processes, [&](const process_info& p) {
    out << "\"pid\":" << p.pid << ",\"parent\":" << p.parent << ",\"name\":\"" << p.name << "\",\"state\":\"" << p.state
        << "\",\"age_ns\":" << p.age.count();
  });
  out << ',';
  list(out, "regions", s.regions, [&](const region_info& r) {
    out << "\"id\":" << r.id << ",\"kind\":\"" << r.kind << "\",\"bytes\":" << r.bytes
        << ",\"damaged\":" << word(r.damaged) << ",\"left_by_the_dead\":" << word(r.left_by_the_dead) << ',';
    list_holders(out, "holders", r.holders);
  });
  out << ',';
  list(out, "queues", s.queues, [&](const queue_info& q) {
    out << "\"region\":" << q.region << ",\"capacity\":" << q.capacity << ",\"waiting\":" << q.waiting
        << ",\"put\":" << q.put << ",\"closed\":" << word(q.closed) << ',';
    list_holders(out, "in_flight", q.in_flight);
  });
  out << ',';
  list(out, "locks", s.locks, [&](const lock_info& l) {
    out << "\"region\":" << l.region << ",\"kind\":\"" << l.kind << "\",\"owner\":" << l.owner
        << ",\"waited_for\":" << word(l.waited_for) << ",\"needs_recovery\":" << word(l.needs_recovery);
  });
  out << ",\"bytes_in_use\":" << s.bytes_in_use << '}';
  return out.str();
}

}  // namespace covey
