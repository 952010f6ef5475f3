// What lies where is drawn in heap_layout.hpp.
#include <covey/memory/heap.hpp>

#include <algorithm>
#include <covey/memory/family.hpp>
#include <covey/memory/heap_layout.hpp>
#include <covey/memory/heap_survey.hpp>
#include <covey/memory/region.hpp>
#include <new>
#include <utility>
#include <vector>

namespace covey::detail {
namespace {

using namespace heap_layout;

constexpr std::uint64_t chunk_min = 4 << 10;
constexpr std::uint64_t commit_min = 16 << 10;
constexpr std::uint64_t commit_max = 16 << 20;

static_assert([] {
  for (std::uint64_t bytes = 1; bytes <= small_max; ++bytes) {
    const std::size_t c = class_of(bytes);
    if (c >= heap::class_count || bytes_of(c) < bytes || (c > 0 && bytes_of(c - 1) >= bytes)) return false;
    // A size rounded up to an alignment has a class of that alignment.
    for (std::uint64_t a = unit; a <= small_align_max; a *= 2)
      if (round_up(bytes, a) <= small_max && align_of(class_of(round_up(bytes, a))) < a) return false;
  }
  return true;
}());

// What allocate and deallocate must agree on.
struct block_kind {
  bool small;
  std::size_t size_class;  // of a small one
  std::uint64_t granules;  // of a large one
};

constexpr block_kind kind_of(std::size_t bytes, std::size_t align) {
  const std::uint64_t size = round_up(std::max<std::uint64_t>(bytes, 1), std::max<std::uint64_t>(align, 1));
  if (size <= small_max && align <= small_align_max) return {true, class_of(size), 0};
  return {false, 0, (std::max<std::uint64_t>(bytes, 1) + granule - 1) / granule};
}

constexpr std::uint64_t bytes_taken(const block_kind& k) {
  return k.small ? bytes_of(k.size_class) : k.granules * granule;
}

// Relaxed: only the owner of the lock reads.
std::uint64_t read(const std::atomic<std::uint64_t>& word) { return word.load(std::memory_order_relaxed); }

// A store that makes valid what was prepared before it. Release keeps it behind those; a killed thread has done all its
// instructions up to some point, and its successor learns of the death only later.
void publish(std::atomic<std::uint64_t>& word, std::uint64_t value) { word.store(value, std::memory_order_release); }

[[noreturn]] void damaged() { throw memory_damaged("covey: the heap of a shared object was written over"); }

}  // namespace

// The heap while this thread has its lock, taken also after an owner's death: there is nothing to repair. Its limits
// were checked against the ledger, and are used as copies; whatever else is read is checked against these.
class heap::opened {
 public:
  opened(heap& h, std::uint64_t end) : h_(h) {
    h_.lock_.lock(lock_word::unrepaired_lock::take);
    first_ = h_.first_;
    limit_ = h_.limit_;
    committed_ = read(h_.committed_);
    starts_committed_ = read(h_.starts_committed_);
    frontier_ = read(h_.frontier_);
    const bool sound = read(h_.sound_) == heap_is_sound && is_within(end) && committed_ <= limit_ &&
                       frontier_ <= committed_ / granule && first_ >= sizeof(heap) && first_ <= frontier_ * granule;
    if (sound) return;
    h_.lock_.unlock();
    damaged();
  }
  opened(const opened&) = delete;
  opened& operator=(const opened&) = delete;
  ~opened() { h_.lock_.unlock(); }

  std::uint64_t take(const block_kind& kind, std::size_t align);
  void give(const block_kind& kind, std::uint64_t offset);
  [[nodiscard]] heap_usage usage() const;
  std::uint64_t reclaim();

 private:
  [[nodiscard]] std::atomic<std::uint64_t>& word_at(std::uint64_t offset) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(h_.base() + offset);
  }

  // Whether what the heap has lies in a region of so many bytes.
  [[nodiscard]] bool is_within(std::uint64_t bytes) const noexcept {
    if (limit_ > bytes || limit_ > granule << 32 || first_ % granule != 0 || first_ > bytes) return false;
    const std::uint64_t starts = starts_bytes(first_, limit_);
    return starts <= bytes - limit_ && starts_committed_ <= starts && starts_committed_ % page_bytes == 0 &&
           (starts == 0 || limit_ % page_bytes == 0);
  }

