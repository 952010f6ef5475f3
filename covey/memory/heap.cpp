// Offsets count from the region's first byte. Two levels:
//
// Runs of granules (512 bytes), for blocks above 4 KiB and for chunks: first fit in a list sorted by address,
// neighbours joined. A free run is told by one word in its first bytes, so that every change of the list is one store:
//
//     63      32 31       0
//     | granules | next   |      next: first granule of the next free run, 0 is none; runs_ is such a word without size
//
// Small blocks: 28 sizes, a stack of free blocks each (linked through their first word), filled by carving a chunk:
//
//     chunk_:  63          24 23       0
//              | offset / 16 | left / 16 |
//
// used_ rises after a block has left the lists and falls before it returns to them: what is neither used nor free is
// what the dead had in hand.
#include <covey/memory/heap.hpp>

#include <algorithm>
#include <bit>
#include <covey/memory/region.hpp>
#include <new>

namespace covey::detail {
namespace {

constexpr std::uint64_t granule = 512;
constexpr std::uint64_t unit = 16;
constexpr std::uint64_t small_max = 4096;
constexpr std::uint64_t small_align_max = 64;
constexpr std::uint64_t chunk_max = 64 << 10;
constexpr std::uint64_t chunk_min = 4 << 10;
constexpr std::uint64_t commit_min = 16 << 10;
constexpr std::uint64_t commit_max = 16 << 20;

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }
constexpr std::uint64_t round_down(std::uint64_t n, std::uint64_t to) { return n / to * to; }

// 16, 32 … 128, then four to each doubling.
constexpr std::size_t class_of(std::uint64_t bytes) {
  if (bytes <= 128) return bytes <= unit ? 0 : static_cast<std::size_t>((bytes - 1) / unit);
  const auto width = static_cast<std::size_t>(std::bit_width(bytes - 1));
  return 8 + (width - 8) * 4 + static_cast<std::size_t>((bytes - 1 - (1ULL << (width - 1))) >> (width - 3));
}

constexpr std::uint64_t bytes_of(std::size_t size_class) {
  if (size_class < 8) return unit * (size_class + 1);
  const std::size_t width = 8 + (size_class - 8) / 4;
  return (1ULL << (width - 1)) + ((size_class - 8) % 4 + 1) * (1ULL << (width - 3));
}

// Blocks of a class lie at multiples of this.
constexpr std::uint64_t align_of(std::size_t size_class) {
  const std::uint64_t bytes = bytes_of(size_class);
  return std::min(bytes & (~bytes + 1), small_align_max);
}

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

constexpr std::uint64_t run_word(std::uint64_t granules, std::uint64_t next) { return granules << 32 | next; }
constexpr std::uint64_t run_size(std::uint64_t word) { return word >> 32; }
constexpr std::uint64_t run_next(std::uint64_t word) { return word & 0xffff'ffff; }

constexpr std::uint64_t chunk_word(std::uint64_t offset, std::uint64_t left) {
  return offset / unit << 24 | left / unit;
}
constexpr std::uint64_t chunk_at(std::uint64_t word) { return (word >> 24) * unit; }
constexpr std::uint64_t chunk_left(std::uint64_t word) { return (word & 0xff'ffff) * unit; }

// Relaxed: only the owner of the lock reads.
std::uint64_t read(const std::atomic<std::uint64_t>& word) { return word.load(std::memory_order_relaxed); }

// A store that makes valid what was prepared before it. Release keeps it behind those; a killed thread has done all its
// instructions up to some point, and its successor learns of the death only later.
void publish(std::atomic<std::uint64_t>& word, std::uint64_t value) { word.store(value, std::memory_order_release); }

}  // namespace

// The lock, taken also after an owner's death: there is nothing to repair.
class heap::held {
 public:
  explicit held(lock_word& lock) : lock_(lock) { lock_.lock(lock_word::unrepaired_lock::take); }
  held(const held&) = delete;
  held& operator=(const held&) = delete;
  ~held() { lock_.unlock(); }

 private:
  lock_word& lock_;
};

heap::heap(std::uint64_t first, std::uint64_t committed, std::uint64_t end) noexcept
    : first_(round_up(first, granule)),
      end_(std::min(end, granule << 32)),
      committed_(committed),
      frontier_(round_up(first, granule) / granule) {}

std::byte* heap::base() const noexcept {
  return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(this) & ~(std::uintptr_t{page_bytes} - 1));
}

std::atomic<std::uint64_t>& heap::word_at(std::uint64_t offset) const noexcept {
  return *reinterpret_cast<std::atomic<std::uint64_t>*>(base() + offset);
}

void* heap::allocate(std::size_t bytes, std::size_t align) {
  if (bytes > end_ || align > page_bytes) throw std::bad_alloc();
  const block_kind kind = kind_of(bytes, align);
  const held lock(lock_);
  const std::uint64_t offset = kind.small
                                   ? take_small(kind.size_class)
                                   : take_run(kind.granules, std::max<std::uint64_t>(align / granule, 1)) * granule;
  publish(used_, read(used_) + bytes_taken(kind));
  return base() + offset;
}

void heap::deallocate(void* p, std::size_t bytes, std::size_t align) noexcept {
  const block_kind kind = kind_of(bytes, align);
  const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(p) - base());
  try {
    const held lock(lock_);
    publish(used_, read(used_) - bytes_taken(kind));
    if (kind.small)
      push(kind.size_class, offset);
    else
      free_run(offset / granule, kind.granules);
  } catch (const std::system_error&) {
    // This thread cannot get a name, or was interrupted inside: the block stays used.
  }
}

// ---- small blocks --------------------------------------------------------------------------------------------------

std::uint64_t heap::take_small(std::size_t size_class) {
  const std::uint64_t head = read(free_[size_class]);
  if (head == 0) return carve(bytes_of(size_class), align_of(size_class));
  publish(free_[size_class], read(word_at(head)));
  return head;
}

void heap::push(std::size_t size_class, std::uint64_t offset) noexcept {
  word_at(offset).store(read(free_[size_class]), std::memory_order_relaxed);
  publish(free_[size_class], offset);
}

std::uint64_t heap::carve(std::uint64_t bytes, std::uint64_t align) {
  std::uint64_t word = read(chunk_);
  std::uint64_t at = round_up(chunk_at(word), align);
  if (at + bytes > chunk_at(word) + chunk_left(word)) {
    refill(bytes);
    word = read(chunk_);
    at = chunk_at(word);  // begins with a granule: aligned for all
  }
  const std::uint64_t end = chunk_at(word) + chunk_left(word);
  publish(chunk_, chunk_word(at + bytes, end - at - bytes));
  donate(chunk_at(word), at - chunk_at(word));
  return at;
}

// A new chunk; what is left of the old one becomes small free blocks.
void heap::refill(std::uint64_t least) {
  const std::uint64_t carved = read(frontier_) * granule - first_;
  std::uint64_t bytes = round_up(std::max(std::clamp(carved / 4, chunk_min, chunk_max), least), granule);
  std::uint64_t first = 0;
  try {
    first = take_run(bytes / granule, 1);
  } catch (const std::bad_alloc&) {  // nearly full: just what is needed
    bytes = round_up(least, granule);
    first = take_run(bytes / granule, 1);
  }
  const std::uint64_t old = read(chunk_);
  publish(chunk_, chunk_word(first * granule, bytes));
  donate(chunk_at(old), chunk_left(old));
}

// Bytes that no block has become yet become free blocks, the largest first.
void heap::donate(std::uint64_t offset, std::uint64_t bytes) noexcept {
  while (bytes >= unit) {
    std::size_t c = class_count - 1;
    while (bytes_of(c) > bytes || offset % align_of(c) != 0) --c;
    push(c, offset);
    offset += bytes_of(c);
    bytes -= bytes_of(c);
  }
}

// ---- runs ----------------------------------------------------------------------------------------------------------

// Takes from the end of the first run that is large enough, so that what remains keeps its place in the list.
std::uint64_t heap::take_run(std::uint64_t granules, std::uint64_t align) {
  std::atomic<std::uint64_t>* before = &runs_;
  for (std::uint64_t run; (run = run_next(read(*before))) != 0; before = &word_at(run * granule)) {
    std::atomic<std::uint64_t>& word = word_at(run * granule);
    const std::uint64_t size = run_size(read(word));
    if (size < granules) continue;
    const std::uint64_t first = round_down(run + size - granules, align);
    if (first < run) continue;
    if (first == run)
      publish(*before, run_word(run_size(read(*before)), run_next(read(word))));
    else
      publish(word, run_word(first - run, run_next(read(word))));
    if (first + granules < run + size) free_run(first + granules, run + size - first - granules);
    return first;
  }
  return extend(granules, align);
}

std::uint64_t heap::extend(std::uint64_t granules, std::uint64_t align) {
  const std::uint64_t frontier = read(frontier_);
  const std::uint64_t first = round_up(frontier, align);
  if ((first + granules) * granule > end_) throw std::bad_alloc();
  commit((first + granules) * granule);
  publish(frontier_, first + granules);
  if (first > frontier) free_run(frontier, first - frontier);
  return first;
}

void heap::free_run(std::uint64_t first, std::uint64_t granules) noexcept {
  std::atomic<std::uint64_t>* before = &runs_;
  std::uint64_t before_first = 0;
  std::uint64_t next = 0;
  while ((next = run_next(read(*before))) != 0 && next < first) {
    before_first = next;
    before = &word_at(next * granule);
  }
  if (next == first + granules) {
    const std::uint64_t swallowed = read(word_at(next * granule));
    granules += run_size(swallowed);
    next = run_next(swallowed);
  }
  const std::uint64_t before_size = run_size(read(*before));
  if (before != &runs_ && before_first + before_size == first) {
    publish(*before, run_word(before_size + granules, next));
    return;
  }
  word_at(first * granule).store(run_word(granules, next), std::memory_order_relaxed);
  publish(*before, run_word(before_size, first));
}

// Reserves the region up to `bytes` at least, in steps that grow with it.
void heap::commit(std::uint64_t bytes) {
  const std::uint64_t now = read(committed_);
  if (bytes <= now) return;
  const std::uint64_t needed = std::min(round_up(bytes, page_bytes), end_);
  const std::uint64_t wanted =
      std::min(std::max(needed, now + round_up(std::clamp(now / 4, commit_min, commit_max), page_bytes)), end_);
  for (const std::uint64_t to : {wanted, needed}) {
    if (!commit_pages(base() + now, to - now)) continue;
    publish(committed_, to);
    return;
  }
  throw std::bad_alloc();
}

heap_usage heap::usage() {
  const held lock(lock_);
  heap_usage u;
  u.committed = read(committed_);
  u.used = read(used_);
  u.free = chunk_left(read(chunk_));
  for (std::size_t c = 0; c < class_count; ++c)
    for (std::uint64_t block = read(free_[c]); block != 0; block = read(word_at(block))) u.free += bytes_of(c);
  for (std::uint64_t run = run_next(read(runs_)); run != 0; run = run_next(read(word_at(run * granule))))
    u.free += run_size(read(word_at(run * granule))) * granule;
  u.stranded = read(frontier_) * granule - first_ - u.used - u.free;
  return u;
}

}  // namespace covey::detail
