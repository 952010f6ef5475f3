#include <pigeon/office/hub.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <utility>

#include <pigeon/office/text.hpp>

namespace pigeon::office {
namespace {

constexpr std::size_t name_bytes_max = 100;
constexpr std::size_t field_bytes_max = 200;
constexpr std::size_t ref_bytes_max = 200;
constexpr std::size_t key_bytes_max = 400;
constexpr std::size_t candidates_max = 5;
constexpr std::uint32_t page_messages_max = 500;
constexpr unix_ms seen_resolution = 60'000;
constexpr unix_ms request_memory = 30LL * 24 * 60 * 60 * 1000;

unix_ms system_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || is_control(c); };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// What somebody typed, fit for a sentence: short, and on one line.
std::string quoted(std::string_view typed) {
  std::string shown(wire::clip_utf8(typed, 60));
  const bool whole = shown.size() == typed.size();
  std::replace_if(shown.begin(), shown.end(), is_control, ' ');
  return "“" + shown + (whole ? "" : "…") + "”";
}

// A datagram has room for names that would fill a page; thousands of people with such names would fill the memory.
person clipped(person who) {
  for (std::string* field : {&who.name, &who.group, &who.user, &who.host, &who.address}) {
    field->resize(wire::clip_utf8(*field, field_bytes_max).size());
  }
  return who;
}

// Whether anything is new besides the time.
bool differs(const person& a, const person& b) {
  return a.name != b.name || a.group != b.group || a.user != b.user || a.host != b.host || a.address != b.address ||
         a.port != b.port || a.encoding != b.encoding || a.here != b.here || a.away != b.away || a.life < b.life;
}

bool is_back(const person& before, const person& now) { return now.here && !now.away && (!before.here || before.away); }

// A key that other people's tables and our sentences can bear.
bool is_sound(const person& who) {
  return !who.key.empty() && who.key.size() <= key_bytes_max &&
         std::none_of(who.key.begin(), who.key.end(), is_control);
}

std::uint32_t packets_for(std::string_view text) { return static_cast<std::uint32_t>(pieces_of(text).size()); }

message_out outgoing(const person& to, message what) {
  return {.id = what.id, .packet = what.packet, .to = to, .text = std::move(what.text)};
}

std::string sentence_of_candidates(std::string_view name, const std::vector<person>& found) {
  std::string sentence = quoted(name) + " may be ";
  const std::size_t shown = std::min(found.size(), candidates_max);
  for (std::size_t i = 0; i < shown; ++i) {
    if (i > 0) sentence += i + 1 == found.size() ? " or " : ", ";
    sentence += found[i].key;
    if (!found[i].address.empty()) sentence += " (" + found[i].address + ")";
  }
  if (shown < found.size()) sentence += " or others";
  return sentence + "; say which.";
}

}  // namespace

// Whom a request means, or why that is not clear.
struct hub::target {
  std::optional<person> who;
  std::string objection;
};

hub::hub(store& kept, std::function<unix_ms()> clock)
    : store_(kept), clock_(clock ? std::move(clock) : std::function<unix_ms()>(system_time)) {}

result<void> hub::introduce(const own_profile& given) {
  const auto take = [&](const std::string& setting, const std::string& value) -> result<void> {
    const std::string argument = setting + " given";
    COVEY_TRY(const auto last, store_.setting(argument));
    if (value.empty() || last == value) return {};
    COVEY_TRY_VOID(store_.put_setting(argument, value));
    return store_.put_setting(setting, value);
  };
  COVEY_TRY(auto batch, store_.begin());
  COVEY_TRY_VOID(take("name", std::string(trimmed(given.name))));
  COVEY_TRY_VOID(take("group", std::string(trimmed(given.group))));
  return batch.commit();
}

