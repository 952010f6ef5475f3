// A note is claimed by a stamp that is not valid yet, filled, and published by the stamp that is. Readers copy between
// two looks at the stamp, whose lower bits tell a note from the next one in its place.
#include <covey/memory/notes.hpp>

#include <algorithm>
#include <array>
#include <covey/memory/region.hpp>
#include <cstring>
#include <span>
#include <stdexcept>

namespace covey::detail {
namespace {

constexpr unsigned uses_bits = 20;
constexpr std::uint64_t uses_mask = (1ULL << uses_bits) - 1;

note_cells& note_cells_of(std::uint32_t slot) {
  return *reinterpret_cast<note_cells*>(family.cells + std::size_t{slot} * cells_bytes + note_cells_at);
}

constexpr std::uint64_t claimed_by(std::uint64_t generation) { return generation << uses_bits; }

constexpr bool is_of(std::uint64_t stamp, std::uint64_t generation) {
  return stamp >> uses_bits == claimed_by(generation) >> uses_bits;
}
constexpr bool is_valid(std::uint64_t stamp, std::uint64_t generation) {
  return is_of(stamp, generation) && (stamp & uses_mask) != 0;
}

using word = std::atomic<std::uint64_t>;

void store(std::span<word> to, std::string_view text) noexcept {
  text = text.substr(0, to.size_bytes() - 1);
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::uint64_t bytes = 0;
    const std::string_view part = text.substr(std::min(text.size(), i * sizeof bytes), sizeof bytes);
    if (!part.empty()) std::memcpy(&bytes, part.data(), part.size());
    to[i].store(bytes, std::memory_order_relaxed);
  }
}

std::string load(std::span<const word> from) {
  std::string text;
  for (const word& w : from) {
    const std::uint64_t bytes = w.load(std::memory_order_relaxed);
    text.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  }
  text.resize(std::min(text.find('\0'), text.size() - 1));
  return text;
}

// Names an object that is gone.
bool is_useless(const note& n) noexcept {
  const std::uint64_t region = n.region.load(std::memory_order_relaxed);
  return region != 0 && region != note_of_named_segment && !is_held_by_somebody(region);
}

// A note that this thread may fill.
std::uint32_t claim() {
  note_cells& cells = note_cells_of(family.slot);
  for (std::uint32_t i = 0; i < notes_max; ++i) {
    std::uint64_t stamp = cells.notes[i].stamp.load(std::memory_order_acquire);
    const bool taken =
        is_of(stamp, family.generation) && !(is_valid(stamp, family.generation) && is_useless(cells.notes[i]));
    if (taken || !cells.notes[i].stamp.compare_exchange_strong(stamp, claimed_by(family.generation))) continue;
    std::uint32_t used = cells.used.load(std::memory_order_relaxed);
    while (used <= i && !cells.used.compare_exchange_weak(used, i + 1, std::memory_order_relaxed)) {
    }
    return i;
  }
  throw std::length_error("covey: a process has no room for more than " + std::to_string(notes_max) +
                          " entries and names");
}

}  // namespace

bool half_of_the_notes_are_free() noexcept {
  const note_cells& cells = note_cells_of(family.slot);
  return std::ranges::count_if(cells.notes, [](const note& n) {
           return is_of(n.stamp.load(std::memory_order_relaxed), family.generation);
         }) < notes_max / 2;
}

own_note::own_note(std::uint64_t region, std::string_view name, value first) {
  family_check();
  owner_ = this_process_id();
  index_ = claim();
  note& n = note_cells_of(family.slot).notes[index_];
  n.region.store(region, std::memory_order_relaxed);
  n.version.store(0, std::memory_order_relaxed);
  store(n.name, name);
  std::visit([&](const auto& v) { set(v); }, first);
  const std::uint64_t use = n.uses.fetch_add(1, std::memory_order_relaxed) % uses_mask + 1;
  n.stamp.store(claimed_by(family.generation) | use, std::memory_order_release);  // pairs with see()
}

note* own_note::mine() const noexcept {
  if (!family.takes_part || owner_ != this_process_id()) return nullptr;
  return &note_cells_of(family.slot).notes[index_];
}

