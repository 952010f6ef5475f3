#include <pigeon/serve/people_desk.hpp>

#include <algorithm>
#include <utility>

namespace pigeon::serve {

namespace {

constexpr std::size_t finished_max = 4096;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// The text as a person shall see it: files cannot be fetched yet, so at least their names.
std::string text_with_files(const wire::text_message& what) {
  std::string text = what.text;
  for (const std::string& name : what.files) text += (text.empty() ? "" : "\n") + ("[file offered: " + name + "]");
  return text;
}

}  // namespace

// A datagram that was understood, and all that goes with it.
struct people_desk::heard {
  wire::datagram what;
  office::person_key key;
  endpoint from;
  moment now;
};

people_desk::people_desk(desk_options options)
    : options_(std::move(options)),
      self_{.user = options_.user, .host = options_.host, .name = options_.user},
      roster_(options_.roster) {}

// ---- from the network

bool people_desk::hear(std::string_view bytes, const endpoint& from, bool own, moment now, desk_outbox& out) {
  const auto packet = wire::parse_packet(bytes);
  if (!packet) return false;
  auto what = wire::understand(*packet);
  if (!what) return false;
  // Whose it is decides how its text is read.
  if (const office::person* known = roster_.find(what->from.key())) what = wire::understand(*packet, known->encoding);
  if (!what) return false;
  heard h{*std::move(what), {}, from, now};
  h.key = h.what.from.key();
  if (is_own(h, own)) return true;
  std::visit([&](const auto& said) { on(h, said, out); }, h.what.what);
  return true;
}

bool people_desk::is_own(const heard& h, bool own_address) const {
  return own_address && h.key == wire::sender{.user = options_.user, .host = options_.host}.key();
}

// All that is known of the sender by now.
office::person people_desk::person_of(const heard& h) const {
  office::person who;
  if (const office::person* known = roster_.find(h.key)) who = *known;
  who.key = h.key;
  if (who.name.empty()) who.name = h.what.from.user;
  who.user = h.what.from.user;
  who.host = h.what.from.host;
  who.address = h.from.address;
  who.port = h.from.port;
  who.encoding = h.what.from.encoding;
  who.here = true;
  who.seen = h.now.unix_time;
  return who;
}

void people_desk::refresh(const office::person& who, bool arrived, moment now, desk_outbox& out) {
  const office::person* const before = roster_.find(who.key);
  const bool returned = arrived || before == nullptr || !before->here;
  if (auto news = roster_.heard(who, now.steady)) out.news.emplace_back(*std::move(news));
  if (returned) {
    courier_.returned(who, now.steady);
  } else {
    courier_.heard(who, now.steady);
  }
}

void people_desk::refresh_if_known(const heard& h, desk_outbox& out) {
  if (roster_.find(h.key) != nullptr) refresh(person_of(h), false, h.now, out);
}

void people_desk::on(const heard& h, const wire::greeting& what, desk_outbox& out) {
  using occasion = wire::greeting::occasion;
  office::person who = person_of(h);
  who.name = what.name;
  who.group = what.group;
  who.away = what.away;
  if (what.why == occasion::arrival && lives_.begins(h.key, h.what.number)) {
    who.life = std::max(h.now.unix_time, who.life + 1);
    confirmations_.forget(h.key);
  }
  // The answer leaves before any message: it makes some clients forget which messages they have seen.
  if (what.why == occasion::arrival) answer(who, h.now, out);
  // Of our names it may know no more than what ASCII has.
  const bool reads_lines = what.can_utf8 && h.what.from.client != wire::client_kind::iptux;
  if (what.why == occasion::answer && !reads_lines && !broadcasts_say_all()) {
    introduce(who, wire::presence::change, h.now, out);
  }
  refresh(who, what.why == occasion::arrival, h.now, out);
}

void people_desk::on(const heard& h, const wire::farewell&, desk_outbox& out) {
  answers_.erase(h.key);
  if (auto news = roster_.left(h.key)) out.news.emplace_back(*std::move(news));
}

void people_desk::on(const heard& h, const wire::text_message& what, desk_outbox& out) {
  const bool stranger = roster_.find(h.key) == nullptr;
  const office::person who = person_of(h);
  lives_.message(h.key, h.what.number);
  refresh(who, false, h.now, out);
  if (stranger && !what.no_add_list) introduce(who, wire::presence::arrival, h.now, out);
  if (what.wants_receipt && confirmations_.is_confirmed(h.key, h.what.number, h.now.steady)) {
    return confirm(who, h.what.number, h.now, out);
  }
  out.news.emplace_back(office::message_in{who, h.what.number, text_with_files(what), what.wants_receipt});
}

void people_desk::on(const heard& h, const wire::receipt& what, desk_outbox& out) {
  refresh_if_known(h, out);
  finish(courier_.acknowledged(h.key, what.packet, h.now.steady), out);
  if (what.wants_answer) {
    const auto who = person_of(h);
    reply(who, wire::format_opened_known(self_, number(h.now), h.what.number, who.encoding), out);
  }
}

void people_desk::on(const heard& h, const wire::question& what, desk_outbox& out) {
  refresh_if_known(h, out);
  const office::person who = person_of(h);
  if (what.about == wire::question::subject::program) {
    reply(who, wire::format_program(self_, number(h.now), options_.program, who.encoding), out);
  } else {
    reply(who, wire::format_absence(self_, number(h.now), {}, who.encoding), out);
  }
}

void people_desk::on(const heard& h, const wire::ignored&, desk_outbox& out) { refresh_if_known(h, out); }

// ---- from store

void people_desk::take(const office::to_people& said, moment now, desk_outbox& out) {
  std::visit([&](const auto& what) { on(what, now, out); }, said);
}

void people_desk::on(const office::own_profile& self, moment now, desk_outbox& out) {
  if (self.name == self_.name && self.group == self_.group) return;
  self_.name = self.name;
  self_.group = self.group;
  if (!ready_) return;
  introduce({}, wire::presence::change, now, out);
  if (broadcasts_say_all()) return;
  for (const office::person& who : roster_.people()) {
    if (who.here) introduce(who, wire::presence::change, now, out);
  }
}

void people_desk::on(const office::message_out& message, moment now, desk_outbox& out) {
  // Store had it on its way to us when we told that it is done: sent once more, some clients would show it twice.
  if (const auto done = finished_.find(message.id); done != finished_.end()) {
    out.news.emplace_back(done->second);
    return;
  }
  office::message_out addressed = message;
  if (const office::person* known = roster_.find(message.to.key)) addressed.to = *known;
  courier_.submit(std::move(addressed), now.steady);
}

void people_desk::on(const office::receipt_due& receipt, moment now, desk_outbox& out) {
  confirmations_.confirm(receipt.to.key, receipt.packet, now.steady);
  confirm(receipt.to, receipt.packet, now, out);
}

void people_desk::on(const office::person_known& known, moment, desk_outbox&) {
  roster_.known(known.who);
  lives_.message(known.who.key, known.last_packet);
}

void people_desk::on(const office::everybody_known& all, moment now, desk_outbox& out) {
  last_number_ = std::max(last_number_, all.last_own_packet);
  if (std::exchange(ready_, true)) return;
  announce(now, out);
}

// ---- with time

void people_desk::due(moment now, desk_outbox& out) {
  if (!ready_) return;
  for (auto it = answers_.begin(); it != answers_.end();) {
    if (it->second.due > now.steady) {
      ++it;
      continue;
    }
    introduce(it->second.to, wire::presence::answer, now, out);
    it = answers_.erase(it);
  }
  const auto parcels = courier_.due(now.steady);
  for (const auto& parcel : parcels.parcels) {
    std::string bytes = wire::format_text(self_, parcel.packet, parcel.text, parcel.to.encoding);
    // Who spoke from an odd port most likely listens there; if not, at the usual one.
    if (parcel.again) {
      reply(parcel.to, std::move(bytes), out);
    } else {
      out.letters.push_back({{parcel.to.address, parcel.to.port}, std::move(bytes)});
    }
  }
  for (const auto& who : parcels.silent) roster_.doubt(who, now.steady);
  const auto rounds = roster_.due(now.steady);
  for (const auto& who : rounds.probes) introduce(who, wire::presence::arrival, now, out);
  for (const auto& news : rounds.gone) out.news.emplace_back(news);
}

std::optional<people_desk::time_point> people_desk::next_due() const {
  if (!ready_) return std::nullopt;
  std::optional<time_point> earliest;
  const auto consider = [&](std::optional<time_point> other) {
    if (other && (!earliest || *other < *earliest)) earliest = other;
  };
  consider(courier_.next_due());
  consider(roster_.next_due());
  for (const auto& [key, answer] : answers_) consider(answer.due);
  return earliest;
}

void people_desk::announce(moment now, desk_outbox& out) { introduce({}, wire::presence::arrival, now, out); }

void people_desk::leave(moment now, desk_outbox& out) {
  if (ready_) introduce({}, wire::presence::leaving, now, out);
}

// ---- what we say

void people_desk::answer(const office::person& to, moment now, desk_outbox& out) {
  const auto delay = roster_.answer_delay(random_);
  if (delay.count() == 0) return introduce(to, wire::presence::answer, now, out);
  const auto [waiting, fresh] = answers_.try_emplace(to.key, delayed_answer{now.steady + delay, to});
  if (!fresh) waiting->second.to = to;
}

// To nobody in particular: to everybody.
void people_desk::introduce(const office::person& to, wire::presence what, moment now, desk_outbox& out) {
  if (to.key.empty()) {
    out.letters.push_back({{"", options_.port}, wire::format_broadcast(self_, number(now), what)});
  } else {
    reply(to, wire::format_greeting(self_, number(now), what, to.encoding), out);
  }
}

void people_desk::confirm(const office::person& to, std::uint32_t packet, moment now, desk_outbox& out) {
  reply(to, wire::format_receipt(self_, number(now), packet, to.encoding), out);
}

void people_desk::finish(const std::optional<office::message_outcome>& outcome, desk_outbox& out) {
  if (!outcome) return;
  finished_[outcome->id] = *outcome;
  if (finished_.size() > finished_max) finished_.erase(finished_.begin());  // ids rise with time
  out.news.emplace_back(*outcome);
}

// To the port that it came from, and where all clients listen: some only there.
void people_desk::reply(const office::person& to, std::string bytes, desk_outbox& out) const {
  if (to.port != options_.port) out.letters.push_back({{to.address, options_.port}, bytes});
  out.letters.push_back({{to.address, to.port}, std::move(bytes)});
}

bool people_desk::broadcasts_say_all() const { return is_ascii(self_.name) && is_ascii(self_.group); }

// They rise for ever: some clients take a lower number for an old packet.
std::uint32_t people_desk::number(moment now) {
  last_number_ = std::max(last_number_ + 1, static_cast<std::uint32_t>(now.unix_time / 1000));
  return last_number_;
}

}  // namespace pigeon::serve
