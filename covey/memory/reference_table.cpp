#include <covey/memory/reference_table.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <covey/memory/reaping.hpp>
#include <covey/memory/region.hpp>

namespace covey::detail {
namespace {

constexpr bool in_use(std::uint32_t generation) { return generation % 2 == 1; }

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

constexpr bool is_region(std::uint64_t from) { return (from & (edge_from_process | edge_from_arguments)) == 0; }

// An unmapped page between neighbours catches what runs over an end.
constexpr std::uint64_t with_guard_page(std::uint64_t bytes) { return bytes + page_bytes; }

}  // namespace

reference_table::reference_table(ledger& book, int arena_fd, std::uint64_t arena_bytes)
    : book_(book), arena_fd_(arena_fd), arena_bytes_(arena_bytes) {
  space_[page_bytes] = arena_bytes - page_bytes;  // offset 0 is no region
  rebuild();
}

void reference_table::rebuild() {
  std::vector<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < book_.regions_used.load(std::memory_order_relaxed); ++i) {
    const region_entry& r = book_.regions[i];
    const std::uint32_t generation = r.generation.load(std::memory_order_relaxed);
    if (!in_use(generation)) {
      free_regions_.push_back(i);
      continue;
    }
    const auto it = std::prev(space_.upper_bound(r.offset));
    const auto [begin, bytes] = *it;
    const std::uint64_t end = r.offset + with_guard_page(r.bytes);
    space_.erase(it);
    if (r.offset > begin) space_[begin] = r.offset - begin;
    if (begin + bytes > end) space_[end] = begin + bytes - end;
    ids.push_back(i | static_cast<std::uint64_t>(generation) << 32);
  }
  for (std::uint32_t i = 0; i < book_.edges_used.load(std::memory_order_relaxed); ++i) {
    const edge_entry& e = book_.edges[i];
    const std::uint64_t to = e.to.load(std::memory_order_relaxed);
    if (to == 0) {
      free_edges_.push_back(i);
      continue;
    }
    edges_[{e.from, e.message, to}] = i;
    count_edge(to, 0, e.count);
  }
  drop_edges_of_the_gone();
  for (const std::uint64_t id : ids) free_if_unreferenced(id);
}

std::uint64_t reference_table::find_made(const wanted& w) const {
  for (std::uint32_t i = 0; i < book_.regions_used.load(std::memory_order_relaxed); ++i) {
    const region_entry& r = book_.regions[i];
    const std::uint32_t generation = r.generation.load(std::memory_order_relaxed);
    if (in_use(generation) && r.made_for == w.made_for && r.made_by == w.made_by)
      return i | static_cast<std::uint64_t>(generation) << 32;
  }
  return 0;
}

// A former keeper may have been killed between freeing a region and dropping what it held.
void reference_table::drop_edges_of_the_gone() {
  std::vector<std::uint64_t> gone;
  for (const auto& [key, index] : edges_)
    if (is_region(key.from) && find(key.from) == nullptr && (gone.empty() || gone.back() != key.from))
      gone.push_back(key.from);
  for (const std::uint64_t from : gone) drop_all_from(from);
}

result<reference_table::made> reference_table::make_region(const wanted& w, bool again) {
  if (const std::uint64_t known = again ? find_made(w) : 0; known != 0) return made{known, entry(known).offset};
  const std::uint32_t used = book_.regions_used.load(std::memory_order_relaxed);
  if (free_regions_.empty() && used == regions_max) return from_errno(ENOSPC, "make_region");
  if (w.bytes == 0 || w.bytes > arena_bytes_) return from_errno(ENOMEM, "make_region");
  const std::uint64_t size = whole_pages(w.bytes);
  const std::uint64_t offset = take_space(with_guard_page(size), std::max<std::uint64_t>(w.align, page_bytes));
  if (offset == 0) return from_errno(ENOMEM, "make_region");
  std::uint32_t index = used;
  if (free_regions_.empty()) {
    book_.regions_used.store(used + 1, std::memory_order_relaxed);
  } else {
    index = free_regions_.back();
    free_regions_.pop_back();
  }
  region_entry& r = book_.regions[index];
  r.kind = w.kind;
  r.offset = offset;
  r.bytes = size;
  r.made_for = w.made_for;
  r.made_by = w.made_by;
  r.type = w.type;
  r.destroy = w.destroy;
  r.damaged.store(0, std::memory_order_relaxed);
  r.ending.store(0, std::memory_order_relaxed);
  r.left_by_the_dead.store(0, std::memory_order_relaxed);
  r.kept.store(0, std::memory_order_relaxed);
  const std::uint32_t generation = r.generation.load(std::memory_order_relaxed) + 1;
  r.generation.store(generation, std::memory_order_release);  // valid from here; pairs with find() in members
  return made{index | static_cast<std::uint64_t>(generation) << 32, offset};
}

