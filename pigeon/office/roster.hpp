/// @file
/// Who is on the network, as far as one can know without a heartbeat: policy without sockets or clocks of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <pigeon/office/messages.hpp>
#include <random>
#include <vector>

namespace pigeon::office {

/// The times of a roster.
struct roster_options {
  std::chrono::steady_clock::duration quiet_after = std::chrono::minutes(10);  ///< silent for so long: ask
  std::chrono::steady_clock::duration probe_wait = std::chrono::seconds(3);  ///< for an answer, before asking again
  unsigned probe_count = 3;  ///< unanswered: gone
};

/// The people heard of, and who of them is here. Somebody is here from a datagram until an exit, or until three probes
/// (entry packets to that one address) bring no answer; the history of conversations stays with the store either way.
/// At most 5,000 people; then the one heard of longest ago is forgotten, those not here first.
///
/// Safety:  thread-compatible.
class roster {
 public:
  /// A moment of the clock that the caller passes in.
  using time_point = std::chrono::steady_clock::time_point;

  /// Makes an empty one.
  explicit roster(roster_options options = {}) : options_(options) {}

  /// Somebody known from earlier, not here until heard.
  void known(person who);

  /// A datagram of `who` came; `who` is all that is known by now, so for a datagram that tells no nickname begin with
  /// find(). Returns the news for the store, if there is any: the person is new, came back, changed
  /// or moved; or was last reported a minute ago.
  std::optional<person_seen> heard(person who, time_point now);

  /// `who` said that it leaves. Returns the news, if it was here.
  std::optional<person_seen> left(const person_key& who);

  /// `who` gives no receipts: probe now instead of waiting for the next quiet spell.
  void doubt(const person_key& who, time_point now);

  /// What is due: of many probes only some, the others a little later, so that their answers are no storm.
  struct round {
    std::vector<person> probes;  ///< send each an entry packet
    std::vector<person_seen> gone;  ///< answered none; news for the store
  };

  /// What is due at `now`.
  [[nodiscard]] round due(time_point now);

  /// When due() has something to say next; nothing if nobody is here.
  [[nodiscard]] std::optional<time_point> next_due() const;

  /// The person with this key, if known. Valid until the roster changes.
  [[nodiscard]] const person* find(const person_key& who) const;

  /// Everybody known, by key.
  [[nodiscard]] std::vector<person> people() const;

  /// How many are here.
  [[nodiscard]] std::size_t here_count() const noexcept { return here_count_; }

  /// How long to wait before answering an entry, so that a large office does not answer all at once: not at all among
  /// 20 or fewer, else a random time of up to 1 s below 50 people, 2 s below 300, and 4 s.
  template <class Random>
  [[nodiscard]] std::chrono::milliseconds answer_delay(Random& random) const {
    return std::chrono::milliseconds(
        std::uniform_int_distribution<std::int64_t>(0, answer_delay_max().count())(random));
  }

 private:
  struct entry {
    person who;
    time_point due{};  // The next probe, or the verdict. Meaningful while here.
    unsigned probes = 0;  // Sent since the last datagram.
    unix_ms reported = 0;  // person::seen as the store last heard it.
    std::uint64_t heard = 0;  // Rises with each datagram of anybody.
  };

  [[nodiscard]] std::chrono::milliseconds answer_delay_max() const noexcept;
  void make_room();
  void set_here(entry& of, bool here);

  roster_options options_;
  std::map<person_key, entry> entries_;
  std::size_t here_count_ = 0;
  std::uint64_t datagrams_ = 0;
};

}  // namespace pigeon::office
