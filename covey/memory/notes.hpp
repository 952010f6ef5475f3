/// @file
/// notes: what a process says of itself and of what it holds, in its cells. docs/design/inspect.md.
#pragma once

#include <covey/memory/family.hpp>
#include <string>
#include <string_view>
#include <variant>

namespace covey::detail {

/// A number or a text under a name, or (with a region) the name of an object.
///
/// Valid when the upper 44 bits of `stamp` are the generation of the process, which is alive, and the lower 20 are not
/// 0: so all notes of a process go with it, and its cells' next owner finds none.
struct note {
  std::atomic<std::uint64_t> stamp;   // release: after all below but number, kind and text
  std::atomic<std::uint64_t> region;  // or 0, or note_of_named_segment
  std::atomic<std::int64_t> number;
  std::atomic<std::uint32_t> version;  // of the text: odd while it changes
  std::atomic<std::uint32_t> is_text;
  std::atomic<std::uint64_t> uses;     // how often the note was made
  std::atomic<std::uint64_t> name[6];  // bytes, the last one 0
  std::atomic<std::uint64_t> text[21];
};
static_assert(sizeof(note) == 256);

/// As `region`: the note is of a named segment, and its number how many bytes that has. No region has this id.
inline constexpr std::uint64_t note_of_named_segment = 1;

inline constexpr std::uint32_t notes_max = 128;
inline constexpr std::size_t note_name_bytes_max = sizeof(note::name) - 1;
inline constexpr std::size_t note_text_bytes_max = sizeof(note::text) - 1;

/// Behind what the ledger says of cells, in pages that are touched when a process makes its first note, or is looked
/// at.
struct note_cells {
  std::atomic<std::uint32_t> used;  // ever, by whom ever: a bound for scans
  alignas(64) note notes[notes_max];
};
inline constexpr std::size_t note_cells_at = (sizeof(process_cells) + page_bytes - 1) / page_bytes * page_bytes;
static_assert(note_cells_at + sizeof(note_cells) <= cells_bytes);

/// A note of this process, by whoever made it: a child forked later finds that it is not its own, and changes nothing.
///
/// Safety: thread-safe, but for set(std::string_view): one thread at a time.
class own_note {
 public:
  using value = std::variant<std::int64_t, std::string_view>;

  /// Names and texts are cut at their bounds. Throws std::length_error when this process has notes_max.
  own_note(std::uint64_t region, std::string_view name, value first);

  void set(std::int64_t number) const noexcept;
  void set(std::string_view text) const noexcept;

  /// There is no such note any more.
  void drop() const noexcept;

  /// Drops this process's notes that name `region`.
  static void drop_all_of(std::uint64_t region) noexcept;

 private:
  [[nodiscard]] note* mine() const noexcept;

  process_id owner_;
  std::uint32_t index_;
};

/// Whether this process has room for notes that nobody asked for. It takes part in a family.
bool half_of_the_notes_are_free() noexcept;

/// What a note said.
struct note_sight {
  std::uint64_t region = 0;
  std::string name{};
  bool is_text = false;
  bool torn = false;  // the text was being changed, and perhaps is for ever: its writer may be stopped there
  std::int64_t number = 0;
  std::string text{};
};

/// The notes of a process, which lives. Copies; waits for nobody.
std::vector<note_sight> notes_of(process_id id);

/// That a thread sleeps for something in the region that lies there in the arena.
struct sleep_sight {
  std::uint64_t offset;
  std::uint32_t thread;  // the same for all of one sleep

  auto operator<=>(const sleep_sight&) const = default;
};

/// For what the threads of a living process sleep.
std::vector<sleep_sight> sleeps_of(process_id id);

}  // namespace covey::detail
