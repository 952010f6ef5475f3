/// @file
/// A small wrapper of SQLite for store.cpp alone: a database that keeps its prepared statements, and cursors over rows.
#pragma once

#include <sqlite3.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include <covey/base/result.hpp>

namespace pigeon::office::detail {

using covey::result;

/// The category of SQLite's own (extended) result codes.
const std::error_category& sqlite_category() noexcept;

/// The rows of one execution of a prepared statement, which is reset and unbound when the cursor goes.
class cursor {
 public:
  explicit cursor(sqlite3_stmt* statement, const std::string& path) noexcept : statement_(statement), path_(&path) {}

  /// Goes to the next row; false after the last.
  result<bool> next();

  /// Column `column` of the row, counted from 0.
  [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  [[nodiscard]] std::string text(int column) const;
  [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

 private:
  struct reset {
    void operator()(sqlite3_stmt* statement) const noexcept {
      sqlite3_reset(statement);
      sqlite3_clear_bindings(statement);
    }
  };

  std::unique_ptr<sqlite3_stmt, reset> statement_;  // Owned by the database; ours is the execution.
  const std::string* path_;  // For sentences.
};

/// An open database file.
///
/// Safety:  thread-compatible.
/// Fork:    only the process that opened it may use it.
class database {
 public:
  /// Opens the existing file `path` for reading and writing.
  static result<database> open(std::string path);

  /// Starts `sql`, a string literal (it is prepared once, and found again by its words), with its `?` bound to
  /// `values`.
  template <class... Values>
  result<cursor> query(std::string_view sql, const Values&... values) {
    COVEY_TRY(sqlite3_stmt* const statement, prepare(sql));
    cursor rows(statement, *path_);
    int position = 0;
    if (int code = SQLITE_OK; ((code = bind(statement, ++position, values), code != SQLITE_OK) || ...)) {
      return failure(code);
    }
    return rows;
  }

  /// Runs `sql` to its end.
  template <class... Values>
  result<void> run(std::string_view sql, const Values&... values) {
    COVEY_TRY(cursor rows, query(sql, values...));
    COVEY_TRY_VOID(rows.next());
    return {};
  }

  /// The first column of the first row of `sql`; nothing if there is no row or if it is null.
  template <class... Values>
  result<std::optional<std::int64_t>> integer(std::string_view sql, const Values&... values) {
    COVEY_TRY(cursor rows, query(sql, values...));
    COVEY_TRY(const bool found, rows.next());
    if (!found || rows.is_null(0)) return std::optional<std::int64_t>();
    return std::optional(rows.integer(0));
  }

  /// Runs statements that are not worth keeping, separated by ';'.
  result<void> script(const std::string& sql);

  /// Whether a transaction is open.
  [[nodiscard]] bool in_transaction() const noexcept { return sqlite3_get_autocommit(handle_.get()) == 0; }

  /// Ends the open transaction, if there still is one: some errors make SQLite roll back by itself.
  void rollback() noexcept;

  /// Of the last INSERT.
  [[nodiscard]] std::int64_t last_id() const noexcept { return sqlite3_last_insert_rowid(handle_.get()); }

  /// Rows changed by the last INSERT, UPDATE or DELETE.
  [[nodiscard]] int changes() const noexcept { return sqlite3_changes(handle_.get()); }

  /// The error for `code`, in one sentence.
  [[nodiscard]] covey::error failure(int code) const;

  /// The file.
  [[nodiscard]] const std::string& path() const noexcept { return *path_; }

 private:
  struct close {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
  };
  struct finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
  };

  database(sqlite3* handle, std::unique_ptr<std::string> path) : path_(std::move(path)), handle_(handle) {}

  result<sqlite3_stmt*> prepare(std::string_view sql);

  static int bind(sqlite3_stmt* statement, int position, std::integral auto value) {
    return sqlite3_bind_int64(statement, position, static_cast<sqlite3_int64>(value));
  }
  static int bind(sqlite3_stmt* statement, int position, std::string_view value) {
    // A null pointer would bind NULL. The text is copied: cursors outlive the caller's temporaries.
    return sqlite3_bind_text64(statement, position, value.data() == nullptr ? "" : value.data(), value.size(),
                               SQLITE_TRANSIENT, SQLITE_UTF8);
  }
  static int bind(sqlite3_stmt* statement, int position, std::nullptr_t) {
    return sqlite3_bind_null(statement, position);
  }

  std::unique_ptr<std::string> path_;  // Its address is constant: cursors point to it.
  std::unique_ptr<sqlite3, close> handle_;
  std::unordered_map<std::string_view, std::unique_ptr<sqlite3_stmt, finalize>> statements_;  // Finalized first.
};

/// Brings the schema from its user_version to that of the last of `steps`: step i leads from version i to i + 1. Each
/// step is one transaction, so a failure leaves the version before it. Refuses a version beyond the last.
result<void> migrate(database& db, std::span<const char* const> steps);

}  // namespace pigeon::office::detail