const region_entry* reference_table::find(std::uint64_t id) const {
  if (static_cast<std::uint32_t>(id) >= book_.regions_used.load(std::memory_order_relaxed)) return nullptr;
  const region_entry& r = entry(id);
  const std::uint32_t generation = r.generation.load(std::memory_order_relaxed);
  return in_use(generation) && generation == id >> 32 ? &r : nullptr;
}

void reference_table::count_edge(std::uint64_t to, std::int64_t before, std::int64_t after) {
  if (before <= 0 && after > 0) ++holders_[to];
  if (before > 0 && after <= 0) --holders_[to];
}

// False: there is no room for it.
bool reference_table::set_edge(const edge_key& key, std::int64_t count) {
  const auto known = edges_.find(key);
  if (known != edges_.end()) {
    edge_entry& e = book_.edges[known->second];
    count_edge(key.to, e.count, count);
    e.count = count;
    if (count != 0) return true;
    e.to.store(0, std::memory_order_release);
    free_edges_.push_back(known->second);
    edges_.erase(known);
    return true;
  }
  if (count == 0) return true;
  std::uint32_t index = 0;
  if (!free_edges_.empty()) {
    index = free_edges_.back();
    free_edges_.pop_back();
  } else {
    index = book_.edges_used.load(std::memory_order_relaxed);
    if (index == edges_max) return false;
    book_.edges_used.store(index + 1, std::memory_order_relaxed);
  }
  edge_entry& e = book_.edges[index];
  e.from = key.from;
  e.message = key.message;
  e.count = count;
  e.to.store(key.to, std::memory_order_release);  // valid from here
  edges_[key] = index;
  count_edge(key.to, 0, count);
  return true;
}

bool reference_table::hold(std::uint64_t from, std::uint64_t to) {
  return find(to) == nullptr || set_edge({from, 0, to}, 1);
}

// By value: the key may be the one in `edges_`.
void reference_table::drop_edge(edge_key key) {
  set_edge(key, 0);
  free_if_unreferenced(key.to);
}

void reference_table::drop(std::uint64_t from, std::uint64_t to) { drop_edge({from, 0, to}); }

bool reference_table::attach(std::uint64_t carrier, std::uint64_t number, std::uint64_t to) {
  return number == 0 || find(carrier) == nullptr || find(to) == nullptr || set_edge({carrier, number, to}, 1);
}

void reference_table::detach(std::uint64_t carrier, std::uint64_t number) {
  if (number == 0) return;
  for (;;) {
    const auto it = edges_.lower_bound({carrier, number, 0});
    if (it == edges_.end() || it->first.from != carrier || it->first.message != number) return;
    drop_edge(it->first);
  }
}

bool reference_table::release(std::uint64_t from, std::uint64_t to) {
  const auto own = edges_.find({from, 0, to});
  if (own == edges_.end()) return false;
  const bool is_last = book_.edges[own->second].count > 0 && holders_[to] == 1;
  const region_entry& r = entry(to);
  if (is_last && r.left_by_the_dead.load(std::memory_order_relaxed) == 0 &&
      r.kept.load(std::memory_order_relaxed) == 0) {
    entry(to).ending.store(1, std::memory_order_release);
    return true;
  }
  drop(from, to);
  return false;
}

