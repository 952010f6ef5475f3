#include <pigeon/office/store.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <limits>

#include <covey/base/check.hpp>
#include <covey/base/unique_fd.hpp>
#include <pigeon/office/sqlite.hpp>

namespace pigeon::office {
namespace {

using detail::cursor;
using detail::database;

constexpr std::int64_t people_max = 5000;
constexpr std::size_t page_bytes_max = std::size_t{4} << 20;
constexpr unix_ms retry_window = 10 * 60 * 1000;
constexpr std::uint32_t unix_time_like = 1'000'000'000;  // September 2001: no client that counts from 1 gets here.

// Each entry leads to the next schema version; an entry that has been released never changes. Columns are read by
// position, so a later entry adds them at the end. States and encodings are the numbers of the enums in messages.hpp.
constexpr std::array schema_steps = {
    R"(
CREATE TABLE settings(
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE people(
  key      TEXT PRIMARY KEY,
  name     TEXT NOT NULL,
  "group"  TEXT NOT NULL,
  user     TEXT NOT NULL,
  host     TEXT NOT NULL,
  address  TEXT NOT NULL,
  port     INTEGER NOT NULL,
  encoding INTEGER NOT NULL,
  here     INTEGER NOT NULL,
  away     INTEGER NOT NULL,
  seen     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE messages(
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  who      TEXT NOT NULL REFERENCES people(key),
  outgoing INTEGER NOT NULL,
  packet   INTEGER NOT NULL,
  text     TEXT NOT NULL,
  time     INTEGER NOT NULL,
  state    INTEGER NOT NULL,
  read     INTEGER NOT NULL,
  reason   TEXT NOT NULL
) STRICT;
CREATE INDEX messages_by_person ON messages(who, id);
CREATE INDEX messages_waiting ON messages(who, id) WHERE state = 1;
CREATE INDEX messages_unread ON messages(who, id) WHERE outgoing = 0 AND read = 0;

-- Which message a sender's packet number stands for: that is what a receipt confirms.
CREATE TABLE receipts(
  who     TEXT NOT NULL REFERENCES people(key),
  packet  INTEGER NOT NULL,
  message INTEGER NOT NULL REFERENCES messages(id),
  PRIMARY KEY(who, packet)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests(
  ref       TEXT PRIMARY KEY,
  recipient TEXT NOT NULL,
  message   INTEGER REFERENCES messages(id),
  failure   TEXT NOT NULL,
  time      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)",
    "ALTER TABLE people ADD COLUMN life INTEGER NOT NULL DEFAULT 0;",
};

class store_error_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "store"; }
  std::string message(int code) const override {
    switch (static_cast<store_errc>(code)) {
      case store_errc::read_only: return "it cannot be written; make it writable or choose another data folder";
      case store_errc::full: return "the disk is full; nothing stored is lost, free some space and try again";
      case store_errc::damaged: return "move it away and start again, or restore a copy";
      case store_errc::newer: return "a newer pigeon wrote it; use that one, or another data folder";
      case store_errc::in_use: return "another office uses it; stop that one, or choose another data folder";
      case store_errc::exhausted: return "no packet number is left";
    }
    return "unknown error";
  }
};

// The present errno, about `folder`.
covey::error folder_error(const std::string& folder) {
  const std::error_code reason(errno, std::system_category());
  const std::string context = "data folder " + folder + " (" + reason.message() + ")";
  if (reason == std::errc::no_space_on_device) return {store_errc::full, context};
  if (reason == std::errc::permission_denied || reason == std::errc::read_only_file_system ||
      reason == std::errc::operation_not_permitted) {
    return {store_errc::read_only, context};
  }
  return {reason, "open data folder " + folder};
}

result<void> make_folder(const std::string& folder) {
  std::error_code failed;
  if (std::filesystem::is_directory(folder, failed)) return {};
  const auto parent = std::filesystem::absolute(folder, failed).lexically_normal().parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, failed);  // mkdir tells what failed here.
  if (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return folder_error(folder);
}

// Opens DATA/NAME, made with mode 0600 if it is missing.
result<covey::unique_fd> open_private(const std::string& folder, const char* name) {
  const std::string path = folder + "/" + name;
  covey::unique_fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return folder_error(folder);
  return fd;
}

std::string holder(int lock) {
  std::array<char, 16> words{};
  const ssize_t size = ::pread(lock, words.data(), words.size(), 0);
  const std::string pid(words.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  return pid.empty() ? "" : " (process " + pid + ")";
}

// The lock is the kernel's, so it goes with the process, however that ends; the process id in the file is for people.
result<covey::unique_fd> lock_folder(const std::string& folder) {
  COVEY_TRY(covey::unique_fd lock, open_private(folder, "lock"));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return folder_error(folder);
    return covey::error{store_errc::in_use, "data folder " + folder + holder(lock.get())};
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(lock.get(), 0) != 0) return folder_error(folder);
  (void)!::pwrite(lock.get(), pid.data(), pid.size(), 0);  // A full disk costs only the hint.
  return lock;
}

result<void> make_file(const std::string& folder) {
  COVEY_TRY(const covey::unique_fd file, open_private(folder, "office.db"));
  const covey::unique_fd entry(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!entry || ::fsync(entry.get()) != 0) return folder_error(folder);
  return {};
}

result<void> quick_check(database& db) {
  COVEY_TRY(cursor rows, db.query("PRAGMA quick_check(1)"));
  COVEY_TRY(const bool found, rows.next());
  std::string verdict = found ? rows.text(0) : "no answer";
  if (verdict == "ok") return {};
  std::replace(verdict.begin(), verdict.end(), '\n', ' ');
  return covey::error{store_errc::damaged, db.path() + " is damaged (" + verdict + ")"};
}

result<database> open_database(const std::string& folder) {
  COVEY_TRY_VOID(make_file(folder));
  COVEY_TRY(database db, database::open(folder + "/office.db"));
  COVEY_TRY_VOID(db.script("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON"));
  COVEY_TRY_VOID(quick_check(db));
  COVEY_TRY_VOID(db.script("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"));
  COVEY_TRY_VOID(detail::migrate(db, schema_steps));
  return db;
}

// A row of `people`, whose first column is column `first`.
person read_person(const cursor& row, int first = 0) {
  return {
      .key = row.text(first),
      .name = row.text(first + 1),
      .group = row.text(first + 2),
      .user = row.text(first + 3),
      .host = row.text(first + 4),
      .address = row.text(first + 5),
      .port = static_cast<std::uint16_t>(row.integer(first + 6)),
      .encoding = static_cast<text_encoding>(row.integer(first + 7)),
      .here = row.integer(first + 8) != 0,
      .away = row.integer(first + 9) != 0,
      .seen = row.integer(first + 10),
      .life = row.integer(first + 11),
  };
}

// A row of `messages`.
message read_message(const cursor& row) {
  return {
      .id = row.integer(0),
      .who = row.text(1),
      .outgoing = row.integer(2) != 0,
      .packet = static_cast<std::uint32_t>(row.integer(3)),
      .text = row.text(4),
      .time = row.integer(5),
      .state = static_cast<message_state>(row.integer(6)),
      .read = row.integer(7) != 0,
      .reason = row.text(8),
  };
}

template <class Read>
auto read_all(result<cursor> rows, Read read) -> result<std::vector<decltype(read(*rows))>> {
  if (!rows) return std::move(rows).error();
  std::vector<decltype(read(*rows))> all;
  while (true) {
    COVEY_TRY(const bool found, rows->next());
    if (!found) return all;
    all.push_back(read(*rows));
  }
}

template <class Read>
auto read_one(result<cursor> rows, Read read) -> result<std::optional<decltype(read(*rows))>> {
  if (!rows) return std::move(rows).error();
  COVEY_TRY(const bool found, rows->next());
  if (!found) return std::optional<decltype(read(*rows))>();
  return std::optional(read(*rows));
}

constexpr auto as_person = [](const cursor& row) { return read_person(row); };
constexpr auto as_message = [](const cursor& row) { return read_message(row); };

int progress(message_state state) {
  switch (state) {
    case message_state::failed: return 1;
    case message_state::delivered: return 2;
    default: return 0;
  }
}

bool is_same_message(const message& stored, std::uint32_t packet, std::string_view text, unix_ms now) {
  if (std::max(now, stored.time) - std::min(now, stored.time) < retry_window) return true;
  return packet >= unix_time_like && stored.text == text;
}

}  // namespace

const std::error_category& store_category() noexcept {
  static const store_error_category category;
  return category;
}

std::error_code make_error_code(store_errc code) noexcept { return {static_cast<int>(code), store_category()}; }

struct store::impl {
  covey::unique_fd lock;  // Released last.
  database db;

