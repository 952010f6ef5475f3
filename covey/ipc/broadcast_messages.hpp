/// @file
/// What anybody may do to the messages of a broadcast: look, copy, evict, give back what they hold, put the end.
#pragma once

#include <covey/ipc/broadcast_layout.hpp>
#include <optional>
#include <vector>

namespace covey::detail {

/// The lanes' regions, mapped as they are needed, and what is found in them.
///
/// Safety: the thread's own; what is in shared memory, process-safe.
/// Death:  every change is one compare-and-swap from exactly what was seen, and what must follow it everybody can do.
class broadcast_messages {
 public:
  explicit broadcast_messages(const broadcast_memory& memory) : m(memory) {}

  /// The header of the message that `place` was seen to name; nothing when its place has a later one by now.
  [[nodiscard]] std::optional<known_header> header(place_word place);

  /// A private copy of message `number`: references first. False when it left meanwhile.
  bool copy_out(std::uint64_t number, std::vector<std::byte>& out, std::size_t& attachments);

  /// Where the next message goes, and what stands there before it; or the end is there.
  struct spot {
    std::uint64_t number;
    place_word was;
    bool ended;
  };
  spot next_spot();

  /// The oldest message that is queued, of those before `end`, which were all committed; `end` if there is none.
  std::uint64_t oldest(std::uint64_t end);

  /// Message `number`, which is the oldest, leaves, with its references.
  void evict(std::uint64_t number);
  void evict_all();

  /// Gives back what a message holds, if it still does. It stays readable; what it names may be gone.
  void release(place_word place);
  void release(std::uint64_t number) {
    if (const place_word w = m.at(number); w.number() == number) release(w);
  }
  /// By which number the keeper knew what the message held that is, or was, in a place, and holds no more; or 0.
  std::uint64_t released_reference(place_word place);
  /// Messages that all have got hold no references any more, nor do those that left.
  void release_passed();

  /// Nothing is put any more.
  void put_end();

  /// Once after each death: what the dead were putting, and what only they had not got, keeps nothing any more.
  void sweep_if_needed();

  /// What the former owner of a lane, who is `owner`, attached and did not commit is detached.
  void settle_references(std::uint64_t lane, participant owner);

  /// A lane's region, checked; nothing when it never came to be one of this broadcast.
  [[nodiscard]] const region* data_of(std::uint64_t lane);

  const broadcast_memory m;

 private:
  [[nodiscard]] const region& data_that_is_there(std::uint64_t lane);
  [[nodiscard]] bool is_held_by_a_message(std::uint64_t lane, std::uint64_t reference);
  void free_dead_lane(std::uint64_t lane);
  void tell_a_new_keeper();

  std::vector<region> data_;
};

/// lane_page::whose of a lane of this broadcast.
std::uint64_t lane_check(std::uint64_t key, std::uint64_t lane);

/// message_header::check.
std::uint64_t header_check(std::uint64_t key, std::uint64_t number, const known_header& h);

inline message_header& header_at(const region& data, const broadcast_shape& shape, std::uint64_t number) {
  return reinterpret_cast<message_header*>(data.data() + page_bytes)[number % shape.headers()];
}

/// Copies into, or out of, memory that others may read, or write, at the same time: a checksum, or a look at who has
/// it, must tell what was copied. `to` and `from` lie at a multiple of 8, and whole words are theirs.
void copy_in_raced(std::byte* to, std::span<const std::span<const std::byte>> parts) noexcept;
void copy_out_raced(std::byte* from, std::span<std::byte> out) noexcept;

}  // namespace covey::detail
