#include <pigeon/serve/web_server_hub.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include <pigeon/serve/json.hpp>
#include <pigeon/serve/page.hpp>

namespace pigeon::serve::detail {

namespace {

// Neither can be the ref of a client, which always has a ':'.
const std::string snapshot_ref = "snapshot";
// Neither can be the name of a client, which never has a '.'.
const std::string api_client = ".api";

constexpr std::size_t pages_wanted_max = 64;
constexpr std::size_t client_name_max = 64;

frame frame_of(const nlohmann::json& value) { return std::make_shared<const std::string>(text_of(value)); }

frame frame_of(const office::to_web& news) { return frame_of(as_json(news)); }

struct split_ref {
  std::string client;
  std::string ref;
};

split_ref split(const std::string& full) {
  const auto colon = full.find(':');
  if (colon == std::string::npos) return {"", full};
  return {full.substr(0, colon), full.substr(colon + 1)};
}

std::string* ref_of(office::to_store& request) {
  if (auto* send = std::get_if<office::send_text>(&request)) return &send->ref;
  if (auto* history = std::get_if<office::history_wanted>(&request)) return &history->ref;
  return nullptr;
}

const std::string* ref_of(const office::to_web& news) {
  if (const auto* message = std::get_if<office::message_changed>(&news)) return &message->ref;
  if (const auto* page = std::get_if<office::history_page>(&news)) return &page->ref;
  if (const auto* failure = std::get_if<office::request_failed>(&news)) return &failure->ref;
  if (std::holds_alternative<office::office_snapshot>(news)) return &snapshot_ref;
  return nullptr;
}

office::to_web with_own_ref(office::to_web news) {
  if (auto* message = std::get_if<office::message_changed>(&news)) message->ref = split(message->ref).ref;
  if (auto* page = std::get_if<office::history_page>(&news)) page->ref = split(page->ref).ref;
  if (auto* failure = std::get_if<office::request_failed>(&news)) failure->ref = split(failure->ref).ref;
  return news;
}

bool name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

}  // namespace

void hub::join(outlet& client) {
  outlets_.insert(&client);
  if (const auto greeting = hello()) client.push(std::make_shared<const std::string>(*greeting));
}

void hub::leave(outlet& client) noexcept { outlets_.erase(&client); }

void hub::hear(outlet& from, std::string_view text) {
  client_request request = parse_client(text);
  if (std::holds_alternative<client_ping>(request)) return from.push(frame_of({{"type", "pong"}}));
  if (auto* refusal = std::get_if<office::request_failed>(&request))
    return from.push(frame_of(office::to_web(std::move(*refusal))));
  auto& wanted = std::get<office::to_store>(request);
  if (std::string* ref = ref_of(wanted)) {
    const bool page = std::holds_alternative<office::history_wanted>(wanted);
    if (page && from.pages_wanted_.size() >= pages_wanted_max) from.pages_wanted_.clear();
    if (page) from.pages_wanted_.insert(*ref);
    ref->insert(0, from.client_ + ":");
  }
  on_request_(std::move(wanted));
}

void hub::deliver(office::to_web news) {
  remember(news);
  spread(news);
  const std::string* found = ref_of(news);
  if (found == nullptr) return;
  const std::string ref = *found;
  answer_questions(ref, with_own_ref(std::move(news)));
}

std::uint64_t hub::ask(office::to_store request, answer_sink then) {
  std::string* ref = ref_of(request);
  if (ref != nullptr) ref->insert(0, api_client + ":");
  questions_[++last_question_] = {ref == nullptr ? "" : *ref, std::move(then)};
  on_request_(std::move(request));
  return last_question_;
}

std::uint64_t hub::await_snapshot(answer_sink then) {
  questions_[++last_question_] = {snapshot_ref, std::move(then)};
  return last_question_;
}

void hub::forget(std::uint64_t number) noexcept { questions_.erase(number); }

std::optional<std::string> hub::hello() const {
  if (!known_) return std::nullopt;
  office::office_snapshot all{self_, {}};
  all.people.reserve(people_.size());
  for (const auto& [key, entry] : people_) all.people.push_back(entry);
  nlohmann::json greeting = as_json(office::to_web(std::move(all)));
  greeting["page"] = page_version();  // a page that was loaded from an older program loads itself again
  return text_of(greeting);
}

void hub::remember(const office::to_web& news) {
  if (const auto* all = std::get_if<office::office_snapshot>(&news)) {
    known_ = true;
    self_ = all->self;
    people_.clear();
    for (const auto& entry : all->people) people_[entry.who.key] = entry;
  }
  if (const auto* self = std::get_if<office::own_profile>(&news)) self_ = *self;
  if (const auto* person = std::get_if<office::person_changed>(&news)) people_[person->entry.who.key] = person->entry;
  if (const auto* message = std::get_if<office::message_changed>(&news))
    if (const auto found = people_.find(message->what.who); found != people_.end())
      found->second.unread = message->unread;
}

void hub::spread(const office::to_web& news) {
  if (const auto* page = std::get_if<office::history_page>(&news)) return answer_pages(*page);
  if (const auto* failure = std::get_if<office::request_failed>(&news)) return answer_failure(*failure);
  if (!known_) return;  // the greeting to come will contain it
  if (const auto* message = std::get_if<office::message_changed>(&news)) return spread_message(*message);
  const bool greets = std::holds_alternative<office::office_snapshot>(news);
  const frame text = greets ? std::make_shared<const std::string>(*hello()) : frame_of(news);
  for (outlet* each : outlets_) each->push(text);
}

// All see the message, but only the client that wrote it knows its ref.
void hub::spread_message(const office::message_changed& news) {
  const auto [client, ref] = split(news.ref);
  const frame plain = frame_of(office::to_web(office::message_changed{news.what, "", news.unread}));
  const frame own =
      ref.empty() ? plain : frame_of(office::to_web(office::message_changed{news.what, ref, news.unread}));
  for (outlet* each : outlets_) each->push(each->client_ == client ? own : plain);
}

void hub::answer_pages(const office::history_page& news) {
  const auto [client, ref] = split(news.ref);
  const frame text = frame_of(with_own_ref(news));
  for (outlet* each : outlets_)
    if (each->client_ == client && each->pages_wanted_.erase(ref) > 0) each->push(text);
}

void hub::answer_failure(const office::request_failed& news) {
  const auto [client, ref] = split(news.ref);
  const frame text = frame_of(with_own_ref(news));
  for (outlet* each : outlets_) {
    if (each->client_ != client) continue;
    each->pages_wanted_.erase(ref);
    each->push(text);
  }
}

void hub::answer_questions(const std::string& ref, const office::to_web& news) {
  for (auto it = questions_.begin(); it != questions_.end();) {
    if (ref.empty() || it->second.ref != ref) {
      ++it;
      continue;
    }
    const answer_sink then = std::move(it->second.then);
    it = questions_.erase(it);
    then(news);
  }
}

std::string client_name_from(std::string_view chosen) {
  const bool usable =
      !chosen.empty() && chosen.size() <= client_name_max && std::all_of(chosen.begin(), chosen.end(), name_character);
  if (usable) return std::string(chosen);
  std::random_device source;
  std::string name = "anonymous.";  // the '.' keeps it apart from chosen names
  for (int i = 0; i < 4; ++i) name += std::to_string(source()) + "-";
  return name;
}

}  // namespace pigeon::serve::detail
