/// @file
/// Regions: pages of the arena that this process holds, counted. docs/design/memory.md.
#pragma once

#include <covey/base/codec.hpp>
#include <covey/memory/family.hpp>
#include <memory>

namespace covey::detail {

/// What a region is for; checked when a handle is decoded.
/// A `lane` is mapped read-only, see allow_writing(). The end of a `subscription` counts as a death: all sleepers look.
enum class region_kind : std::uint32_t {
  plain = 1,
  object,
  mutex,
  event,
  queue,
  board,
  lane,
  recursive_mutex,
  shared_mutex,
  semaphore,
  permits,
  condition,
  barrier,
  latch,
  once,
  guarded,
  ordered_queue,
  broadcast,
  subscription
};

/// How to make a region.
struct region_request {
  std::uint64_t bytes;  // address space, rounded up to pages
  std::uint64_t committed = ~0ULL;  // pages that are reserved now; the rest by commit_region
  region_kind kind = region_kind::plain;
  std::uint64_t type = 0;  // of an object: a number that decoders compare
  void (*destroy)(std::byte* base) noexcept = nullptr;  // of an object: destroys what lies in the region at `base`
  bool huge_pages = false;  // where the system has them: see memory_left.hpp
  bool populate = false;  // who makes it writes all that is committed, at once
};

/// Whether `p` lies in the arena.
inline bool in_arena(const void* p) noexcept {
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - family.arena);
  return offset < family.arena_bytes;
}

/// First bytes of a region of kind object. What its holders must be able to trust (type, destructor) is in the ledger.
struct object_header {
  std::atomic<std::uint64_t> whole;  // object_is_whole: was constructed, and may be destroyed
};
inline constexpr std::uint64_t object_is_whole = 0xc0de'0b1e'c7a1'1fe5;

void look_through(const void* handle, std::uint64_t id);

/// A counted reference to a region: a copy is the same region. Where the reference itself lies decides who holds it: in
/// private memory this process; inside a region, that region.
///
/// When the last reference in the whole family to a region of kind object is given up by a live process, that process
/// runs the object's destructor first. docs/design/memory.md tells how it knows.
///
/// Safety: thread-compatible; the counts behind it are thread-safe.
/// Death:  references of a dead process are dropped by the keeper.
class region {
 public:
  /// Refers to nothing.
  region() noexcept = default;

  /// Makes a new one, zeroed. Throws std::system_error when address space, memory or the keeper cannot be had.
  explicit region(const region_request& request);

  region(const region& other);
  region(region&& other);
  region& operator=(region other) noexcept;
  ~region();

  /// The bytes; nullptr when it refers to nothing.
  [[nodiscard]] std::byte* data() const {
    const std::uint64_t id = this->id();
    if (id == 0) return nullptr;
    if (in_arena(this)) look_through(this, id);
    return family.arena + family.book->regions[static_cast<std::uint32_t>(id)].offset;
  }
  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  /// By the keeper's book, not by what lies in it.
  [[nodiscard]] region_kind kind() const {
    return static_cast<region_kind>(family.book->regions[static_cast<std::uint32_t>(id_)].kind);
  }
  explicit operator bool() const noexcept { return id_ != 0; }
  bool operator==(const region& other) const noexcept { return id_ == other.id_; }

  /// Writes the id, and asks whoever stores the bytes to keep a reference.
  void encode(encoder& out) const;

  /// One more reference of this process to region `id`. Throws std::system_error when it is gone.
  static region hold(std::uint64_t id);

  /// As hold(), if anybody holds the region and its object is not being destroyed; otherwise it refers to nothing.
  static region hold_if_held(std::uint64_t id);

  /// One more reference if this process has one already; otherwise it refers to nothing. Asks nobody.
  static region hold_if_counted(std::uint64_t id);

  /// The region that was encoded, held by this process; takes over the carrier's reference. Throws bad_message when it
  /// is gone or of another kind.
  static region decode(decoder& in, region_kind kind);

