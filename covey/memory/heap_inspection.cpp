// The words of the heap are copied, then what its lists name, then the words again: when nobody has the lock and the
// words are the same, the lists are what they said.
#include <covey/memory/heap_inspection.hpp>

#include <unistd.h>

#include <covey/memory/allocator.hpp>
#include <covey/memory/heap_survey.hpp>
#include <covey/memory/region.hpp>

namespace covey::detail {
namespace {

using namespace heap_layout;

// A region as the ledger tells it, with one page of it in private memory: neighbours in a list are often neighbours.
class copied_region {
 public:
  explicit copied_region(const region_entry& e) : begin_(e.offset), bytes_(e.bytes) {}

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  std::optional<image> words() const {
    image i;
    if (!read(offsetof(root, memory), std::as_writable_bytes(std::span(&i, 1)))) return std::nullopt;
    return i;
  }

  std::optional<std::uint64_t> word_at(std::uint64_t offset) {
    const std::uint64_t page = offset / page_bytes * page_bytes;
    if (page != page_at_ && !read(page, std::as_writable_bytes(std::span(page_)))) return std::nullopt;
    page_at_ = page;
    return page_[(offset - page) / sizeof(std::uint64_t)];
  }

  // Where blocks begin, for each granule from the first on, below the frontier.
  std::optional<std::vector<std::uint32_t>> starts(const image& h) const {
    std::vector<std::uint32_t> words(
        std::min(h.frontier - h.first / granule, h.starts_committed / sizeof(std::uint32_t)));
    if (!read(h.limit, std::as_writable_bytes(std::span(words)))) return std::nullopt;
    return words;
  }

  // Where it lies in the arena, and in every process.
  [[nodiscard]] std::uint64_t begin() const { return begin_; }
  [[nodiscard]] std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(family.arena) + begin_; }

 private:
  bool read(std::uint64_t offset, std::span<std::byte> to) const {
    if (offset > bytes_ || to.size() > bytes_ - offset) return false;
    return ::pread(family.arena_fd, to.data(), to.size(), static_cast<off_t>(begin_ + offset)) ==
           static_cast<ssize_t>(to.size());
  }

  std::uint64_t begin_, bytes_;
  std::uint64_t page_at_ = ~0ULL;
  std::array<std::uint64_t, page_bytes / sizeof(std::uint64_t)> page_{};
};

bool makes_sense(const image& h, std::uint64_t bytes) {
  return h.sound == heap_is_sound && h.committed <= bytes && h.frontier <= h.committed / granule &&
         h.first >= sizeof(heap) && h.first % granule == 0 && h.first <= h.frontier * granule &&
         h.used <= h.frontier * granule - h.first;
}

// Adds up what the lists name, and tells a survey, if there is one; nothing when it is nonsense, or too long.
class free_bytes {
 public:
  free_bytes(copied_region& r, const image& h, heap_survey* survey)
      : r_(r), h_(h), survey_(survey), all_(h.frontier * granule - h.first) {}

  std::optional<std::uint64_t> count() {
    if (!add(chunk_at(h_.chunk), chunk_left(h_.chunk)) || !count_runs()) return std::nullopt;
    for (std::size_t c = 0; c < h_.free.size(); ++c)
      if (!count_blocks(c)) return std::nullopt;
    return sum_;
  }

 private:
  static constexpr int blocks_max = 50'000;

  bool add(std::uint64_t offset, std::uint64_t bytes) {
    if (bytes > all_ - sum_ || ++blocks_ > blocks_max) return false;
    if (survey_ != nullptr) survey_->is_free(offset, bytes);
    sum_ += bytes;
    return true;
  }

  // Within what was handed out, and aligned as words are.
  [[nodiscard]] std::optional<std::uint64_t> word_in(std::uint64_t offset) const {
    if (offset < h_.first || offset >= h_.frontier * granule || offset % unit != 0) return std::nullopt;
    return r_.word_at(offset);
  }

  bool count_blocks(std::size_t size_class) {
    for (std::uint64_t block = h_.free[size_class]; block != 0;) {
      const auto next = word_in(block);
      if (!next || !add(block, bytes_of(size_class))) return false;
      block = *next;
    }
    return true;
  }

  bool count_runs() {
    for (std::uint64_t run = run_next(h_.runs); run != 0;) {
      const auto word = word_in(run * granule);
      if (!word || !add(run * granule, run_size(*word) * granule)) return false;
      run = run_next(*word);
    }
    return true;
  }

  copied_region& r_;
  const image& h_;
  heap_survey* survey_;
  const std::uint64_t all_;
  std::uint64_t sum_ = 0;
  int blocks_ = 0;
};

bool is_being_changed(const image& h) { return (h.lock & 1023) != 0 && alive(h.lock & ~name_flags); }

std::optional<std::uint64_t> stranded_in(copied_region& r, const image& h, bool is_left, std::uint64_t& to_search) {
  if (is_being_changed(h)) return std::nullopt;
  const std::uint64_t end = h.frontier * granule;
  std::optional<heap_survey> survey;
  if (is_left && h.used != 0) {
    auto starts = end <= to_search ? r.starts(h) : std::nullopt;
    if (!starts) return std::nullopt;
    to_search -= end;
    survey.emplace(heap_survey::extent{r.address(), h.first, end}, *std::move(starts));
  }
  const auto free = free_bytes(r, h, survey ? &*survey : nullptr).count();
  const std::uint64_t all = end - h.first;
  if (!free || h.used > all - *free) return std::nullopt;
  if (survey && !look_for_unlinked(*survey, r.begin())) return std::nullopt;
  if (r.words() != h) return std::nullopt;
  return std::max(all - h.used - *free, survey ? survey->unlinked_bytes() : 0);
}

}  // namespace

std::optional<heap_sight> inspect_heap(std::uint64_t region_id, std::uint64_t& to_search) {
  const region_entry& e = family.book->regions[static_cast<std::uint32_t>(region_id) % regions_max];
  const auto is_there = [&] { return is_held_by_somebody(region_id); };
  if (!is_there() || e.kind != static_cast<std::uint32_t>(region_kind::object)) return std::nullopt;
  copied_region r(e);
  const auto h = r.words();
  if (!h || !makes_sense(*h, r.bytes())) return std::nullopt;
  const heap_sight s{
      .used = h->used,
      .committed = h->committed,
      .stranded = stranded_in(r, *h, e.left_by_the_dead.load(std::memory_order_acquire) != 0, to_search)};
  std::atomic_thread_fence(std::memory_order_acquire);
  if (!is_there()) return std::nullopt;  // then this was of its successor
  return s;
}

}  // namespace covey::detail
