// Who holds what is counted here in private memory; the keeper is asked and told at the first and the last reference
// only.
#include <covey/memory/holdings.hpp>

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <covey/memory/errors.hpp>
#include <map>
#include <mutex>

namespace covey::detail {
namespace {

// How many references of this process's private memory there are to each region, by index: to write in the lower half,
// to read in the upper. Whether there are any, and any to write, changes only under the mutex, together with the
// mapping and the keeper's knowledge.
std::atomic<std::uint64_t> local_counts[regions_max];

constexpr std::uint64_t one_writer = 1;
constexpr std::uint64_t one_reader = 1ULL << 32;
constexpr std::uint64_t one(access how) { return how == access::write ? one_writer : one_reader; }
constexpr bool may_write(std::uint64_t count) { return static_cast<std::uint32_t>(count) != 0; }

struct mapped_regions {
  std::mutex mutex;
  std::map<std::uint64_t, std::uint64_t> by_offset;  // of those mapped here: offset → id

  // A handle inside a region is used without being copied first: this process then holds what it names, until it finds
  // the handle changed or gives up the region around it. Address of the handle → id.
  std::map<std::uint64_t, std::uint64_t> looked_through;
  std::uint64_t checked_to = 0;  // the address up to which the looks were compared with their handles lately
};

mapped_regions& mapped() {
  static auto* const all = new mapped_regions;  // lives to the very end: handles may be static
  return *all;
}

// How often something left `looked_through`; raised under the mutex. What a thread looked through last holds as long as
// this has not changed.
std::atomic<std::uint64_t> looks_ended{0};

struct last_look {
  const void* handle = nullptr;
  std::uint64_t id = 0;
  std::uint64_t looks_ended = 0;
};
constinit thread_local last_look latest_look;

// How often a region was unmapped here; raised under the mutex. What a thread knows of a mapping holds as long as this
// has not changed.
std::atomic<std::uint64_t> unmaps{0};

struct known_mapping {
  const std::byte* begin = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t unmaps = 0;
};
constinit thread_local known_mapping latest_mapping;

std::uint32_t index_of(std::uint64_t id) { return static_cast<std::uint32_t>(id); }
std::atomic<std::uint64_t>& count_of(std::uint64_t id) { return local_counts[index_of(id)]; }
std::byte* begin_of(std::uint64_t id) { return family.arena + entry_of(id).offset; }

bool is_kind(std::uint64_t id, region_kind kind) { return entry_of(id).kind == static_cast<std::uint32_t>(kind); }

// ---- mapping; under the mutex ---------------------------------------------------------------------------------------

result<void> map_region(std::uint64_t id, access how) {
  const region_entry& r = entry_of(id);
  const bool writable = how == access::write && !is_kind(id, region_kind::lane);
  if (::mmap(begin_of(id), r.bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, family.arena_fd, static_cast<off_t>(r.offset)) == MAP_FAILED)
    return from_errno("mmap a shared region");
  mapped().by_offset[r.offset] = id;
  return {};
}

// Fails only when the system has no memory for another mapping.
result<void> allow(std::uint64_t id, access how) {
  if (is_kind(id, region_kind::lane)) return {};
  const int protection = how == access::write ? PROT_READ | PROT_WRITE : PROT_READ;
  if (::mprotect(begin_of(id), entry_of(id).bytes, protection) < 0) return from_errno("mprotect a shared region");
  return {};
}

void drop_hold(std::uint64_t id) noexcept {
  const std::array values{id};
  tell_keeper(keeper_op::drop, values);
}

// As take_locally, when the count may have to rise from 0. `weakly`: not if nobody else holds it.
result<void> take_first(std::uint64_t id, access how = access::write, bool weakly = false) {
  auto& count = count_of(id);
  const std::uint64_t now = count.load(std::memory_order_relaxed);
  if (now == 0) {
    const std::array values{id, std::uint64_t{weakly}};
    COVEY_TRY_VOID(ask_keeper(keeper_op::hold, values));
    if (auto done = map_region(id, how); !done) {
      drop_hold(id);
      return done.error();
    }
  } else if (how == access::write && !may_write(now)) {
    COVEY_TRY_VOID(allow(id, access::write));
  }
  count.fetch_add(one(how), std::memory_order_relaxed);
  return {};
}

// Whether one more reference changes nothing but the count; then it was counted.
bool take_another(std::uint64_t id, access how) {
  auto& count = count_of(id);
  for (std::uint64_t n = count.load(std::memory_order_relaxed); how == access::write ? may_write(n) : n != 0;)
    if (count.compare_exchange_weak(n, n + one(how), std::memory_order_relaxed)) return true;
  return false;
}

// Whether one reference less changes nothing but the count; then it was counted.
bool leave_others(std::uint64_t id, access how) {
  auto& count = count_of(id);
  for (std::uint64_t n = count.load(std::memory_order_relaxed);;) {
    const std::uint64_t left = n - one(how);
    if (left == 0 || may_write(left) != may_write(n)) return false;
    if (count.compare_exchange_weak(n, left, std::memory_order_release)) return true;
  }
}

using looks = std::map<std::uint64_t, std::uint64_t>;

// Unmaps, and moves to `ended` what this process holds because of handles in the region. Allocates nothing.
void unmap_locally(std::uint64_t id, looks& ended) noexcept {
  const region_entry& r = entry_of(id);
  const auto begin = reinterpret_cast<std::uint64_t>(begin_of(id));
  auto& all = mapped().looked_through;
  for (auto it = all.lower_bound(begin); it != all.end() && it->first < begin + r.bytes;)
    ended.insert(all.extract(it++));
  if (!ended.empty()) looks_ended.fetch_add(1, std::memory_order_release);  // pairs with look_through()
  unmaps.fetch_add(1, std::memory_order_release);  // pairs with bytes_mapped_at()
  // Without room for another mapping the bytes stay, until others are mapped over them.
  (void)::mmap(begin_of(id), r.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  mapped().by_offset.erase(r.offset);
}

// ---- the last reference ---------------------------------------------------------------------------------------------

// From the ledger: a function's address is not taken from memory that others write.
auto destructor_of(std::uint64_t id) noexcept {
  return reinterpret_cast<void (*)(std::byte*) noexcept>(is_kind(id, region_kind::object) ? entry_of(id).destroy : 0);
}

// Drops this process's reference unless it is the only one of the family; whether it is. A keeper that cannot be asked
// will free the region when this process ends.
bool is_last_of_all(std::uint64_t id) noexcept {
  const std::array values{id};
  const auto answer = ask_keeper(keeper_op::release, values);
  return answer && answer->values[0] != 0;
}

// What was never whole, or is not what covey wrote any more, goes without its destructor. Whoever destroys may write.
bool can_be_destroyed(std::uint64_t id, access how) noexcept {
  return reinterpret_cast<const object_header*>(begin_of(id))->whole.load(std::memory_order_acquire) ==
             object_is_whole &&
         !is_damaged(id) && (how == access::write || allow(id, access::write));
}

std::array<std::atomic<std::shared_ptr<void> (*)(std::uint64_t) noexcept>, 64> farewells{};

std::shared_ptr<void> bid_farewell(std::uint64_t id) noexcept {
  const std::uint32_t kind = entry_of(id).kind;
  const auto f = kind < farewells.size() ? farewells[kind].load(std::memory_order_acquire) : nullptr;
  return f != nullptr ? f(id) : nullptr;
}

// The count is 0 before the keeper is asked: a thread that decodes a message now waits for the mutex and then starts
// afresh, so nobody here relies on a reference that the keeper has dropped.
void leave_last(std::uint64_t id, access how, looks& ended, std::unique_lock<std::mutex>& lock) noexcept {
  const auto destroy = destructor_of(id);
  if (destroy != nullptr && !is_last_of_all(id)) return unmap_locally(id, ended);
  if (destroy != nullptr && can_be_destroyed(id, how)) {
    lock.unlock();  // the destructor is foreign code, and may give up other regions
    destroy(begin_of(id));
    lock.lock();
  }
  unmap_locally(id, ended);
  drop_hold(id);
}

// Moves to `ended` a few looks whose handles have changed since, so that what others replaced or removed is not held
// for long. All handles in it lie in mapped regions.
void check_some_looks(looks& ended) noexcept {
  auto& m = mapped();
  for (int i = 0; i < 4 && !m.looked_through.empty(); ++i) {
    auto it = m.looked_through.upper_bound(m.checked_to);
    if (it == m.looked_through.end()) it = m.looked_through.begin();
    m.checked_to = it->first;
    if (std::atomic_ref(*reinterpret_cast<std::uint64_t*>(it->first)).load(std::memory_order_relaxed) != it->second)
      ended.insert(m.looked_through.extract(it));
  }
  if (!ended.empty()) looks_ended.fetch_add(1, std::memory_order_release);
}

}  // namespace

bool is_current(std::uint64_t id) noexcept {
  return id != 0 && index_of(id) < regions_max && (id >> 32) % 2 == 1 &&
         entry_of(id).generation.load(std::memory_order_acquire) == id >> 32;
}

bool is_held_by_somebody(std::uint64_t id) noexcept {
  return family.book != nullptr && is_current(id) && entry_of(id).ending.load(std::memory_order_acquire) == 0;
}

result<void> hold_made(std::uint64_t id) {
  const std::scoped_lock lock(mapped().mutex);
  if (auto done = map_region(id, access::write); !done) {
    drop_hold(id);
    return done.error();
  }
  count_of(id).store(one_writer, std::memory_order_relaxed);
  return {};
}

result<void> take_locally(std::uint64_t id, access how) {
  if (take_another(id, how)) return {};
  family_check();
  const std::scoped_lock lock(mapped().mutex);
  return take_first(id, how);
}

bool take_if_held(std::uint64_t id) {
  if (!is_current(id)) return false;
  if (take_another(id, access::write)) return true;
  const std::scoped_lock lock(mapped().mutex);
  const auto taken = take_first(id, access::write, true);
  if (!taken && taken.error().code.value() != ESTALE) taken.value();
  return taken.has_value();
}

bool take_if_counted(std::uint64_t id) {
  if (!is_current(id) || !take_another(id, access::write)) return false;
  // The count is by index: it may be of a region that was made there since, and that stays from here on.
  const std::uint64_t taken = index_of(id) | std::uint64_t{entry_of(id).generation.load(std::memory_order_acquire)}
                                                 << 32;
  if (taken == id) return true;
  leave_locally(taken);
  return false;
}

void leave_locally(std::uint64_t id, access how) noexcept {
  if (!family.takes_part) return;  // forked past covey: nothing here is ours
  if (leave_others(id, how)) return;
  looks ended;
  std::shared_ptr<void> rest;
  {
    std::unique_lock lock(mapped().mutex);
    const std::uint64_t left = count_of(id).fetch_sub(one(how), std::memory_order_acq_rel) - one(how);
    if (left == 0) rest = bid_farewell(id);
    if (left == 0)
      leave_last(id, how, ended, lock);
    else if (how == access::write && !may_write(left))
      (void)allow(id, access::read);
  }
  for (const auto& [handle, inner] : ended) leave_locally(inner);
}

void on_farewell(region_kind kind, std::shared_ptr<void> (*f)(std::uint64_t id) noexcept) noexcept {
  farewells.at(static_cast<std::uint32_t>(kind)).store(f, std::memory_order_release);
}

void look_through(const void* handle, std::uint64_t id) {
  if (latest_look.handle == handle && latest_look.id == id &&
      latest_look.looks_ended == looks_ended.load(std::memory_order_acquire))
    return;
  if (!is_current(id)) throw memory_damaged("covey: a handle in shared memory names nothing that exists");
  if (!family.takes_part && count_of(id).load(std::memory_order_relaxed) != 0) return;  // it stays mapped here
  family_check();
  looks ended;
  result<void> taken;
  {
    const std::scoped_lock lock(mapped().mutex);
    check_some_looks(ended);
    auto& all = mapped().looked_through;
    const auto address = reinterpret_cast<std::uint64_t>(handle);
    if (const auto it = all.find(address); it != all.end() && it->second != id) {
      ended.insert(all.extract(it));
      looks_ended.fetch_add(1, std::memory_order_release);
    }
    if (const auto [it, fresh] = all.try_emplace(address, id); fresh) {
      if (taken = take_first(id); !taken) all.erase(it);
    }
    latest_look = {handle, id, looks_ended.load(std::memory_order_relaxed)};
  }
  for (const auto& [other, inner] : ended) leave_locally(inner);
  if (!taken) {
    latest_look = {};
    taken.value();
  }
}

void copy_look(const void* from, const void* to, std::uint64_t id) noexcept {
  const std::scoped_lock lock(mapped().mutex);
  auto& all = mapped().looked_through;
  const auto it = all.find(reinterpret_cast<std::uint64_t>(from));
  if (it == all.end() || it->second != id) return;
  try {
    if (all.try_emplace(reinterpret_cast<std::uint64_t>(to), id).second) (void)take_first(id);  // mapped: cannot fail
  } catch (const std::bad_alloc&) {
    // Then whoever looks through the new place begins anew.
  }
}

std::uint64_t end_look(const void* handle) noexcept {
  const std::scoped_lock lock(mapped().mutex);
  const auto node = mapped().looked_through.extract(reinterpret_cast<std::uint64_t>(handle));
  if (node.empty()) return 0;
  looks_ended.fetch_add(1, std::memory_order_release);
  return node.mapped();
}

std::uint64_t region_around(const void* p) noexcept {
  if (!family.takes_part) return 0;  // forked past covey
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - family.arena);
  const std::scoped_lock lock(mapped().mutex);
  auto it = mapped().by_offset.upper_bound(offset);
  if (it == mapped().by_offset.begin()) return 0;
  --it;
  return offset < it->first + entry_of(it->second).bytes ? it->second : 0;
}

std::uint64_t bytes_mapped_at(const void* begin) noexcept {
  if (latest_mapping.begin == begin && latest_mapping.unmaps == unmaps.load(std::memory_order_acquire))
    return latest_mapping.bytes;
  if (!family.takes_part || !in_arena(begin)) return 0;
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(begin) - family.arena);
  const std::scoped_lock lock(mapped().mutex);
  const auto it = mapped().by_offset.find(offset);
  if (it == mapped().by_offset.end() || !is_kind(it->second, region_kind::object)) return 0;
  latest_mapping = {static_cast<const std::byte*>(begin), entry_of(it->second).bytes,
                    unmaps.load(std::memory_order_relaxed)};
  return latest_mapping.bytes;
}

}  // namespace covey::detail
