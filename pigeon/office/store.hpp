/// @file
/// What an office remembers: people, messages, receipts, requests and settings, in an SQLite database of its own.
#pragma once

#include <covey/base/result.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <pigeon/office/messages.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace pigeon::office {

using covey::result;

/// Why a store could not be opened or used, where the caller may want to tell these apart.
enum class store_errc {
  read_only = 1,  ///< the folder or the file cannot be written
  full,           ///< the disk is full; what was stored before is untouched
  damaged,        ///< the database is not what SQLite wrote
  newer,          ///< written by a newer pigeon
  in_use,         ///< another office has the folder
  exhausted,      ///< no packet number is left (after the year 2106)
};

/// The category of store_errc; its messages complete the sentence that the context begins.
const std::error_category& store_category() noexcept;

/// For std::error_code's constructor.
std::error_code make_error_code(store_errc code) noexcept;

/// A store: everything that it said it stored is on the disk, or will be with the open transaction.
///
/// Safety:  thread-compatible.
/// Fork:    only the process that opened it may use it, and it forks no child that outlives it: a child would go on
///          holding the folder.
/// Death:   killed at any instruction, it holds on reopening all that was committed, and nothing of an open
/// transaction. Errors:  an operation that fails inside a transaction leaves that transaction fit only for rollback.
class store {
  struct impl;

 public:
  /// One batch: what is done between begin() and commit() is stored together or not at all. Rolls back when it goes
  /// uncommitted. It must go before its store does.
  class transaction {
   public:
    transaction(transaction&& other) noexcept;
    transaction& operator=(transaction&&) = delete;
    ~transaction();

    /// Returns when all of it is on the disk. On an error nothing of it is.
    result<void> commit();

   private:
    friend class store;
    explicit transaction(impl& owner) noexcept : owner_(&owner) {}
    impl* owner_;  // Null once committed or moved from.
  };

  /// A message, and whether this very call stored it.
  struct stored_message {
    message what;        ///< as it is in the store
    bool fresh = false;  ///< false: it was there already
  };

  /// A piece of a conversation, oldest first.
  struct page {
    std::vector<message> messages;  ///< at most as many as asked for, and at most 4 MiB of text
    bool more = false;              ///< older ones exist
  };

  /// What became of a request that has a reference.
  struct request {
    std::string to;                   ///< whom it named
    std::optional<message> answered;  ///< the message it made, or
    std::string failure;              ///< the sentence it was refused with
  };

  /// Opens the store in `folder` (made with mode 0700 if it is missing, the database with 0600), checks that it is
  /// sound and brings it to the present schema. Holds the folder until destroyed: a second office there is refused.
  static result<store> open(const std::string& folder);

  store(store&&) noexcept;
  store& operator=(store&&) noexcept;
  ~store();

  /// Starts a batch. Without one each operation commits by itself. One at a time.
  result<transaction> begin();

  // ---- people

  /// Adds or replaces what is known of one person, presence included. If a new life of its client begins (person::life
  /// is later than what was known; an earlier one changes nothing), its packet numbers stand for new messages. Beyond
  /// 5,000 people the one seen longest ago, of those without messages, is forgotten for a new one.
  result<void> put_person(const person& who);

  /// The person with this key, if known.
  result<std::optional<person>> find_person(std::string_view key);

  /// The people of this name (letter case of A–Z aside), by key; at most `limit`.
  result<std::vector<person>> people_called(std::string_view name, std::size_t limit);

  /// Everybody ever heard of, by key, with unread counts.
  result<std::vector<person_entry>> people();

  /// How many messages from this person nobody has read.
  result<std::uint32_t> unread(const person_key& who);

  /// Marks everybody as not here; returns those who were.
  result<std::vector<person>> empty_the_house();

  // ---- messages

  /// Stores a message that arrived, once: a second with the same sender and packet number is the same message if it
  /// comes within ten minutes, or later with the same text and a number that counts from Unix time. (Some clients
  /// count from 1 after each start; theirs may come again with something new to say.)
  /// The sender must be known.
  result<stored_message> put_incoming(const person_key& from, std::uint32_t packet, std::string_view text, unix_ms now);

  /// The newest message from this person with this number and text, of whatever life, if any.
  result<std::optional<message>> find_incoming(const person_key& from, std::uint32_t packet, std::string_view text);

  /// The highest packet number among the messages from this person in the present life of its client; 0: none.
  result<std::uint32_t> last_incoming(const person_key& from);

  /// The highest packet number that was ever taken for a message of ours; 0: none.
  result<std::uint32_t> last_outgoing();

  /// Stores a message to be sent, in state waiting, with `packets` new packet numbers of its own. The person must be
  /// known.
  result<message> put_outgoing(const person_key& to, std::string_view text, std::uint32_t packets, unix_ms now);

  /// The message with this id, if any.
  result<std::optional<message>> find_message(std::int64_t id);

  /// Records what became of an outgoing message. Only ever goes on: waiting → failed → delivered. True if it did.
  result<bool> put_outcome(std::int64_t id, message_state state, std::string_view reason);

  /// How many messages wait for this person.
  result<std::int64_t> waiting_count(const person_key& who);

  /// The messages that wait for this person, oldest first: at most `limit`, after skipping `skip`.
  result<std::vector<message>> waiting(const person_key& who, std::size_t limit, std::size_t skip = 0);

  /// The people for whom messages wait, by key.
  result<std::vector<person>> people_awaited();

  /// The newest `limit` messages with this person that are older than message `before` (0: the newest of all).
  result<page> history(const person_key& who, std::int64_t before, std::size_t limit);

  /// Marks everything from this person up to message `up_to` as read; returns how many were not.
  result<std::uint32_t> mark_read(const person_key& who, std::int64_t up_to);

  // ---- requests

  /// What became of the request with this reference, if it was seen and is not forgotten.
  result<std::optional<request>> find_request(std::string_view ref);

  /// Remembers that the request `ref` to `to` made message `made`.
  result<void> put_request(std::string_view ref, std::string_view to, std::int64_t made, unix_ms now);

  /// Remembers that the request `ref` to `to` was refused with the sentence `failure`.
  result<void> put_request(std::string_view ref, std::string_view to, std::string_view failure, unix_ms now);

  /// Forgets what was asked before the time `before`. The messages stay.
  result<void> forget_requests(unix_ms before);

  // ---- settings

  /// A setting; nothing if it was never set.
  result<std::optional<std::string>> setting(std::string_view name);

  /// Sets a setting.
  result<void> put_setting(std::string_view name, std::string_view value);

 private:
  explicit store(std::unique_ptr<impl> made) noexcept;
  std::unique_ptr<impl> impl_;
};

}  // namespace pigeon::office

template <>
struct std::is_error_code_enum<pigeon::office::store_errc> : std::true_type {};