 private:
  struct adopt_tag {};
  region(adopt_tag, std::uint64_t id) noexcept : id_(id) {}
  // In a region others may look at it while it changes: see holdings.hpp.
  void set_id(std::uint64_t id) noexcept { std::atomic_ref(id_).store(id, std::memory_order_relaxed); }
  void take(const region& other);
  void leave() noexcept;

  alignas(8) std::uint64_t id_ = 0;  // index | generation << 32; 0 is none
};

/// As region, for those who only read: the mapping is read-only while this process has no region, which may write. In
/// private memory and messages only.
class reading {
 public:
  reading() noexcept = default;
  explicit reading(const region& of);
  reading(const reading& other);
  reading& operator=(reading other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~reading();

  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint64_t size() const noexcept;
  void encode(encoder& out) const;
  static reading decode(decoder& in, region_kind kind);

 private:
  void take();
  std::uint64_t id_ = 0;
};

/// The id of the region of this process in which `p` lies, or 0.
std::uint64_t region_around(const void* p) noexcept;

/// The object of this process in whose region `p` lies, or nullptr.
object_header* object_around(const void* p) noexcept;

/// Whether somebody holds the region, and its object is not being destroyed. Two loads; `id` may be any number.
bool is_held_by_somebody(std::uint64_t id) noexcept;

/// The size of the region of kind object that this process has mapped at `begin`, or 0 when there is none. Cheap when
/// asked again by the same thread.
std::uint64_t bytes_mapped_at(const void* begin) noexcept;

/// Reserves the pages of [begin, begin + bytes) of the arena.
result<void> commit_pages(const std::byte* begin, std::uint64_t bytes);

/// As commit_pages, for pages that this process has mapped writable and is going to write at once.
result<void> commit_touched_pages(std::byte* begin, std::uint64_t bytes);

/// Reserves pages [0, bytes) of a region, so that touching them cannot fail. Throws std::system_error.
void commit_region(const region& r, std::uint64_t bytes);

/// Lets this process write to the mapping of a lane that it holds, for as long as it holds it. A lane is mapped
/// read-only in every process, also in the one that made it.
result<void> allow_writing(const region& lane);

/// From now on a write of this process to the lane is a SIGSEGV, as it was before allow_writing().
result<void> forbid_writing(const region& lane);

/// Calls `f` when the last reference of this process to a region of `kind` goes, while it is still mapped; under a
/// mutex of the memory: `f` must use no region. What it returns is destroyed without that mutex.
void on_farewell(region_kind kind, std::shared_ptr<void> (*f)(std::uint64_t id) noexcept) noexcept;

/// Tells the family that what this process found in a region of its own makes no sense. The keeper marks the region, if
/// this process holds it, and wakes every sleeper of the family, so that all who use it look again. Not waited for.
void report_damage(std::uint64_t region_id) noexcept;

/// Whether a holder of the region reported damage; it stays so until the region goes. Two loads from memory that only
/// the keeper writes.
bool is_damaged(std::uint64_t region_id) noexcept;

/// Whether a process died that held the region. Looks at all that anybody holds.
bool is_left_by_the_dead(std::uint64_t region_id) noexcept;

/// What the family has taken of the arena at this moment.
struct arena_usage {
  std::uint64_t regions = 0;
  std::uint64_t bytes = 0;  // of memory
  bool operator==(const arena_usage&) const = default;
};
arena_usage arena_in_use();

/// Gives `carrier` a reference to each of `attachments` (delta 1), or takes it back (-1). Not waited for.
void carry(std::uint64_t carrier, std::span<const std::uint64_t> attachments, int delta) noexcept;

/// Message `number` (not 0) of `carrier`, which this process holds, has a reference to each of `attachments` from now
/// on. Waits for the keeper, so that whoever is told of the message later can rely on it. Said again, it is the same.
/// Throws std::system_error.
void attach(std::uint64_t carrier, std::uint64_t number, std::span<const std::uint64_t> attachments);

/// It has none any more. Not waited for. Anybody who holds `carrier` may say so, any number of times: who cleans up
/// after the dead need not know how far they had come. `number` must not be used again for another message, unless
/// who said so has asked the keeper something since.
void detach(std::uint64_t carrier, std::uint64_t number) noexcept;

}  // namespace covey::detail
