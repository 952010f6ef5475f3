// A snapshot for people and for programs.
#include <covey/process/inspect.hpp>

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <utility>

namespace covey {
namespace {

std::string in_words(const holder_info& h) {
  const std::string who = h.pid != 0 ? std::to_string(h.pid) : "region " + std::to_string(h.region);
  return h.count == 1 ? who : who + " (" + std::to_string(h.count) + ")";
}

std::string in_words(const std::vector<holder_info>& holders) {
  std::string all;
  for (const holder_info& h : holders) all += (all.empty() ? "" : ", ") + in_words(h);
  return all;
}

// What the table of regions says of one: its id and first name, and who waits.
class titles {
 public:
  explicit titles(const snapshot& s) : regions_(s.regions) {}
  std::string operator()(std::uint64_t region) const {
    const region_info* const r = find(region);
    return std::to_string(region) + (r != nullptr && !r->names.empty() ? " " + r->names[0] : "") + " ";
  }
  [[nodiscard]] std::string waiters_of(std::uint64_t region) const {
    const region_info* const r = find(region);
    return r != nullptr ? in_words(r->waiters) : "";
  }

 private:
  [[nodiscard]] const region_info* find(std::uint64_t region) const {
    const auto it = std::ranges::find(regions_, region, &region_info::id);
    return it != regions_.end() ? &*it : nullptr;
  }

