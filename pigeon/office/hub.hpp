/// @file
/// What the store service does with each message: the policy that joins people, web and the store.
#pragma once

#include <covey/base/result.hpp>
#include <cstdint>
#include <functional>
#include <pigeon/office/messages.hpp>
#include <pigeon/office/store.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pigeon::office {

/// What is to be sent once the transaction is committed, in this order for each receiver.
struct outbox {
  std::vector<to_people> people;  ///< to the people service
  std::vector<to_web> web;        ///< to the web service
};

/// The longest text that send_text may carry.
inline constexpr std::size_t text_bytes_max = std::size_t{1} << 20;

/// How many messages for one person the people service has in hand; further ones follow as these get their outcome.
inline constexpr std::size_t window_messages_max = 32;

/// How many messages may wait for one person; more are refused.
inline constexpr std::int64_t waiting_messages_max = 10'000;

/// The store service's mind. It keeps nothing of its own: all state is in the store, presence included, so that a hub
/// made after a crash goes on where the last one was committed.
///
/// Every message may be handled twice, whole batches too: the second time changes nothing, and says again what the
/// first had to say, because the crash that brought the message again may have swallowed the answer.
///
///     office::hub hub(store);
///     hub.started(out);                  // once in each life of the process
///     while (wait for messages) {
///       hub.handle_all(batch, out);      // one transaction
///       send out.people and out.web;     // only now: what is told is stored
///       tell the queue that the batch is done;
///     }
///
/// Safety:  thread-compatible.
class hub {
 public:
  /// Works on `kept`, which outlives it; `clock` gives the present time.
  explicit hub(store& kept, std::function<unix_ms()> clock = {});

  /// Takes the name and group given on the command line: they hold if they are not what was given last time, because
  /// the page may have changed the name since. An empty name is none given.
  result<void> introduce(const own_profile& given);

  /// Says what the services must know when the store process begins, in case its predecessor died with something
  /// unsaid.
  result<void> started(outbox& out);

  /// Handles one message inside the transaction of the caller, who sends `out` after the commit. After an error the
  /// transaction must be rolled back and `out` dropped.
  result<void> handle(const to_store& what, outbox& out);

  /// Handles messages in a transaction of their own. If that fails, each is tried alone, so that one cannot take others
  /// down; a request that fails even so is answered by request_failed with the reason, and the last error is
  /// returned. No message that came over the network is then confirmed: its sender tries again. `out` is right to send
  /// in any case.
  result<void> handle_all(std::span<const to_store> batch, outbox& out);

 private:
  struct target;

  result<void> on(const people_started&, outbox& out);
  result<void> on(const person_seen& seen, outbox& out);
  result<void> on(const message_in& in, outbox& out);
  result<void> on(const message_outcome& outcome, outbox& out);
  result<void> on(const web_started&, outbox& out);
  result<void> on(const send_text& request, outbox& out);
  result<void> on(const history_wanted& request, outbox& out);
  result<void> on(const mark_read& request, outbox& out);
  result<void> on(const rename_self& request, outbox& out);

  result<void> batch_in_one_transaction(std::span<const to_store> batch, outbox& out);
  result<own_profile> profile();
  result<target> resolve(std::string_view who);
  result<std::string> objection(const send_text& request, const target& to);
  result<void> answer(const message_in& in, message stored, outbox& out);
  result<void> answer_again(const send_text& request, const store::request& known, outbox& out);
  result<void> refuse(const send_text& request, std::string sentence, outbox& out);
  result<void> tell_web(const person& who, outbox& out);
  result<void> tell_web(message what, std::string ref, outbox& out);
  result<void> send_window(const person& to, outbox& out);
  result<void> send_last_of_window(const person& to, outbox& out);

  store& store_;
  std::function<unix_ms()> clock_;
};

}  // namespace pigeon::office