  // For how many granules, from the first on, it can be told where blocks begin.
  [[nodiscard]] std::uint64_t granules_told() const noexcept { return starts_committed_ / sizeof(std::uint32_t); }
  // The `n`th of them.
  [[nodiscard]] std::atomic<std::uint32_t>& starts_of(std::uint64_t n) const noexcept {
    return reinterpret_cast<std::atomic<std::uint32_t>*>(h_.base() + limit_)[n];
  }
  void have_starts(std::uint64_t end);
  void begins_at(std::uint64_t offset, std::uint64_t bytes) noexcept;

  struct span {
    std::uint64_t at, bytes;
  };
  [[nodiscard]] bool was_handed_out(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    return offset >= first_ && offset % unit == 0 && bytes <= frontier_ * granule &&
           offset <= frontier_ * granule - bytes;
  }
  template <class Free>
  void each_free(const Free& use) const;
  [[nodiscard]] heap_survey survey() const;
  [[nodiscard]] std::uint64_t offset_in_arena() const { return static_cast<std::uint64_t>(h_.base() - family.arena); }

  std::uint64_t checked_block(std::uint64_t offset, std::size_t size_class) const;
  [[nodiscard]] span checked_chunk() const;
  std::uint64_t checked_run(std::uint64_t run, std::uint64_t after) const;

  std::uint64_t take_small(const block_kind& kind);
  std::uint64_t carve(const block_kind& kind);
  span refill(const span& old, std::uint64_t least);
  void push(std::size_t size_class, std::uint64_t offset) noexcept;
  void donate(std::uint64_t offset, std::uint64_t bytes) noexcept;

  std::uint64_t take_run(std::uint64_t granules, std::uint64_t align);
  std::uint64_t extend(std::uint64_t granules, std::uint64_t align);
  void free_run(std::uint64_t first, std::uint64_t granules);
  void commit(std::uint64_t bytes);

  heap& h_;
  std::uint64_t first_, limit_, committed_, starts_committed_, frontier_;
};

heap::heap(std::uint64_t first, std::uint64_t committed, std::uint64_t limit) noexcept
    : sound_(heap_is_sound),
      first_(round_up(first, granule)),
      limit_(std::min(limit, granule << 32)),
      committed_(std::min(committed, limit)),
      frontier_(round_up(first, granule) / granule) {}

std::byte* heap::base() const noexcept {
  return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(this) & ~(std::uintptr_t{page_bytes} - 1));
}

bool heap::contains(const void* p) const noexcept {
  return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - base()) < bytes_mapped_at(base());
}

bool heap::sound_approx() const noexcept { return bytes_mapped_at(base()) != 0 && read(sound_) == heap_is_sound; }

// `this` may have been read from shared memory: nothing is touched before the ledger says that there is an object.
template <class Use>
auto heap::open(const Use& use) {
  const std::uint64_t end = bytes_mapped_at(base());
  if (end == 0 || reinterpret_cast<std::uintptr_t>(this) % alignof(heap) != 0) damaged();
  try {
    opened h(*this, end);
    return use(h);
  } catch (const memory_damaged&) {
    publish(sound_, 0);
    if (const std::uint64_t id = region_around(this); !is_damaged(id)) report_damage(id);
    throw;
  }
}

void* heap::allocate(std::size_t bytes, std::size_t align) {
  if (bytes > granule << 32 || align > page_bytes) throw std::bad_alloc();
  const block_kind kind = kind_of(bytes, align);
  return open([&](opened& h) { return base() + h.take(kind, align); });
}

void heap::deallocate(void* p, std::size_t bytes, std::size_t align) noexcept {
  const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(p) - base());
  try {
    open([&](opened& h) { h.give(kind_of(bytes, align), offset); });
  } catch (const std::exception&) {
    // Damaged; or this thread cannot get a name, or was interrupted inside: the block stays used.
  }
}

heap_usage heap::usage() {
  return open([](const opened& h) { return h.usage(); });
}

std::uint64_t heap::reclaim() {
  return open([](opened& h) { return h.reclaim(); });
}