  result<void> begin() { return db.run("BEGIN IMMEDIATE"); }

  result<void> commit() {
    auto done = db.run("COMMIT");
    if (!done) db.rollback();
    return done;
  }

  // Several statements together or not at all: inside the open transaction, or in one of their own.
  template <class Work>
  auto together(Work work) -> decltype(work()) {
    if (db.in_transaction()) return work();
    COVEY_TRY_VOID(begin());
    auto done = work();
    if (!done) {
      db.rollback();
      return done;
    }
    COVEY_TRY_VOID(commit());
    return done;
  }

  // Room for one more person.
  result<void> forget_a_stranger() {
    COVEY_TRY(const auto count, db.integer("SELECT count(*) FROM people"));
    if (count.value_or(0) < people_max) return {};
    return db.run(
        "DELETE FROM people WHERE key = (SELECT key FROM people WHERE NOT EXISTS "
        "(SELECT 1 FROM messages WHERE who = people.key) ORDER BY here, seen LIMIT 1)");
  }

  result<std::int64_t> last_packet() {
    COVEY_TRY(const auto last, db.integer("SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'packet'"));
    return last.value_or(0);
  }

  result<std::uint32_t> take_packets(std::uint32_t count, unix_ms now) {
    COVEY_TRY(const std::int64_t last, last_packet());
    const std::int64_t first = std::max(last + 1, now / 1000);
    const std::int64_t next = first + count - 1;
    if (next > std::numeric_limits<std::uint32_t>::max()) return covey::error{store_errc::exhausted, db.path()};
    COVEY_TRY_VOID(db.run("INSERT OR REPLACE INTO settings VALUES('packet', ?)", std::to_string(next)));
    return static_cast<std::uint32_t>(first);
  }