void own_note::set(std::int64_t number) const noexcept {
  note* const n = mine();
  if (n == nullptr) return;
  n->number.store(number, std::memory_order_relaxed);
  n->is_text.store(0, std::memory_order_release);
}

void own_note::set(std::string_view text) const noexcept {
  note* const n = mine();
  if (n == nullptr) return;
  const std::uint32_t version = n->version.load(std::memory_order_relaxed) | 1U;
  n->version.store(version, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // pairs with see()
  store(n->text, text);
  n->version.store(version + 1, std::memory_order_release);
  n->is_text.store(1, std::memory_order_release);
}

void own_note::drop() const noexcept {
  if (note* const n = mine(); n != nullptr) n->stamp.store(0, std::memory_order_release);
}

void own_note::drop_all_of(std::uint64_t region) noexcept {
  if (!family.takes_part) return;
  note_cells& cells = note_cells_of(family.slot);
  for (note& n : cells.notes) {
    std::uint64_t stamp = n.stamp.load(std::memory_order_acquire);
    if (is_valid(stamp, family.generation) && n.region.load(std::memory_order_relaxed) == region)
      n.stamp.compare_exchange_strong(stamp, 0);
  }
}

namespace {

void see_text(const note& n, note_sight& s) {
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t before = n.version.load(std::memory_order_acquire);  // pairs with own_note::set()
    s.text = load(n.text);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (before % 2 == 0 && n.version.load(std::memory_order_relaxed) == before) return;
  }
  s.text.clear();
  s.torn = true;
}

// False when there is no such note, or it changed its place meanwhile.
bool see(const note& n, std::uint64_t generation, note_sight& s) {
  const std::uint64_t stamp = n.stamp.load(std::memory_order_acquire);  // pairs with own_note's constructor
  if (!is_valid(stamp, generation)) return false;
  s.region = n.region.load(std::memory_order_relaxed);
  s.name = load(n.name);
  s.is_text = n.is_text.load(std::memory_order_acquire) == 1;
  s.number = n.number.load(std::memory_order_relaxed);
  if (s.is_text) see_text(n, s);
  std::atomic_thread_fence(std::memory_order_acquire);
  return n.stamp.load(std::memory_order_relaxed) == stamp;
}

}  // namespace

std::vector<note_sight> notes_of(process_id id) {
  std::vector<note_sight> all;
  if (slot_of_process(id) >= processes_max || !process_alive(id)) return all;
  const note_cells& cells = note_cells_of(slot_of_process(id));
  const std::uint32_t used = std::min(cells.used.load(std::memory_order_relaxed), notes_max);
  for (std::uint32_t i = 0; i < used; ++i)
    if (note_sight s; see(cells.notes[i], generation_of_process(id), s)) all.push_back(std::move(s));
  if (!process_alive(id)) all.clear();
  return all;
}

namespace {

// Calls f(offset, index) for each note of that generation.
template <class F>
void each_sleep(std::span<const std::atomic<std::uint64_t>> notes, std::uint32_t used, std::uint64_t generation,
                const F& f) {
  for (std::uint32_t i = 0; i < std::min<std::size_t>(used, notes.size()); ++i) {
    const std::uint64_t note = notes[i].load(std::memory_order_relaxed);
    const std::uint64_t offset = sleep_offset(note);
    if (note != 0 && note == sleep_note(generation, offset)) f(offset, i);
  }
}

}  // namespace

std::vector<sleep_sight> sleeps_of(process_id id) {
  std::vector<sleep_sight> all;
  if (slot_of_process(id) >= processes_max || !process_alive(id)) return all;
  const process_cells& cells = cells_of(slot_of_process(id));
  const std::uint64_t generation = generation_of_process(id);
  each_sleep(cells.sleeps, cells.sleeps_used.load(std::memory_order_relaxed), generation,
             [&](std::uint64_t offset, std::uint32_t i) { all.push_back({offset, more_sleeps_max + i}); });
  each_sleep(cells.more_sleeps, cells.more_sleeps_used.load(std::memory_order_relaxed), generation,
             [&](std::uint64_t offset, std::uint32_t) {
               const auto first = static_cast<std::uint32_t>(offset % page_bytes);
               all.push_back({offset - first, first % more_sleeps_max});
             });
  if (!process_alive(id)) all.clear();
  return all;
}

}  // namespace covey::detail