result<void> hub::started(outbox& out) {
  COVEY_TRY_VOID(store_.forget_requests(clock_() - request_memory));
  COVEY_TRY(own_profile self, profile());
  out.people.emplace_back(std::move(self));
  COVEY_TRY(const auto awaited, store_.people_awaited());
  for (const person& who : awaited) COVEY_TRY_VOID(send_window(who, out));
  return on(web_started{}, out);
}

result<void> hub::handle(const to_store& what, outbox& out) {
  return std::visit([&](const auto& message) { return on(message, out); }, what);
}

result<void> hub::batch_in_one_transaction(std::span<const to_store> batch, outbox& out) {
  COVEY_TRY(auto transaction, store_.begin());
  for (const to_store& what : batch) COVEY_TRY_VOID(handle(what, out));
  return transaction.commit();
}

result<void> hub::handle_all(std::span<const to_store> batch, outbox& out) {
  if (batch.empty()) return {};
  outbox collected;
  result<void> done = batch_in_one_transaction(batch, collected);
  if (!done && batch.size() > 1) {
    collected = {};
    done = {};
    for (const to_store& what : batch) {
      if (auto one = handle_all({&what, 1}, collected); !one) done = std::move(one).error();
    }
  } else if (!done) {
    collected = {};
    const std::string why = "Not done: " + done.error().message() + ".";
    if (const auto* text = std::get_if<send_text>(&batch[0]))
      collected.web.emplace_back(request_failed{text->ref, why});
    if (const auto* page = std::get_if<history_wanted>(&batch[0])) {
      collected.web.emplace_back(request_failed{page->ref, why});
    }
    if (std::holds_alternative<rename_self>(batch[0])) collected.web.emplace_back(request_failed{"", why});
  }
  std::move(collected.people.begin(), collected.people.end(), std::back_inserter(out.people));
  std::move(collected.web.begin(), collected.web.end(), std::back_inserter(out.web));
  return done;
}

// ---- people → store

result<void> hub::on(const people_started&, outbox& out) {
  COVEY_TRY(own_profile self, profile());
  out.people.emplace_back(std::move(self));
  COVEY_TRY(const auto gone, store_.empty_the_house());
  for (const person& who : gone) COVEY_TRY_VOID(tell_web(who, out));
  COVEY_TRY(auto known, store_.people());
  for (person_entry& entry : known) {
    COVEY_TRY(const std::uint32_t last, store_.last_incoming(entry.who.key));
    out.people.emplace_back(person_known{std::move(entry.who), last});
  }
  COVEY_TRY(const std::uint32_t last_own, store_.last_outgoing());
  out.people.emplace_back(everybody_known{last_own});
  COVEY_TRY(const auto awaited, store_.people_awaited());
  for (const person& who : awaited) COVEY_TRY_VOID(send_window(who, out));
  return {};
}

result<void> hub::on(const person_seen& seen, outbox& out) {
  if (!is_sound(seen.who)) return {};
  const person now = clipped(seen.who);
  COVEY_TRY(const auto before, store_.find_person(now.key));
  const bool changed = !before || differs(*before, now);
  if (!changed && now.seen - before->seen < seen_resolution) return {};
  COVEY_TRY_VOID(store_.put_person(now));
  if (changed) COVEY_TRY_VOID(tell_web(now, out));
  if (before && is_back(*before, now)) return send_window(now, out);
  return {};
}

result<void> hub::on(const message_in& in, outbox& out) {
  // Longer than any datagram: not from our people service. Left without a receipt.
  if (!is_sound(in.from) || in.text.size() > text_bytes_max) return {};
  COVEY_TRY(const auto known, store_.find_person(in.from.key));
  if (!known || in.from.life > known->life) {
    COVEY_TRY_VOID(on(person_seen{in.from}, out));
  } else if (in.from.life != 0 && in.from.life < known->life) {
    // Said in an earlier life, so this is a redelivery, and most likely of what was committed in that life.
    COVEY_TRY(auto earlier, store_.find_incoming(in.from.key, in.packet, in.text));
    if (earlier) return answer(in, *std::move(earlier), out);
  }
  COVEY_TRY(auto stored, store_.put_incoming(in.from.key, in.packet, in.text, clock_()));
  return answer(in, std::move(stored.what), out);
}

