#include <pigeon/office/roster.hpp>

#include <algorithm>
#include <tuple>
#include <utility>

namespace pigeon::office {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t people_max = 5000;
constexpr unix_ms report_interval = 60'000;
constexpr std::size_t probes_max = 64;
constexpr auto probe_pause = 250ms;

bool differs(const person& a, const person& b) {
  const auto all = [](const person& p) {
    return std::tie(p.name, p.group, p.user, p.host, p.address, p.port, p.encoding, p.here, p.away, p.life);
  };
  return all(a) != all(b);
}

}  // namespace

void roster::known(person who) {
  if (entries_.contains(who.key)) return;  // Heard of meanwhile: that is newer.
  make_room();
  who.here = false;
  entry& made = entries_[who.key];
  made.reported = who.seen;
  made.who = std::move(who);
}

std::optional<person_seen> roster::heard(person who, time_point now) {
  if (!entries_.contains(who.key)) make_room();
  entry& known = entries_[who.key];
  who.here = true;
  const bool news = differs(known.who, who) || who.seen - known.reported >= report_interval;
  set_here(known, true);
  known.who = std::move(who);
  known.due = now + options_.quiet_after;
  known.probes = 0;
  known.heard = ++datagrams_;
  if (!news) return std::nullopt;
  known.reported = known.who.seen;
  return person_seen{known.who};
}

std::optional<person_seen> roster::left(const person_key& who) {
  const auto at = entries_.find(who);
  if (at == entries_.end() || !at->second.who.here) return std::nullopt;
  set_here(at->second, false);
  return person_seen{at->second.who};
}

void roster::doubt(const person_key& who, time_point now) {
  const auto at = entries_.find(who);
  if (at == entries_.end() || !at->second.who.here || at->second.probes > 0) return;
  at->second.due = std::min(at->second.due, now);
}

roster::round roster::due(time_point now) {
  round made;
  for (auto& [key, known] : entries_) {
    if (!known.who.here || known.due > now) continue;
    if (known.probes == options_.probe_count) {
      set_here(known, false);
      made.gone.push_back({known.who});
      continue;
    }
    if (made.probes.size() == probes_max) {
      known.due = now + probe_pause;
      continue;
    }
    ++known.probes;
    known.due = now + options_.probe_wait;
    made.probes.push_back(known.who);
  }
  return made;
}

std::optional<roster::time_point> roster::next_due() const {
  std::optional<time_point> earliest;
  for (const auto& [key, known] : entries_) {
    if (known.who.here && (!earliest || known.due < *earliest)) earliest = known.due;
  }
  return earliest;
}

const person* roster::find(const person_key& who) const {
  const auto at = entries_.find(who);
  return at == entries_.end() ? nullptr : &at->second.who;
}

std::vector<person> roster::people() const {
  std::vector<person> all;
  all.reserve(entries_.size());
  for (const auto& [key, known] : entries_) all.push_back(known.who);
  return all;
}

std::chrono::milliseconds roster::answer_delay_max() const noexcept {
  if (here_count_ <= 20) return 0ms;
  if (here_count_ < 50) return 1000ms;
  return here_count_ < 300 ? 2000ms : 4000ms;
}

void roster::make_room() {
  if (entries_.size() < people_max) return;
  const auto worth = [](const auto& known) { return std::pair(known.second.who.here, known.second.heard); };
  const auto least = std::min_element(entries_.begin(), entries_.end(),
                                      [&](const auto& a, const auto& b) { return worth(a) < worth(b); });
  set_here(least->second, false);
  entries_.erase(least);
}

void roster::set_here(entry& of, bool here) {
  if (of.who.here == here) return;
  of.who.here = here;
  here ? ++here_count_ : --here_count_;
}

}  // namespace pigeon::office
