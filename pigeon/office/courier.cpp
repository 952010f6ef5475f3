#include <pigeon/office/courier.hpp>

#include <algorithm>
#include <array>
#include <utility>

#include <pigeon/office/text.hpp>

namespace pigeon::office {
namespace {

using namespace std::chrono_literals;

// How long to wait for a receipt after the first, second, … time of sending.
constexpr std::array<std::chrono::milliseconds, 6> patience = {750ms, 1500ms, 3000ms, 3000ms, 3000ms, 3000ms};

// How long the first, second, … rest lasts at least when the person is heard of meanwhile.
constexpr std::array<std::chrono::seconds, 5> rest = {0s, 30s, 60s, 120s, 240s};

constexpr auto confirmation_life = 10min;
constexpr std::size_t confirmations_max = 2048;
constexpr std::size_t senders_max = 256;
constexpr std::size_t clients_max = 8192;

}  // namespace

void courier::submit(message_out message, time_point now) {
  const auto [at, fresh] = lines_.try_emplace(message.to.key);
  line& in_line = at->second;
  if (const auto known = in_line.items.find(message.packet); known != in_line.items.end()) {
    known->second.message.to = std::move(message.to);
    return;
  }
  item made{.message = {}, .pieces = {}};
  for (const std::string_view piece : pieces_of(message.text)) made.pieces.emplace_back(piece);
  message.text.clear();
  const std::uint32_t packet = message.packet;
  made.message = std::move(message);
  const auto place = in_line.items.emplace(packet, std::move(made)).first;
  if (fresh) in_line.due = now;
  // An older message that comes late goes first, from the beginning.
  if (!fresh && place == in_line.items.begin() && in_line.due) advance(in_line, now);
}

void courier::heard(const person& who, time_point now) {
  const auto at = lines_.find(who.key);
  if (at == lines_.end()) return;
  line& in_line = at->second;
  for (auto& [packet, waiting] : in_line.items) waiting.message.to = who;
  if (!in_line.due && in_line.rests <= rest.size()) wake(in_line, std::max(now, in_line.rest_end));
}

void courier::returned(const person& who, time_point now) {
  heard(who, now);
  const auto at = lines_.find(who.key);
  if (at == lines_.end()) return;
  at->second.rests = 0;
  if (at->second.sent == 0 || !at->second.due) wake(at->second, now);
}

// The piece in front gets all its attempts again, from `when` on.
void courier::wake(line& in_line, time_point when) {
  in_line.sent = 0;
  in_line.due = when;
}

// The item to which `packet` belongs.
std::map<std::uint32_t, courier::item>::iterator courier::find(line& in_line, std::uint32_t packet) {
  auto at = in_line.items.upper_bound(packet);
  if (at == in_line.items.begin()) return in_line.items.end();
  --at;
  return packet - at->first < at->second.pieces.size() ? at : in_line.items.end();
}

// Something else is in front now.
void courier::advance(line& in_line, time_point now) {
  in_line.again = false;
  wake(in_line, now);
}

std::optional<message_outcome> courier::acknowledged(const person_key& who, std::uint32_t packet, time_point now) {
  const auto at = lines_.find(who);
  if (at == lines_.end()) return std::nullopt;
  line& in_line = at->second;
  const auto found = find(in_line, packet);
  if (found == in_line.items.end() || packet - found->first != found->second.next) return std::nullopt;
  in_line.rests = 0;
  const bool was_front = found == in_line.items.begin();
  if (++found->second.next < found->second.pieces.size()) {
    if (was_front) advance(in_line, now);
    return std::nullopt;
  }
  const std::int64_t id = found->second.message.id;
  in_line.items.erase(found);
  if (in_line.items.empty()) {
    lines_.erase(at);
  } else if (was_front) {
    advance(in_line, now);
  }
  return message_outcome{.id = id, .state = message_state::delivered};
}

std::optional<message_outcome> courier::refused(const person_key& who, std::uint32_t packet, std::string reason,
                                                time_point now) {
  const auto at = lines_.find(who);
  if (at == lines_.end()) return std::nullopt;
  line& in_line = at->second;
  const auto found = find(in_line, packet);
  if (found == in_line.items.end()) return std::nullopt;
  const bool was_front = found == in_line.items.begin();
  const std::int64_t id = found->second.message.id;
  in_line.items.erase(found);
  if (in_line.items.empty()) {
    lines_.erase(at);
  } else if (was_front && in_line.due) {
    advance(in_line, now);
  }
  return message_outcome{.id = id, .state = message_state::failed, .reason = std::move(reason)};
}

std::optional<courier::time_point> courier::next_due() const {
  std::optional<time_point> earliest;
  for (const auto& [who, in_line] : lines_) {
    if (in_line.due && (!earliest || *in_line.due < *earliest)) earliest = in_line.due;
  }
  return earliest;
}

courier::round courier::due(time_point now) {
  round made;
  for (auto& [who, in_line] : lines_) {
    if (!in_line.due || *in_line.due > now) continue;
    if (in_line.sent == patience.size()) {
      in_line.due.reset();
      in_line.rest_end = now + rest[std::min(in_line.rests++, rest.size() - 1)];
      made.silent.push_back(who);
      continue;
    }
    const auto& [first_packet, front] = *in_line.items.begin();
    made.parcels.push_back({.to = front.message.to,
                            .packet = first_packet + static_cast<std::uint32_t>(front.next),
                            .text = front.pieces[front.next],
                            .again = in_line.again});
    in_line.again = true;
    in_line.due = now + patience[in_line.sent++];
  }
  return made;
}

std::size_t courier::size() const noexcept {
  std::size_t all = 0;
  for (const auto& [who, in_line] : lines_) all += in_line.items.size();
  return all;
}

bool confirmations::is_confirmed(const person_key& from, std::uint32_t packet, time_point now) {
  const auto at = senders_.find(from);
  if (at == senders_.end()) return false;
  expire(at->second, now);
  return at->second.packets.contains(packet);
}

void confirmations::confirm(const person_key& from, std::uint32_t packet, time_point now) {
  if (!senders_.contains(from)) make_room();
  sender& known = senders_[from];
  expire(known, now);
  // A repeated confirmation does not prolong the life: the store counts from the first, too.
  if (!known.packets.insert(packet).second) return;
  known.order.emplace_back(now, packet);
  if (known.order.size() <= confirmations_max) return;
  known.packets.erase(known.order.front().second);
  known.order.pop_front();
}

void confirmations::forget(const person_key& from) { senders_.erase(from); }

void confirmations::expire(sender& from, time_point now) {
  while (!from.order.empty() && now - from.order.front().first >= confirmation_life) {
    from.packets.erase(from.order.front().second);
    from.order.pop_front();
  }
}

void confirmations::make_room() {
  if (senders_.size() < senders_max) return;
  const auto last_word = [](const auto& entry) {
    return entry.second.order.empty() ? time_point::min() : entry.second.order.back().first;
  };
  senders_.erase(std::min_element(senders_.begin(), senders_.end(),
                                  [&](const auto& a, const auto& b) { return last_word(a) < last_word(b); }));
}

void lives::message(const person_key& who, std::uint32_t number) {
  if (number == 0) return;  // below every other: nothing to compare with
  std::uint32_t& last = last_message_[who];
  last = std::max(last, number);
  if (last_message_.size() > clients_max) last_message_.erase(last_message_.begin());
}

bool lives::begins(const person_key& who, std::uint32_t number) {
  const auto known = last_message_.find(who);
  if (known == last_message_.end() || number > known->second) return false;
  last_message_.erase(known);
  return true;
}

}  // namespace pigeon::office
