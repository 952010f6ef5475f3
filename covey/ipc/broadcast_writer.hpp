/// @file
/// The owner's side of a lane of a broadcast. docs/design/broadcast.md.
#pragma once

#include <covey/ipc/broadcast_messages.hpp>
#include <covey/ipc/extent_ring.hpp>

namespace covey::detail {

/// Puts into a lane that one thread owns from its first put to its end.
///
/// Safety: the thread's own.
/// Death:  see docs/design/broadcast.md.
class broadcast_writer {
 public:
  /// Makes this thread the owner of a lane. Throws std::length_error when all have one, std::system_error.
  explicit broadcast_writer(broadcast_messages& messages);
  broadcast_writer(const broadcast_writer&) = delete;
  broadcast_writer& operator=(const broadcast_writer&) = delete;
  ~broadcast_writer() = default;

  /// The lane is nobody's from now on.
  void leave() noexcept;

  struct parcel {
    std::span<const std::span<const std::byte>> parts;  // the payload; it begins with `references`
    std::span<const std::uint64_t> references;
    std::uint64_t size = 0;
    std::uint64_t payload_sum = 0;
  };
  enum class outcome { committed, full, ended };

  /// Commits it, if the broadcast has room for it or others may go for it; its references are the message's by then.
  /// What is prepared stays so until the same parcel is committed, or not_wanted(). Throws queue_damaged,
  /// std::system_error.
  outcome put(const parcel& p);
  void not_wanted() noexcept;

  /// Whether put() of so many bytes would not be refused as `full`. What all have got may leave for it. Throws
  /// queue_damaged, std::system_error.
  [[nodiscard]] bool has_room(std::uint64_t size);

  /// Of the last that was committed.
  [[nodiscard]] std::uint64_t number() const { return number_; }

 private:
  void claim();
  void have_data();
  [[nodiscard]] std::vector<extent_ring::extent> live_extents();
  [[nodiscard]] std::optional<std::uint64_t> bytes_before(std::uint64_t number);
  [[nodiscard]] bool make_room(std::uint64_t number, std::uint64_t before, std::uint64_t size);
  [[nodiscard]] bool make_memory(std::uint64_t number, std::uint64_t size);
  [[nodiscard]] bool may_leave(std::uint64_t number);
  [[nodiscard]] bool prepare(std::uint64_t number, const parcel& p);
  void attach_references(const parcel& p);
  void write_header(std::uint64_t number, const known_header& header);
  void commit_headers(std::uint64_t number);
  void commit_extents(std::uint64_t end);
  [[nodiscard]] lane_page& page() const { return *reinterpret_cast<lane_page*>(data_.data()); }

  broadcast_messages& messages_;
  const broadcast_memory& m_;
  const participant me_;
  std::uint64_t lane_ = 0;
  region data_;
  extent_ring extents_;
  std::vector<bool> headers_committed_;  // by page
  std::uint64_t extents_committed_ = 0;
  std::uint64_t number_ = 0;
  // What was prepared.
  std::uint64_t extent_ = 0;
  std::uint64_t reference_ = 0;
  // What stays true: all before `oldest_` have left, and it began at byte `begin_` of all that were ever put; all
  // before `got_` may leave.
  std::uint64_t oldest_ = 0;
  std::uint64_t begin_ = 0;
  std::uint64_t got_ = 0;
};

}  // namespace covey::detail