result<void> hub::answer(const message_in& in, message stored, outbox& out) {
  if (in.wants_receipt) out.people.emplace_back(receipt_due{in.from, in.packet});
  return tell_web(std::move(stored), {}, out);
}

result<void> hub::on(const message_outcome& outcome, outbox& out) {
  COVEY_TRY(const bool news, store_.put_outcome(outcome.id, outcome.state, outcome.reason));
  COVEY_TRY(auto what, store_.find_message(outcome.id));
  if (!what || !what->outgoing || what->state == message_state::waiting) return {};
  if (news) {  // The next one that waits moves into the window; after a redelivery started() has sent the window.
    COVEY_TRY(const auto who, store_.find_person(what->who));
    if (who) COVEY_TRY_VOID(send_last_of_window(*who, out));
  }
  return tell_web(*std::move(what), {}, out);
}

// ---- web → store

result<void> hub::on(const web_started&, outbox& out) {
  COVEY_TRY(own_profile self, profile());
  COVEY_TRY(auto people, store_.people());
  out.web.emplace_back(office_snapshot{std::move(self), std::move(people)});
  return {};
}

result<void> hub::on(const send_text& request, outbox& out) {
  if (request.ref.size() > ref_bytes_max) {
    out.web.emplace_back(request_failed{request.ref, "A reference has at most 200 bytes."});
    return {};
  }
  if (!request.ref.empty()) {
    COVEY_TRY(const auto known, store_.find_request(request.ref));
    if (known) return answer_again(request, *known, out);
  }
  COVEY_TRY(const target to, resolve(request.to));
  COVEY_TRY(std::string sentence, objection(request, to));
  if (!sentence.empty()) return refuse(request, std::move(sentence), out);
  COVEY_TRY(message made, store_.put_outgoing(to.who->key, request.text, packets_for(request.text), clock_()));
  if (!request.ref.empty()) COVEY_TRY_VOID(store_.put_request(request.ref, request.to, made.id, clock_()));
  COVEY_TRY_VOID(tell_web(made, request.ref, out));
  COVEY_TRY(const std::int64_t waiting, store_.waiting_count(to.who->key));
  if (waiting <= static_cast<std::int64_t>(window_messages_max)) {
    out.people.emplace_back(outgoing(*to.who, std::move(made)));
  }
  return {};
}

result<void> hub::on(const history_wanted& request, outbox& out) {
  COVEY_TRY(target to, resolve(request.who));
  if (!to.who) {
    out.web.emplace_back(request_failed{request.ref, std::move(to.objection)});
    return {};
  }
  const std::uint32_t limit = std::clamp(request.limit, std::uint32_t{1}, page_messages_max);
  COVEY_TRY(auto page, store_.history(to.who->key, request.before, limit));
  out.web.emplace_back(history_page{request.ref, *std::move(to.who), std::move(page.messages), page.more});
  return {};
}

result<void> hub::on(const mark_read& request, outbox& out) {
  COVEY_TRY(const std::uint32_t marked, store_.mark_read(request.who, request.up_to));
  if (marked == 0) return {};
  COVEY_TRY(const auto who, store_.find_person(request.who));
  if (!who) return {};
  return tell_web(*who, out);
}

result<void> hub::on(const rename_self& request, outbox& out) {
  const std::string name(trimmed(request.name));
  if (name.empty() || name.size() > name_bytes_max || std::any_of(name.begin(), name.end(), is_control)) {
    out.web.emplace_back(request_failed{"", "A name has 1 to 100 bytes on one line."});
    return {};
  }
  COVEY_TRY_VOID(store_.put_setting("name", name));
  COVEY_TRY(const own_profile self, profile());
  out.people.emplace_back(self);
  out.web.emplace_back(self);
  return {};
}