std::uint64_t heap::opened::take(const block_kind& kind, std::size_t align) {
  const std::uint64_t offset =
      kind.small ? take_small(kind) : take_run(kind.granules, std::max<std::uint64_t>(align / granule, 1)) * granule;
  publish(h_.used_, read(h_.used_) + bytes_taken(kind));
  return offset;
}

void heap::opened::give(const block_kind& kind, std::uint64_t offset) {
  if (!was_handed_out(offset, bytes_taken(kind)) || (!kind.small && offset % granule != 0)) damaged();
  publish(h_.used_, read(h_.used_) - bytes_taken(kind));
  if (kind.small)
    push(kind.size_class, offset);
  else
    free_run(offset / granule, kind.granules);
}

// ---- small blocks --------------------------------------------------------------------------------------------------

std::uint64_t heap::opened::checked_block(std::uint64_t offset, std::size_t size_class) const {
  if (offset % align_of(size_class) != 0 || !was_handed_out(offset, bytes_of(size_class))) damaged();
  return offset;
}

heap::opened::span heap::opened::checked_chunk() const {
  const std::uint64_t word = read(h_.chunk_);
  const span chunk{chunk_at(word), chunk_left(word)};
  if (chunk.bytes > chunk_max || (chunk.bytes != 0 && !was_handed_out(chunk.at, chunk.bytes))) damaged();
  return chunk;
}

std::uint64_t heap::opened::take_small(const block_kind& kind) {
  const std::uint64_t head = read(h_.free_[kind.size_class]);
  if (head == 0) return carve(kind);
  const std::uint64_t next = read(word_at(checked_block(head, kind.size_class)));
  publish(h_.free_[kind.size_class], next);
  return head;
}

void heap::opened::push(std::size_t size_class, std::uint64_t offset) noexcept {
  word_at(offset).store(read(h_.free_[size_class]), std::memory_order_relaxed);
  publish(h_.free_[size_class], offset);
}

std::uint64_t heap::opened::carve(const block_kind& kind) {
  const std::uint64_t bytes = bytes_of(kind.size_class);
  const std::uint64_t align = align_of(kind.size_class);
  span chunk = checked_chunk();
  std::uint64_t at = round_up(chunk.at, align);
  if (at + bytes > chunk.at + chunk.bytes) {
    chunk = refill(chunk, bytes);
    at = chunk.at;  // begins with a granule: aligned for all
  }
  begins_at(chunk.at, at - chunk.at);
  begins_at(at, bytes);
  publish(h_.chunk_, chunk_word(at + bytes, chunk.at + chunk.bytes - at - bytes));
  donate(chunk.at, at - chunk.at);
  return at;
}

// A new chunk; what is left of the old one becomes small free blocks.
heap::opened::span heap::opened::refill(const span& old, std::uint64_t least) {
  const std::uint64_t carved = frontier_ * granule - first_;
  span fresh{0, round_up(std::max(std::clamp(carved / 4, chunk_min, chunk_max), least), granule)};
  try {
    fresh.at = take_run(fresh.bytes / granule, 1) * granule;
  } catch (const std::bad_alloc&) {  // nearly full: just what is needed
    fresh.bytes = round_up(least, granule);
    fresh.at = take_run(fresh.bytes / granule, 1) * granule;
  }
  begins_at(old.at, old.bytes);
  publish(h_.chunk_, chunk_word(fresh.at, fresh.bytes));
  donate(old.at, old.bytes);
  return fresh;
}

// Bytes that no block has become yet become free blocks, the largest first.
void heap::opened::donate(std::uint64_t offset, std::uint64_t bytes) noexcept {
  while (bytes >= unit) {
    std::size_t c = class_count - 1;
    while (bytes_of(c) > bytes || offset % align_of(c) != 0) --c;
    begins_at(offset, bytes_of(c));
    push(c, offset);
    offset += bytes_of(c);
    bytes -= bytes_of(c);
  }
}

// ---- runs ----------------------------------------------------------------------------------------------------------

