/// @file
/// Memory that programs find by name: making it, attaching to it, holding it. docs/design/named.md tells the whole.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <covey/base/check.hpp>
#include <covey/base/unique_fd.hpp>
#include <covey/memory/named_doorman.hpp>
#include <covey/memory/named_wire.hpp>
#include <covey/memory/notes.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

namespace covey {

/// Which named segment, and how to make or reach it.
struct named_options {
  std::string name{};              ///< 1 to 80 printable characters, no spaces; each user has names of their own
  sharing with = sharing::owner;   ///< who may attach; the maker decides
  std::optional<uid_t> of_user{};  ///< whose name; none: this process's effective user; others' can only be attached to
  std::size_t extra_bytes = 0;  ///< for make_array, beyond the object; the maker decides
  /// How long to wait for an answer, and for a maker to finish the object.
  std::chrono::nanoseconds patience = std::chrono::seconds(5);
};

/// The segment of that name holds another type, or was made by another version of covey; what() names both sides.
class segment_mismatch : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;  ///< says so in one sentence
};

namespace detail {

/// The first page of a segment; the object follows on the second.
struct named_header {
  std::uint64_t magic;
  std::uint64_t version;
  named_id id;
  std::atomic<std::uint64_t> frontier;  // where the next make_array takes from
};

/// One segment in this process: mapping, descriptors, doorman. Shared by all handles of it in this process.
class named_segment : public std::enable_shared_from_this<named_segment> {
 public:
  enum class intent { create, attach, open_or_create };

  /// `build` makes the object when the segment is new; nobody else sees the segment before it has returned.
  static std::shared_ptr<named_segment> open(const named_options& options, intent what, const named_shape& shape,
                                             const std::function<void(void*)>& build);

  named_segment(const named_segment&) = delete;
  named_segment& operator=(const named_segment&) = delete;

  [[nodiscard]] void* object() const {
    COVEY_CHECK(base_ != nullptr, "a named segment is not used in a process forked from one that held it: attach anew");
    return base_ + object_offset;
  }

  /// `bytes` that nobody else was given, zeroed; freed with the segment. Throws std::bad_alloc. Lock-free.
  [[nodiscard]] void* allocate(std::size_t bytes, std::size_t align) const;

  static constexpr std::size_t object_offset = 4096;

 private:
  friend struct named_registry;
  friend struct named_opening;
  named_segment() = default;
  ~named_segment() = default;
  static void drop(named_segment* segment) noexcept;
  void map(const std::string& quoted);
  void show(const std::string& name) noexcept;
  void end() noexcept;

  unique_fd listener_;  // closed last: when the name is free, this process holds the memory no more
  unique_fd memory_;
  std::byte* base_ = nullptr;  // null in a forked child
  std::size_t bytes_ = 0;
  std::size_t range_ = 0;  // its place in the table of ranges
  bool lingers_ = false;  // without handles, because of a lock that was held
  named_id id_{};
  std::optional<own_note> shown_;  // to inspect()
  std::unique_ptr<named_doorman> doorman_;  // null while the object is being made
};

/// How many locks in the named segment around `p` this process holds, is taking or is giving up. While there are any,
/// the segment stays mapped: the kernel's and the C library's lists of held locks lead through that memory. For what
/// lies in no segment there is one count too. A segment's last handle must not go while a thread is about to take its
/// first lock.
std::atomic<std::uint32_t>& named_locks_around(const void* p) noexcept;

}  // namespace detail
}  // namespace covey