// ---- helpers

result<own_profile> hub::profile() {
  COVEY_TRY(auto name, store_.setting("name"));
  COVEY_TRY(auto group, store_.setting("group"));
  return own_profile{std::move(name).value_or("pigeon"), std::move(group).value_or("")};
}

result<hub::target> hub::resolve(std::string_view who) {
  const std::string_view name = trimmed(who);
  if (name.empty()) return target{{}, "Nobody was named."};
  std::string key(name);
  std::transform(key.begin(), key.end(), key.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  COVEY_TRY(auto known, store_.find_person(key));
  if (!known && key != name) {
    COVEY_TRY(known, store_.find_person(name));
  }
  if (known) return target{std::move(known), {}};
  COVEY_TRY(auto found, store_.people_called(name, candidates_max + 1));
  // Of Ann and ann, the one who is spelled as asked for.
  const auto exact = [&](const person& p) { return p.name == name; };
  if (std::count_if(found.begin(), found.end(), exact) == 1) {
    return target{*std::find_if(found.begin(), found.end(), exact), {}};
  }
  if (found.size() == 1) return target{std::move(found[0]), {}};
  if (found.empty()) return target{{}, "Nobody known is called " + quoted(name) + "."};
  return target{{}, sentence_of_candidates(name, found)};
}

// Why the request cannot be done, or nothing.
result<std::string> hub::objection(const send_text& request, const target& to) {
  if (!to.who) return to.objection;
  if (trimmed(request.text).empty()) return std::string("An empty message is not sent.");
  if (request.text.size() > text_bytes_max) return std::string("The text is longer than 1 MiB; send it as a file.");
  COVEY_TRY(const std::int64_t waiting, store_.waiting_count(to.who->key));
  if (waiting < waiting_messages_max) return std::string();
  return std::to_string(waiting) + " messages already wait for " + quoted(to.who->name) + "; no more are taken.";
}

result<void> hub::answer_again(const send_text& request, const store::request& known, outbox& out) {
  const bool same = known.to == request.to && (!known.answered || known.answered->text == request.text);
  if (!same || !known.answered) {
    out.web.emplace_back(
        request_failed{request.ref, same ? known.failure : "The reference was used for another message before."});
    return {};
  }
  return tell_web(*known.answered, request.ref, out);
}

result<void> hub::refuse(const send_text& request, std::string sentence, outbox& out) {
  if (!request.ref.empty()) COVEY_TRY_VOID(store_.put_request(request.ref, request.to, sentence, clock_()));
  out.web.emplace_back(request_failed{request.ref, std::move(sentence)});
  return {};
}

result<void> hub::tell_web(const person& who, outbox& out) {
  COVEY_TRY(const std::uint32_t unread, store_.unread(who.key));
  out.web.emplace_back(person_changed{{who, unread}});
  return {};
}

result<void> hub::tell_web(message what, std::string ref, outbox& out) {
  COVEY_TRY(const std::uint32_t unread, store_.unread(what.who));
  out.web.emplace_back(message_changed{std::move(what), std::move(ref), unread});
  return {};
}

// The oldest messages that wait for `to`, as many as the people service has in hand. It knows those that it has.
result<void> hub::send_window(const person& to, outbox& out) {
  COVEY_TRY(auto waiting, store_.waiting(to.key, window_messages_max));
  for (message& what : waiting) out.people.emplace_back(outgoing(to, std::move(what)));
  return {};
}

result<void> hub::send_last_of_window(const person& to, outbox& out) {
  COVEY_TRY(auto last, store_.waiting(to.key, 1, window_messages_max - 1));
  for (message& what : last) out.people.emplace_back(outgoing(to, std::move(what)));
  return {};
}

}  // namespace pigeon::office