// The word of a free run that is named by the one before, which ends at `after`: runs lie in order, so a walk ends.
std::uint64_t heap::opened::checked_run(std::uint64_t run, std::uint64_t after) const {
  if (run < after || run >= frontier_ || run * granule < first_) damaged();
  const std::uint64_t word = read(word_at(run * granule));
  if (run_size(word) == 0 || run_size(word) > frontier_ - run) damaged();
  return word;
}

// Takes from the end of the first run that is large enough, so that what remains keeps its place in the list.
std::uint64_t heap::opened::take_run(std::uint64_t granules, std::uint64_t align) {
  std::atomic<std::uint64_t>* before = &h_.runs_;
  std::uint64_t before_word = read(*before);
  std::uint64_t after = 0;
  for (std::uint64_t run; (run = run_next(before_word)) != 0;) {
    const std::uint64_t word = checked_run(run, after);
    const std::uint64_t size = run_size(word);
    const std::uint64_t first = size < granules ? 0 : round_down(run + size - granules, align);
    if (first < run) {
      before = &word_at(run * granule);
      before_word = word;
      after = run + size;
      continue;
    }
    const std::uint64_t rest = run + size - first - granules;
    begins_at(first * granule, granules * granule);
    begins_at((first + granules) * granule, rest * granule);
    if (first == run)
      publish(*before, run_word(run_size(before_word), run_next(word)));
    else
      publish(word_at(run * granule), run_word(first - run, run_next(word)));
    if (rest != 0) free_run(first + granules, rest);
    return first;
  }
  return extend(granules, align);
}

std::uint64_t heap::opened::extend(std::uint64_t granules, std::uint64_t align) {
  const std::uint64_t before = frontier_;
  const std::uint64_t first = round_up(before, align);
  if (granules > limit_ / granule || first > limit_ / granule - granules) throw std::bad_alloc();
  commit((first + granules) * granule);
  have_starts(first + granules);
  begins_at(first * granule, granules * granule);
  begins_at(before * granule, (first - before) * granule);
  frontier_ = first + granules;
  publish(h_.frontier_, frontier_);
  if (first > before) free_run(before, first - before);
  return first;
}

void heap::opened::free_run(std::uint64_t first, std::uint64_t granules) {
  std::atomic<std::uint64_t>* before = &h_.runs_;
  std::uint64_t before_word = read(*before);
  std::uint64_t before_end = 0;
  std::uint64_t word = 0;
  while (run_next(before_word) != 0) {
    const std::uint64_t run = run_next(before_word);
    word = checked_run(run, before_end);
    if (run >= first) break;
    before = &word_at(run * granule);
    before_word = word;
    before_end = run + run_size(word);
  }
  std::uint64_t next = run_next(before_word);
  if (before_end > first || (next != 0 && next < first + granules)) damaged();  // freed twice, or never given
  if (next == first + granules) {
    granules += run_size(word);
    next = run_next(word);
  }
  if (before != &h_.runs_ && before_end == first) {
    publish(*before, run_word(run_size(before_word) + granules, next));
    return;
  }
  word_at(first * granule).store(run_word(granules, next), std::memory_order_relaxed);
  publish(*before, run_word(run_size(before_word), first));
}

// Where blocks begin can be told before granule `end`: reserved with the memory itself, so that what was given back can
// be had again, in other pieces too, when the machine has no more.
void heap::opened::have_starts(std::uint64_t end) {
  const std::uint64_t bytes = (end - first_ / granule) * sizeof(std::uint32_t);
  const std::uint64_t needed = std::min(round_up(bytes, page_bytes), starts_bytes(first_, limit_));
  if (needed <= starts_committed_) return;
  if (!commit_touched_pages(h_.base() + limit_ + starts_committed_, needed - starts_committed_)) throw std::bad_alloc();
  starts_committed_ = needed;
  publish(h_.starts_committed_, needed);
}

