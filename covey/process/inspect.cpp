// The ledger is mapped read-only in every process: who exists and who holds what is copied from it, entry by entry, and
// an entry whose generation changed meanwhile is left out. What lies in regions is looked at only where it is held
// here.
#include <covey/process/inspect.hpp>

#include <algorithm>
#include <covey/ipc/queue_inspection.hpp>
#include <covey/memory/family.hpp>
#include <covey/memory/heap_inspection.hpp>
#include <covey/memory/region.hpp>
#include <covey/sync/sync_inspection.hpp>
#include <map>
#include <set>

namespace covey {
namespace {

using namespace detail;

std::string name_of(process_phase phase) {
  switch (phase) {
    case process_phase::starting: return "starting";
    case process_phase::alive: return "alive";
    case process_phase::dead: return "dead";
    case process_phase::elsewhere: return "exec";
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
std::string printable(std::string_view text) {
  std::string out(text.substr(0, text.find('\0')));
  for (char& c : out)
    if (c < ' ' || c > '~' || c == '"' || c == '\\') c = '?';
  return out;
}

std::int64_t pid_in(std::uint32_t slot) { return slot < processes_max ? pid_of(family.book->processes[slot]) : 0; }

std::vector<process_id> living_processes() {
  std::vector<process_id> all;
  for (std::uint32_t slot = 0; slot < processes_max; ++slot) {
    const std::uint64_t state = family.book->processes[slot].state.load(std::memory_order_acquire);
    if (phase_of(state) == process_phase::alive) all.push_back(make_process_id(slot, generation_of(state)));
  }
  return all;
}

// What all living processes say of themselves and of objects.
void add_notes(snapshot& s) {
  std::multimap<std::uint64_t, std::string> names;
  for (const process_id id : living_processes()) {
    const std::int64_t pid = pid_in(slot_of_process(id));
    for (note_sight& n : notes_of(id)) {
      if (n.region == note_of_named_segment) {
        s.named.push_back({.pid = pid, .name = printable(n.name), .bytes = static_cast<std::uint64_t>(n.number)});
        continue;
      }
      if (n.region != 0) {
        names.emplace(n.region, printable(n.name));
        continue;
      }
      entry_info e{.pid = pid, .name = printable(n.name)};
      if (n.is_text)
        e.text = printable(n.text);
      else
        e.number = n.number;
      s.entries.push_back(std::move(e));
    }
  }
  for (region_info& r : s.regions)
    for (auto [it, end] = names.equal_range(r.id); it != end; ++it) r.names.push_back(it->second);
}

// Who sleeps where, in each region.
void add_waiters(snapshot& now) {
  const auto entry_of = [](const region_info& r) -> const region_entry& {
    return family.book->regions[static_cast<std::uint32_t>(r.id)];
  };
  const auto is_there = [&](const region_info& r) {
    std::atomic_thread_fence(std::memory_order_acquire);
    return entry_of(r).generation.load(std::memory_order_relaxed) == r.id >> 32;
  };
  std::map<std::uint64_t, region_info*> by_place;
  for (region_info& r : now.regions)
    if (const std::uint64_t offset = entry_of(r).offset; is_there(r)) by_place.emplace(offset, &r);
  for (const process_id id : living_processes()) {
    const std::int64_t pid = pid_in(slot_of_process(id));
    std::map<region_info*, std::set<std::uint32_t>> threads;
    for (const sleep_sight& s : sleeps_of(id)) {
      const auto next = by_place.upper_bound(s.offset);
      if (next == by_place.begin()) continue;
      const auto [begin, region] = *std::prev(next);
      if (s.offset - begin < region->bytes) threads[region].insert(s.thread);
    }
    for (const auto& [region, those] : threads)
      if (is_there(*region)) region->waiters.push_back({.pid = pid, .count = static_cast<std::int64_t>(those.size())});
  }
}

std::vector<process_info> processes_now() {
  std::vector<process_info> all;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (std::uint32_t slot = 0; slot < processes_max; ++slot) {
    const process_entry& e = family.book->processes[slot];
    const std::uint64_t state = e.state.load(std::memory_order_acquire);
    if (phase_of(state) == process_phase::free) continue;
    process_info p;
    p.pid = pid_of(e);
    const std::uint32_t parent = e.parent.load(std::memory_order_relaxed);
    p.parent = parent == slot ? 0 : pid_in(parent);
    p.name = printable({e.name, sizeof e.name});
    p.state = name_of(phase_of(state));
    p.age = now - std::chrono::nanoseconds(e.started_ns.load(std::memory_order_relaxed));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.state.load(std::memory_order_relaxed) == state) all.push_back(std::move(p));
  }
  return all;
}

// From region and where the reference comes from to the holder: one pass over all references.
std::map<std::pair<std::uint64_t, std::uint64_t>, holder_info> holders_now() {
  std::map<std::pair<std::uint64_t, std::uint64_t>, holder_info> all;
  const std::uint32_t used = std::min(family.book->edges_used.load(std::memory_order_acquire), edges_max);
  for (std::uint32_t i = 0; i < used; ++i) {
    const edge_entry& e = family.book->edges[i];
    const std::uint64_t to = e.to.load(std::memory_order_acquire);
    if (to == 0) continue;
    const std::uint64_t from = e.from;
    holder_info h{.count = e.count};
    const bool is_process = (from & (edge_from_process | edge_from_arguments)) != 0;
    if (is_process)
      h.pid = pid_in(slot_of_process(from & ~(edge_from_process | edge_from_arguments)));
    else
      h.region = from;
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.to.load(std::memory_order_relaxed) != to) continue;
    const auto [known, is_new] = all.try_emplace({to, from}, h);
    if (!is_new) known->second.count += h.count;  // another message of the same region
  }
  return all;
}

bool is_one_of(const std::string& kind, std::initializer_list<std::string_view> kinds) {
  return std::ranges::find(kinds, kind) != kinds.end();
}

bool is_held_here(const region_info& r) {
  const std::int64_t me = pid_in(family.slot);
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
    for (auto it = holders.lower_bound({r.id, 0}); it != holders.end() && it->first.first == r.id; ++it)
      r.holders.push_back(it->second);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (e.generation.load(std::memory_order_relaxed) == generation) all.push_back(std::move(r));
  }
  return all;
}

std::uint32_t slot_in(participant name) { return slot_of(name); }
std::uint32_t slot_in(std::uint32_t slot) { return slot; }

template <class Names>
std::vector<holder_info> by_process(const Names& names) {
  std::map<std::int64_t, std::int64_t> counts;
  for (const auto name : names) ++counts[pid_in(slot_in(name))];
  std::vector<holder_info> all;
  for (const auto& [pid, count] : counts) all.push_back({.pid = pid, .count = count});
  return all;
}

std::optional<queue_info> look_into(const region_info& r) {
  const auto seen = inspect_queue(r.id);
  if (!seen) return std::nullopt;
  queue_info q{.region = r.id,
               .kind = seen->kind,
               .capacity = seen->capacity,
               .waiting = seen->waiting,
               .failed = seen->failed,
               .put = seen->put,
               .got = seen->got,
               .closed = seen->closed,
               .getters = seen->getters,
               .putters = seen->putters};
  q.in_flight = by_process(seen->hands);
  return q;
}

std::optional<broadcast_info> look_at_broadcast(const region_info& r, const std::vector<region_info>& regions) {
  const auto seen = inspect_broadcast(r.id);
  if (!seen) return std::nullopt;
  broadcast_info b{
      .region = r.id, .capacity = seen->capacity, .kept = seen->kept, .put = seen->put, .closed = seen->closed};
  for (const auto& each : seen->subscribers) {
    const auto own = std::ranges::find(regions, each.region, &region_info::id);
    b.subscribers.push_back({.region = each.region,
                             .behind = each.behind,
                             .missed = each.missed,
                             .holders = own == regions.end() ? std::vector<holder_info>() : own->holders});
  }
  return b;
}

std::optional<lock_info> look_at_lock(const region_info& r) {
  const auto seen = inspect_lock(r.id);
  if (!seen) return std::nullopt;
  return lock_info{.region = r.id,
                   .kind = r.kind,
                   .owner = seen->owner != 0 ? pid_in(slot_of(seen->owner)) : 0,
                   .readers = by_process(seen->readers),
                   .waited_for = seen->waited_for,
                   .needs_recovery = seen->needs_recovery};
}

std::optional<count_info> look_at_count(const region_info& r) {
  const auto seen = inspect_count(r.id);
  if (!seen) return std::nullopt;
  return count_info{.region = r.id,
                    .kind = r.kind,
                    .value = seen->value,
                    .of = seen->of,
                    .waiters = seen->waiters,
                    .held_by = by_process(seen->holders),
                    .broken = seen->broken};
}

}  // namespace