  result<std::int64_t> add(const message& m) {
    COVEY_TRY_VOID(db.run(
        "INSERT INTO messages(who, outgoing, packet, text, time, state, read, reason) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        m.who, m.outgoing, m.packet, m.text, m.time, static_cast<int>(m.state), m.read, m.reason));
    return db.last_id();
  }
};

store::transaction::transaction(transaction&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}

store::transaction::~transaction() {
  if (owner_ != nullptr) owner_->db.rollback();
}

result<void> store::transaction::commit() {
  COVEY_CHECK(owner_ != nullptr, "a transaction is committed once");
  return std::exchange(owner_, nullptr)->commit();
}

store::store(std::unique_ptr<impl> made) noexcept : impl_(std::move(made)) {}
store::store(store&&) noexcept = default;
store& store::operator=(store&&) noexcept = default;
store::~store() = default;

result<store> store::open(const std::string& folder) {
  COVEY_TRY_VOID(make_folder(folder));
  COVEY_TRY(covey::unique_fd lock, lock_folder(folder));
  COVEY_TRY(database db, open_database(folder));
  return store(std::make_unique<impl>(impl{std::move(lock), std::move(db)}));
}

result<store::transaction> store::begin() {
  COVEY_CHECK(!impl_->db.in_transaction(), "one transaction at a time");
  COVEY_TRY_VOID(impl_->begin());
  return transaction(*impl_);
}

result<void> store::put_person(const person& who) {
  return impl_->together([&]() -> result<void> {
    COVEY_TRY(const auto known, find_person(who.key));
    if (!known) COVEY_TRY_VOID(impl_->forget_a_stranger());
    if (known && who.life > known->life) {
      COVEY_TRY_VOID(impl_->db.run("DELETE FROM receipts WHERE who = ?", who.key));
    }
    return impl_->db.run(
        "INSERT INTO people VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(key) DO UPDATE SET "
        "name = excluded.name, \"group\" = excluded.\"group\", user = excluded.user, host = excluded.host, "
        "address = excluded.address, port = excluded.port, encoding = excluded.encoding, "
        "here = excluded.here, away = excluded.away, seen = excluded.seen, life = max(life, excluded.life)",
        who.key, who.name, who.group, who.user, who.host, who.address, who.port, static_cast<int>(who.encoding),
        who.here, who.away, who.seen, who.life);
  });
}

result<std::optional<person>> store::find_person(std::string_view key) {
  return read_one(impl_->db.query("SELECT * FROM people WHERE key = ?", key), as_person);
}

result<std::vector<person>> store::people_called(std::string_view name, std::size_t limit) {
  return read_all(
      impl_->db.query("SELECT * FROM people WHERE name = ? COLLATE NOCASE ORDER BY key LIMIT ?", name, limit),
      as_person);
}

result<std::vector<person_entry>> store::people() {
  auto rows = impl_->db.query(
      "SELECT (SELECT count(*) FROM messages WHERE who = key AND outgoing = 0 AND read = 0), people.* "
      "FROM people ORDER BY key");
  return read_all(std::move(rows), [](const cursor& row) {
    return person_entry{.who = read_person(row, 1), .unread = static_cast<std::uint32_t>(row.integer(0))};
  });
}

result<std::uint32_t> store::unread(const person_key& who) {
  COVEY_TRY(const auto count,
            impl_->db.integer("SELECT count(*) FROM messages WHERE who = ? AND outgoing = 0 AND read = 0", who));
  return static_cast<std::uint32_t>(count.value_or(0));
}

result<std::vector<person>> store::empty_the_house() {
  return impl_->together([&]() -> result<std::vector<person>> {
    COVEY_TRY(auto were_here, read_all(impl_->db.query("SELECT * FROM people WHERE here ORDER BY key"), as_person));
    if (were_here.empty()) return were_here;
    COVEY_TRY_VOID(impl_->db.run("UPDATE people SET here = 0 WHERE here"));
    for (person& who : were_here) who.here = false;
    return were_here;
  });
}

result<store::stored_message> store::put_incoming(const person_key& from, std::uint32_t packet, std::string_view text,
                                                  unix_ms now) {
  return impl_->together([&]() -> result<stored_message> {
    COVEY_TRY(auto known, read_one(impl_->db.query("SELECT messages.* FROM receipts JOIN messages ON id = message "
                                                   "WHERE receipts.who = ? AND receipts.packet = ?",
                                                   from, packet),
                                   as_message));
    if (known && is_same_message(*known, packet, text, now)) return stored_message{*std::move(known), false};
    message made{.who = from, .packet = packet, .text = std::string(text), .time = now};
    COVEY_TRY(made.id, impl_->add(made));
    COVEY_TRY_VOID(impl_->db.run("INSERT OR REPLACE INTO receipts VALUES(?, ?, ?)", from, packet, made.id));
    return stored_message{std::move(made), true};
  });
}

result<std::optional<message>> store::find_incoming(const person_key& from, std::uint32_t packet,
                                                    std::string_view text) {
  return read_one(impl_->db.query("SELECT * FROM messages WHERE who = ? AND outgoing = 0 AND packet = ? AND text = ? "
                                  "ORDER BY id DESC LIMIT 1",
                                  from, packet, text),
                  as_message);
}

result<std::uint32_t> store::last_incoming(const person_key& from) {
  COVEY_TRY(const auto last, impl_->db.integer("SELECT max(packet) FROM receipts WHERE who = ?", from));
  return static_cast<std::uint32_t>(last.value_or(0));
}

result<std::uint32_t> store::last_outgoing() {
  COVEY_TRY(const std::int64_t last, impl_->last_packet());
  return static_cast<std::uint32_t>(last);
}

result<message> store::put_outgoing(const person_key& to, std::string_view text, std::uint32_t packets, unix_ms now) {
  return impl_->together([&]() -> result<message> {
    message made{.who = to, .outgoing = true, .text = std::string(text), .time = now, .state = message_state::waiting};
    COVEY_TRY(made.packet, impl_->take_packets(packets, now));
    COVEY_TRY(made.id, impl_->add(made));
    return made;
  });
}

result<std::optional<message>> store::find_message(std::int64_t id) {
  return read_one(impl_->db.query("SELECT * FROM messages WHERE id = ?", id), as_message);
}

result<bool> store::put_outcome(std::int64_t id, message_state state, std::string_view reason) {
  return impl_->together([&]() -> result<bool> {
    COVEY_TRY(const auto known, find_message(id));
    if (!known || !known->outgoing || progress(state) <= progress(known->state)) return false;
    COVEY_TRY_VOID(impl_->db.run("UPDATE messages SET state = ?, reason = ? WHERE id = ?", static_cast<int>(state),
                                 state == message_state::failed ? reason : std::string_view(), id));
    return true;
  });
}

result<std::int64_t> store::waiting_count(const person_key& who) {
  COVEY_TRY(const auto count, impl_->db.integer("SELECT count(*) FROM messages WHERE who = ? AND state = 1", who));
  return count.value_or(0);
}

result<std::vector<message>> store::waiting(const person_key& who, std::size_t limit, std::size_t skip) {
  return read_all(impl_->db.query("SELECT * FROM messages WHERE who = ? AND state = 1 ORDER BY id LIMIT ? OFFSET ?",
                                  who, limit, skip),
                  as_message);
}

result<std::vector<person>> store::people_awaited() {
  return read_all(impl_->db.query("SELECT * FROM people WHERE EXISTS "
                                  "(SELECT 1 FROM messages WHERE who = key AND state = 1) ORDER BY key"),
                  as_person);
}

result<store::page> store::history(const person_key& who, std::int64_t before, std::size_t limit) {
  const std::int64_t end = before > 0 ? before : std::numeric_limits<std::int64_t>::max();
  COVEY_TRY(cursor rows, impl_->db.query("SELECT * FROM messages WHERE who = ? AND id < ? ORDER BY id DESC", who, end));
  page made;
  for (std::size_t bytes = 0;;) {
    COVEY_TRY(const bool found, rows.next());
    if (!found) break;
    message next = read_message(rows);
    bytes += next.text.size();
    made.more = made.messages.size() == limit || (bytes > page_bytes_max && !made.messages.empty());
    if (made.more) break;
    made.messages.push_back(std::move(next));
  }
  std::reverse(made.messages.begin(), made.messages.end());
  return made;
}

result<std::uint32_t> store::mark_read(const person_key& who, std::int64_t up_to) {
  COVEY_TRY_VOID(impl_->db.run("UPDATE messages SET read = 1 WHERE who = ? AND id <= ? AND outgoing = 0 AND read = 0",
                               who, up_to));
  return static_cast<std::uint32_t>(impl_->db.changes());
}

result<std::optional<store::request>> store::find_request(std::string_view ref) {
  COVEY_TRY(cursor rows, impl_->db.query("SELECT recipient, message, failure FROM requests WHERE ref = ?", ref));
  COVEY_TRY(const bool found, rows.next());
  if (!found) return std::optional<request>();
  request known{.to = rows.text(0), .answered = {}, .failure = rows.text(2)};
  if (!rows.is_null(1)) {
    COVEY_TRY(known.answered, find_message(rows.integer(1)));
  }
  return std::optional(std::move(known));
}

result<void> store::put_request(std::string_view ref, std::string_view to, std::int64_t made, unix_ms now) {
  return impl_->db.run("INSERT INTO requests VALUES(?, ?, ?, '', ?)", ref, to, made, now);
}

result<void> store::put_request(std::string_view ref, std::string_view to, std::string_view failure, unix_ms now) {
  return impl_->db.run("INSERT INTO requests VALUES(?, ?, NULL, ?, ?)", ref, to, failure, now);
}

result<void> store::forget_requests(unix_ms before) {
  return impl_->db.run("DELETE FROM requests WHERE time < ?", before);
}

result<std::optional<std::string>> store::setting(std::string_view name) {
  return read_one(impl_->db.query("SELECT value FROM settings WHERE name = ?", name),
                  [](const cursor& row) { return row.text(0); });
}

result<void> store::put_setting(std::string_view name, std::string_view value) {
  return impl_->db.run("INSERT OR REPLACE INTO settings VALUES(?, ?)", name, value);
}

}  // namespace pigeon::office