void reference_table::add(std::uint64_t from, std::uint64_t to, std::int64_t delta) {
  if (find(to) == nullptr) return;
  const auto known = edges_.find({from, 0, to});
  const std::int64_t before = known == edges_.end() ? 0 : book_.edges[known->second].count;
  if (!set_edge({from, 0, to}, before + delta)) entry(to).kept.store(1, std::memory_order_relaxed);
  if (delta < 0) free_if_unreferenced(to);
}

bool reference_table::holds(std::uint64_t from, std::uint64_t to) const { return edges_.contains({from, 0, to}); }

bool reference_table::mark_damaged(std::uint64_t from, std::uint64_t to) {
  return holds(from, to) && entry(to).damaged.exchange(1, std::memory_order_release) == 0;
}

void reference_table::drop_all_from(std::uint64_t from) {
  for (;;) {
    const auto it = edges_.lower_bound({from, 0, 0});
    if (it == edges_.end() || it->first.from != from) return;
    if ((from & edge_from_process) != 0) entry(it->first.to).left_by_the_dead.store(1, std::memory_order_release);
    drop_edge(it->first);
  }
}

bool reference_table::copy_all(std::uint64_t from, std::uint64_t new_from) {
  std::vector<std::uint64_t> held;
  for (auto it = edges_.lower_bound({from, 0, 0}); it != edges_.end() && it->first.from == from; ++it)
    held.push_back(it->first.to);
  if (std::ranges::all_of(held, [&](std::uint64_t to) { return hold(new_from, to); })) return true;
  for (const std::uint64_t to : held) drop(new_from, to);  // not as of the dead: nobody held them there
  return false;
}

void reference_table::free_if_unreferenced(std::uint64_t id) {
  const auto h = holders_.find(id);
  if (h != holders_.end() && h->second > 0) return;
  if (find(id) == nullptr || entry(id).kept.load(std::memory_order_relaxed) != 0) return;
  to_free_.push_back(id);
  free_all_unreferenced();
}

// What goes with a region may be the last reference to another, and so on along a list of any length: not by recursion.
void reference_table::free_all_unreferenced() {
  if (std::exchange(freeing_, true)) return;
  while (!to_free_.empty()) {
    const std::uint64_t id = to_free_.back();
    to_free_.pop_back();
    if (find(id) != nullptr) free_region(id);
  }
  freeing_ = false;
}

// Pages first, then the entry: a keeper killed between leaves an entry that nobody refers to, which the next one frees
// again.
void reference_table::free_region(std::uint64_t id) {
  region_entry& r = entry(id);
  ::fallocate(arena_fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(r.offset),
              static_cast<off_t>(r.bytes));
  r.generation.fetch_add(1, std::memory_order_release);
  if (r.kind == static_cast<std::uint32_t>(region_kind::subscription)) wake_everybody();
  give_space(r.offset, with_guard_page(r.bytes));
  free_regions_.push_back(static_cast<std::uint32_t>(id));
  holders_.erase(id);
  drop_all_from(id);
}

std::uint64_t reference_table::take_space(std::uint64_t bytes, std::uint64_t align) {
  const auto aligned = [align](std::uint64_t offset) { return (offset + align - 1) & ~(align - 1); };
  const auto fits = [&](const auto& s) { return aligned(s.first) - s.first + bytes <= s.second; };
  const auto it = std::find_if(space_.begin(), space_.end(), fits);
  if (it == space_.end()) return 0;
  const auto [begin, available] = *it;
  const std::uint64_t offset = aligned(begin);
  space_.erase(it);
  if (offset > begin) space_[begin] = offset - begin;
  if (begin + available > offset + bytes) space_[offset + bytes] = begin + available - offset - bytes;
  return offset;
}

void reference_table::give_space(std::uint64_t offset, std::uint64_t bytes) {
  auto next = space_.lower_bound(offset);
  if (next != space_.end() && next->first == offset + bytes) {
    bytes += next->second;
    next = space_.erase(next);
  }
  if (next != space_.begin()) {
    if (auto before = std::prev(next); before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  space_[offset] = bytes;
}

}  // namespace covey::detail