snapshot inspect() {
  family_check();
  snapshot s{.taken_at = std::chrono::steady_clock::now()};
  s.processes = processes_now();
  s.regions = regions_now();
  std::uint64_t to_search = 64 << 20;  // of all objects: some tenths of a second
  for (const region_info& r : s.regions) {
    if (r.damaged || !is_held_here(r)) continue;
    if (r.kind == "object")
      if (const auto h = inspect_heap(r.id, to_search))
        s.objects.push_back(
            {.region = r.id, .used = h->used, .committed = h->committed, .stranded_bytes = h->stranded});
    if (is_one_of(r.kind, {"queue", "ordered_queue"}))
      if (auto q = look_into(r)) s.queues.push_back(std::move(*q));
    if (r.kind == "broadcast")
      if (auto b = look_at_broadcast(r, s.regions)) s.broadcasts.push_back(std::move(*b));
    if (is_one_of(r.kind, {"mutex", "recursive_mutex", "shared_mutex"}))
      if (auto l = look_at_lock(r)) s.locks.push_back(std::move(*l));
    if (is_one_of(r.kind,
                  {"event", "semaphore", "permits", "latch", "barrier", "condition_variable", "once_flag", "guarded"}))
      if (auto c = look_at_count(r)) s.counts.push_back(std::move(*c));
  }
  add_notes(s);
  add_waiters(s);
  s.bytes_in_use = arena_in_use().bytes;
  return s;
}

