#include <pigeon/office/sqlite.hpp>

#include <cerrno>

#include <covey/base/check.hpp>
#include <pigeon/office/store.hpp>

namespace pigeon::office::detail {
namespace {

class sqlite_error_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "sqlite"; }
  std::string message(int code) const override { return sqlite3_errstr(code); }
};

bool means_full(int code, int system_code) {
  return code == SQLITE_FULL || (code == SQLITE_IOERR && (system_code == ENOSPC || system_code == EDQUOT));
}

covey::error make_error(const std::string& path, sqlite3* handle, int code) {
  const std::string words = handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
  const int primary = code & 0xff;
  if (means_full(primary, handle != nullptr ? sqlite3_system_errno(handle) : 0)) {
    return {store_errc::full, "write " + path};
  }
  if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB) {
    return {store_errc::damaged, path + " is damaged (" + words + ")"};
  }
  if (primary == SQLITE_READONLY || primary == SQLITE_CANTOPEN || primary == SQLITE_PERM) {
    return {store_errc::read_only, "write " + path};
  }
  if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED) return {store_errc::in_use, "use " + path};
  const bool same_words = words == sqlite3_errstr(code);
  return {std::error_code(code, sqlite_category()), same_words ? "use " + path : "use " + path + " (" + words + ")"};
}

}  // namespace

const std::error_category& sqlite_category() noexcept {
  static const sqlite_error_category category;
  return category;
}

result<bool> cursor::next() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return make_error(*path_, sqlite3_db_handle(statement_.get()), code);
}

std::string cursor::text(int column) const {
  // text before bytes: the order in which SQLite promises that both fit together.
  const auto* const bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

result<database> database::open(std::string path) {
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  database db(handle, std::make_unique<std::string>(std::move(path)));
  if (code != SQLITE_OK) return db.failure(code);
  return db;
}

result<void> database::script(const std::string& sql) {
  const int code = sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(code);
  return {};
}

void database::rollback() noexcept {
  if (in_transaction()) sqlite3_exec(handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

covey::error database::failure(int code) const { return make_error(*path_, handle_.get(), code); }

result<sqlite3_stmt*> database::prepare(std::string_view sql) {
  auto& kept = statements_[sql];
  if (!kept) {
    sqlite3_stmt* made = nullptr;
    const int code = sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &made, nullptr);
    if (code != SQLITE_OK) return failure(code);
    kept.reset(made);
  }
  COVEY_CHECK(sqlite3_stmt_busy(kept.get()) == 0, "a statement runs once at a time");
  return kept.get();
}

result<void> migrate(database& db, std::span<const char* const> steps) {
  COVEY_TRY(const auto stored, db.integer("PRAGMA user_version"));
  const auto newest = static_cast<std::int64_t>(steps.size());
  const std::int64_t version = stored.value_or(0);
  if (version < 0 || version > newest) {
    return covey::error{store_errc::newer, db.path() + " has schema version " + std::to_string(version) +
                                               " and this pigeon knows " + std::to_string(newest)};
  }
  for (std::int64_t at = version; at < newest; ++at) {
    const std::string step = std::string("BEGIN IMMEDIATE;") + steps[static_cast<std::size_t>(at)] +
                             ";PRAGMA user_version = " + std::to_string(at + 1) + ";COMMIT";
    if (auto done = db.script(step); !done) {
      db.rollback();
      return std::move(done).error();
    }
  }
  return {};
}

}  // namespace pigeon::office::detail