  const std::vector<region_info>& regions_;
};

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

void print_processes(std::ostream& out, const std::vector<process_info>& all) {
  out << std::left << std::setw(9) << "PID" << std::setw(9) << "PARENT" << std::setw(10) << "STATE" << std::setw(10)
      << "AGE s" << "NAME\n";
  for (const process_info& p : all)
    out << std::setw(9) << p.pid << std::setw(9) << p.parent << std::setw(10) << p.state << std::setw(10)
        << std::chrono::duration_cast<std::chrono::seconds>(p.age).count() << p.name << '\n';
}

void print_objects(std::ostream& out, const std::vector<object_info>& all, const titles& title) {
  if (all.empty()) return;
  out << '\n' << std::setw(22) << "OBJECT" << std::setw(16) << "USED" << std::setw(16) << "COMMITTED" << "STRANDED\n";
  for (const object_info& o : all)
    out << std::setw(22) << title(o.region) << std::setw(16) << o.used << std::setw(16) << o.committed
        << (o.stranded_bytes ? std::to_string(*o.stranded_bytes) : "?") << '\n';
}

void print_queues(std::ostream& out, const std::vector<queue_info>& all, const titles& title) {
  if (all.empty()) return;
  out << '\n'
      << std::setw(22) << "QUEUE" << std::setw(20) << "KIND" << std::setw(10) << "WAITING" << std::setw(10) << "OF"
      << std::setw(12) << "PUT" << std::setw(12) << "GOT"
      << "IN FLIGHT AT\n";
  for (const queue_info& q : all)
    out << std::setw(22) << title(q.region) << std::setw(20) << q.kind << std::setw(10) << q.waiting << std::setw(10)
        << q.capacity << std::setw(12) << q.put << std::setw(12) << q.got << in_words(q.in_flight)
        << (q.getters != 0 ? "  (getters asleep: " + std::to_string(q.getters) + ")" : "")
        << (q.putters != 0 ? "  (putters asleep: " + std::to_string(q.putters) + ")" : "")
        << (q.failed != 0 ? "  (failed: " + std::to_string(q.failed) + ")" : "") << (q.closed ? "  (closed)" : "")
        << '\n';
}

void print_broadcasts(std::ostream& out, const std::vector<broadcast_info>& all, const titles& title) {
  if (all.empty()) return;
  out << '\n'
      << std::setw(22) << "BROADCAST" << std::setw(10) << "KEPT" << std::setw(10) << "OF" << std::setw(12) << "PUT"
      << "SUBSCRIBERS: BEHIND, MISSED\n";
  for (const broadcast_info& b : all) {
    out << std::setw(22) << title(b.region) << std::setw(10) << b.kept << std::setw(10) << b.capacity << std::setw(12)
        << b.put;
    const char* between = "";
    for (const subscriber_info& s : b.subscribers)
      out << std::exchange(between, "; ") << in_words(s.holders) << ": " << s.behind << ", " << s.missed;
    out << (b.closed ? "  (closed)" : "") << '\n';
  }
}

std::string waited_for(const lock_info& l, const titles& title) {
  const std::string waiters = title.waiters_of(l.region);
  if (!waiters.empty()) return ", waited for by " + waiters;
  return l.waited_for ? ", waited for" : "";
}

void print_locks(std::ostream& out, const std::vector<lock_info>& all, const titles& title) {
  if (all.empty()) return;
  out << '\n' << std::setw(22) << "LOCK" << std::setw(20) << "KIND" << "HAD BY\n";
  for (const lock_info& l : all) {
    const std::string readers = l.readers.empty() ? "" : "readers: " + in_words(l.readers);
    out << std::setw(22) << title(l.region) << std::setw(20) << l.kind
        << (l.owner != 0      ? std::to_string(l.owner)
            : readers.empty() ? "nobody"
                              : readers)
        << waited_for(l, title) << (l.needs_recovery ? "  (needs recovery)" : "") << '\n';
  }
}

void print_counts(std::ostream& out, const std::vector<count_info>& all, const titles& title) {
  if (all.empty()) return;
  out << '\n'
      << std::setw(22) << "SYNC" << std::setw(20) << "KIND" << std::setw(12) << "VALUE" << std::setw(8) << "OF"
      << std::setw(9) << "WAITERS" << "HELD BY\n";
  for (const count_info& c : all)
    out << std::setw(22) << title(c.region) << std::setw(20) << c.kind << std::setw(12) << c.value << std::setw(8)
        << (c.of != 0 ? std::to_string(c.of) : "") << std::setw(9) << (c.waiters ? std::to_string(*c.waiters) : "?")
        << in_words(c.held_by) << (c.broken ? "  (broken)" : "") << '\n';
}

void print_named(std::ostream& out, const std::vector<named_info>& all) {
  if (all.empty()) return;
  out << '\n' << std::setw(9) << "PID" << std::setw(50) << "NAMED SEGMENT" << "BYTES\n";
  for (const named_info& n : all) out << std::setw(9) << n.pid << std::setw(50) << n.name << n.bytes << '\n';
}

void print_entries(std::ostream& out, const std::vector<entry_info>& all) {
  if (all.empty()) return;
  out << '\n' << std::setw(9) << "PID" << std::setw(50) << "ENTRY" << "IS\n";
  for (const entry_info& e : all)
    out << std::setw(9) << e.pid << std::setw(50) << e.name << (e.number ? std::to_string(*e.number) : e.text) << '\n';
}

void print_regions(std::ostream& out, const std::vector<region_info>& all) {
  out << '\n' << std::setw(22) << "REGION" << std::setw(20) << "KIND" << std::setw(16) << "BYTES" << "HELD BY\n";
  for (const region_info& r : all)
    out << std::setw(22) << r.id << std::setw(20) << r.kind << std::setw(16) << r.bytes << in_words(r.holders)
        << (r.names.empty() ? "" : "  \"" + r.names[0] + "\"")
        << (r.waiters.empty() ? "" : "  (waited for by " + in_words(r.waiters) + ")")
        << (r.damaged ? "  (damaged)" : "") << (r.left_by_the_dead ? "  (a holder was killed)" : "") << '\n';
}

}  // namespace

std::string to_text(const snapshot& s) {
  std::ostringstream out;
  const titles title(s);
  print_processes(out, s.processes);
  print_objects(out, s.objects, title);
  print_queues(out, s.queues, title);
  print_broadcasts(out, s.broadcasts, title);
  print_locks(out, s.locks, title);
  print_counts(out, s.counts, title);
  print_named(out, s.named);
  print_entries(out, s.entries);
  print_regions(out, s.regions);
  out << "\nmemory in use: " << s.bytes_in_use << " bytes\n";
  return out.str();
}

std::string to_json(const snapshot& s) {
  std::ostringstream out;
  out << "{\"taken_at\":" << std::fixed << std::setprecision(9)
      << std::chrono::duration<double>(s.taken_at.time_since_epoch()).count() << ',';
  list(out, "processes", s.processes, [&](const process_info& p) {
    out << "\"pid\":" << p.pid << ",\"parent\":" << p.parent << ",\"name\":\"" << p.name << "\",\"state\":\"" << p.state
        << "\",\"age_ns\":" << p.age.count();
  });
  out << ',';
  list(out, "regions", s.regions, [&](const region_info& r) {
    out << "\"id\":" << r.id << ",\"kind\":\"" << r.kind << "\",\"bytes\":" << r.bytes
        << ",\"damaged\":" << word(r.damaged) << ",\"left_by_the_dead\":" << word(r.left_by_the_dead) << ",\"names\":[";
    const char* between = "";
    for (const std::string& name : r.names) out << std::exchange(between, ",") << '"' << name << '"';
    out << "],";
    list_holders(out, "holders", r.holders);
    out << ',';
    list_holders(out, "waiters", r.waiters);
  });
  out << ',';
  list(out, "objects", s.objects, [&](const object_info& o) {
    out << "\"region\":" << o.region << ",\"used\":" << o.used << ",\"committed\":" << o.committed
        << ",\"stranded_bytes\":" << (o.stranded_bytes ? std::to_string(*o.stranded_bytes) : "null");
  });
  out << ',';
  list(out, "queues", s.queues, [&](const queue_info& q) {
    out << "\"region\":" << q.region << ",\"kind\":\"" << q.kind << "\",\"capacity\":" << q.capacity
        << ",\"waiting\":" << q.waiting << ",\"failed\":" << q.failed << ",\"put\":" << q.put << ",\"got\":" << q.got
        << ",\"closed\":" << word(q.closed) << ",\"getters\":" << q.getters << ",\"putters\":" << q.putters << ',';
    list_holders(out, "in_flight", q.in_flight);
  });
  out << ',';
  list(out, "broadcasts", s.broadcasts, [&](const broadcast_info& b) {
    out << "\"region\":" << b.region << ",\"capacity\":" << b.capacity << ",\"kept\":" << b.kept << ",\"put\":" << b.put
        << ",\"closed\":" << word(b.closed) << ',';
    list(out, "subscribers", b.subscribers, [&](const subscriber_info& each) {
      out << "\"region\":" << each.region << ",\"behind\":" << each.behind << ",\"missed\":" << each.missed << ',';
      list_holders(out, "holders", each.holders);
    });
  });
  out << ',';
  list(out, "locks", s.locks, [&](const lock_info& l) {
    out << "\"region\":" << l.region << ",\"kind\":\"" << l.kind << "\",\"owner\":" << l.owner
        << ",\"waited_for\":" << word(l.waited_for) << ",\"needs_recovery\":" << word(l.needs_recovery) << ',';
    list_holders(out, "readers", l.readers);
  });
  out << ',';
  list(out, "counts", s.counts, [&](const count_info& c) {
    out << "\"region\":" << c.region << ",\"kind\":\"" << c.kind << "\",\"value\":" << c.value << ",\"of\":" << c.of
        << ",\"waiters\":" << (c.waiters ? std::to_string(*c.waiters) : "null") << ",\"broken\":" << word(c.broken)
        << ',';
    list_holders(out, "held_by", c.held_by);
  });
  out << ',';
  list(out, "named", s.named, [&](const named_info& n) {
    out << "\"pid\":" << n.pid << ",\"name\":\"" << n.name << "\",\"bytes\":" << n.bytes;
  });
  out << ',';
  list(out, "entries", s.entries, [&](const entry_info& e) {
    out << "\"pid\":" << e.pid << ",\"name\":\"" << e.name
        << "\",\"number\":" << (e.number ? std::to_string(*e.number) : "null") << ",\"text\":\"" << e.text << '"';
  });
  out << ",\"bytes_in_use\":" << s.bytes_in_use << '}';
  return out.str();
}

}  // namespace covey