// One block begins there, or what will be one, or will be free: nothing else does in so many bytes. All of it is free,
// or in hand.
void heap::opened::begins_at(std::uint64_t offset, std::uint64_t bytes) noexcept {
  if (bytes == 0) return;
  constexpr std::uint64_t units = granule / unit;
  const std::uint64_t from = (offset - first_) / unit;
  const std::uint64_t to = std::min(from + bytes / unit, granules_told() * units);
  for (std::uint64_t n = from / units; n * units < to; ++n) {
    std::atomic<std::uint32_t>& word = starts_of(n);
    const std::uint64_t low = std::max(from, n * units) % units,
                        count = std::min(to, (n + 1) * units) - n * units - low;
    const std::uint32_t those = (count == units ? ~0U : (1U << count) - 1) << low;
    const std::uint32_t before = word.load(std::memory_order_relaxed);
    const std::uint32_t after = (before & ~those) | (n == from / units ? 1U << low : 0);
    if (after != before) word.store(after, std::memory_order_release);
  }
}

// Reserves the region up to `bytes` at least, in steps that grow with it.
void heap::opened::commit(std::uint64_t bytes) {
  if (bytes <= committed_) return;
  const std::uint64_t needed = std::min(round_up(bytes, page_bytes), limit_);
  const std::uint64_t step = round_up(std::clamp(committed_ / 4, commit_min, commit_max), page_bytes);
  const std::uint64_t wanted = std::min(std::max(needed, committed_ + step), limit_);
  for (const std::uint64_t to : {wanted, needed}) {
    if (!commit_touched_pages(h_.base() + committed_, to - committed_)) continue;
    committed_ = to;
    publish(h_.committed_, to);
    return;
  }
  throw std::bad_alloc();
}

template <class Free>
void heap::opened::each_free(const Free& use) const {
  std::uint64_t left = frontier_ * granule - first_;
  const auto add = [&](std::uint64_t offset, std::uint64_t bytes) {
    if (bytes > left) damaged();  // a list that goes round, among others
    left -= bytes;
    use(offset, bytes);
  };
  const span chunk = checked_chunk();
  add(chunk.at, chunk.bytes);
  for (std::size_t c = 0; c < class_count; ++c)
    for (std::uint64_t block = read(h_.free_[c]); block != 0; block = read(word_at(block)))
      add(checked_block(block, c), bytes_of(c));
  std::uint64_t after = 0;
  for (std::uint64_t run = run_next(read(h_.runs_)); run != 0;) {
    const std::uint64_t word = checked_run(run, after);
    add(run * granule, run_size(word) * granule);
    after = run + run_size(word);
    run = run_next(word);
  }
}

heap_usage heap::opened::usage() const {
  heap_usage u;
  u.committed = committed_;
  u.used = read(h_.used_);
  const std::uint64_t all = frontier_ * granule - first_;
  each_free([&](std::uint64_t, std::uint64_t bytes) { u.free += bytes; });
  if (u.used > all - u.free) damaged();
  u.stranded = all - u.used - u.free;
  if (u.used + u.stranded == 0 || !is_left_by_the_dead(region_around(&h_))) return u;
  heap_survey s = survey();
  if (look_for_unlinked(s, offset_in_arena())) u.stranded = std::max(u.stranded, s.unlinked_bytes());
  return u;
}

// Allocates under the lock, and may throw: whoever has it may die at any instruction, and leaves a valid heap.
heap_survey heap::opened::survey() const {
  std::vector<std::uint32_t> starts(std::min(frontier_ - first_ / granule, granules_told()));
  for (std::uint64_t n = 0; n < starts.size(); ++n) starts[n] = starts_of(n).load(std::memory_order_relaxed);
  heap_survey s({.base = reinterpret_cast<std::uintptr_t>(h_.base()), .first = first_, .end = frontier_ * granule},
                std::move(starts));
  each_free([&](std::uint64_t offset, std::uint64_t bytes) { s.is_free(offset, bytes); });
  return s;
}

// First all of it is in hand, by one store: who is killed then leaves the rest so, for the next.
std::uint64_t heap::opened::reclaim() {
  if (frontier_ * granule == first_) return 0;
  heap_survey s = survey();
  if (!look_for_unlinked(s, offset_in_arena())) return 0;
  const std::uint64_t bytes = s.unlinked_bytes();
  if (bytes == 0) return 0;
  publish(h_.used_, s.linked_bytes());
  s.each_unlinked([&](std::uint64_t offset, std::uint64_t size) {
    if (offset % granule == 0 && size % granule == 0)
      free_run(offset / granule, size / granule);
    else
      donate(offset, size);
  });
  return bytes;
}

}  // namespace covey::detail