std::vector<rate_info> rates(const snapshot& before, const snapshot& after) {
  const double seconds = std::chrono::duration<double>(after.taken_at - before.taken_at).count();
  std::vector<rate_info> all;
  if (seconds <= 0) return all;
  const auto a_second = [&](std::uint64_t then, std::uint64_t now) {
    return static_cast<double>(static_cast<std::int64_t>(now - then)) / seconds;
  };
  for (const queue_info& q : after.queues)
    if (const auto was = std::ranges::find(before.queues, q.region, &queue_info::region); was != before.queues.end())
      all.push_back({.region = q.region, .put = a_second(was->put, q.put), .got = a_second(was->got, q.got)});
  for (const broadcast_info& b : after.broadcasts)
    if (const auto was = std::ranges::find(before.broadcasts, b.region, &broadcast_info::region);
        was != before.broadcasts.end())
      all.push_back({.region = b.region, .put = a_second(was->put, b.put)});
  return all;
}

namespace detail {

void name_regions(std::span<const std::uint64_t> ids, std::string_view name) {
  family_check();
  const auto is_subscription = [](std::uint64_t id) {
    return static_cast<region_kind>(family.book->regions[static_cast<std::uint32_t>(id)].kind) ==
           region_kind::subscription;
  };
  const bool subscriber = std::ranges::any_of(ids, is_subscription);
  for (const std::uint64_t id : ids) {
    if (subscriber && !is_subscription(id)) continue;
    own_note::drop_all_of(id);
    if (!name.empty()) own_note(id, name, 0);
  }
}

}  // namespace detail
}  // namespace covey
