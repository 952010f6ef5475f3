#include <covey/memory/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <map>
#include <mutex>

namespace covey::detail {
namespace {

// How many references of this process's private memory there are to each region, by index. Falls to and rises from 0
// only under `regions_mutex`, together with the mapping and the keeper's knowledge.
std::atomic<std::uint32_t> local_counts[regions_max];

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

std::uint32_t index_of(std::uint64_t id) { return static_cast<std::uint32_t>(id); }

bool is_current(std::uint64_t id) {
  return index_of(id) < regions_max &&
         family.book->regions[index_of(id)].generation.load(std::memory_order_acquire) == id >> 32;
}

result<void> map_region(std::uint64_t offset, std::uint64_t bytes, std::uint32_t kind) {
  const int protection = kind == static_cast<std::uint32_t>(region_kind::lane) ? PROT_READ : PROT_READ | PROT_WRITE;
  if (::mmap(family.arena + offset, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, family.arena_fd,
             static_cast<off_t>(offset)) == MAP_FAILED)
    return from_errno("mmap a shared region");
  return {};
}

void unmap_region(std::uint64_t offset, std::uint64_t bytes) {
  ::mmap(family.arena + offset, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

void drop_hold(std::uint64_t id) noexcept {
  const std::array values{id};
  tell_keeper(keeper_op::drop, values);
}

region_entry& entry_of(std::uint64_t id) { return family.book->regions[index_of(id)]; }

// As take_locally, when the count may be 0. Under the mutex.
result<void> take_first(std::uint64_t id) {
  auto& count = local_counts[index_of(id)];
  if (count.load(std::memory_order_relaxed) == 0) {
    const std::array values{id};
    COVEY_TRY(const keeper_answer answer, ask_keeper(keeper_op::hold, values));
    if (auto done = map_region(answer.values[0], answer.values[1], static_cast<std::uint32_t>(answer.values[2]));
        !done) {
      drop_hold(id);
      return done.error();
    }
    mapped().by_offset[answer.values[0]] = id;
  }
  count.fetch_add(1, std::memory_order_relaxed);
  return {};
}

// Counts one more reference from private memory; the first one asks the keeper and maps.
result<void> take_locally(std::uint64_t id) {
  auto& count = local_counts[index_of(id)];
  for (std::uint32_t n = count.load(std::memory_order_relaxed); n > 0;)
    if (count.compare_exchange_weak(n, n + 1, std::memory_order_relaxed)) return {};
  const std::scoped_lock lock(mapped().mutex);
  return take_first(id);
}

using looks = std::map<std::uint64_t, std::uint64_t>;

// Unmaps, and moves to `ended` what this process holds because of handles in the region. Under the mutex; allocates
// nothing.
void unmap_locally(std::uint64_t id, looks& ended) noexcept {
  const region_entry& r = entry_of(id);
  const auto begin = reinterpret_cast<std::uint64_t>(family.arena + r.offset);
  auto& all = mapped().looked_through;
  for (auto it = all.lower_bound(begin); it != all.end() && it->first < begin + r.bytes;)
    ended.insert(all.extract(it++));
  if (!ended.empty()) looks_ended.fetch_add(1, std::memory_order_release);  // pairs with look_through()
  unmap_region(r.offset, r.bytes);
  mapped().by_offset.erase(r.offset);
}

auto destructor_of(std::uint64_t id) noexcept {
  const region_entry& r = entry_of(id);
  void (*none)(std::byte*) noexcept = nullptr;
  if (r.kind != static_cast<std::uint32_t>(region_kind::object)) return none;
  return reinterpret_cast<object_header*>(family.arena + r.offset)->destroy.load(std::memory_order_acquire);
}

// Drops this process's reference unless it is the only one of the family; whether it is. A keeper that cannot be asked
// will free the region when this process ends.
bool is_last_of_all(std::uint64_t id) noexcept {
  const std::array values{id};
  const auto answer = ask_keeper(keeper_op::release, values);
  return answer && answer->values[0] != 0;
}

void leave_locally(std::uint64_t id) noexcept {
  if (family.book == nullptr) return;  // forked past covey: nothing here is ours
  auto& count = local_counts[index_of(id)];
  for (std::uint32_t n = count.load(std::memory_order_relaxed); n > 1;)
    if (count.compare_exchange_weak(n, n - 1, std::memory_order_release)) return;
  looks ended;
  {
    std::unique_lock lock(mapped().mutex);
    if (count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    // The count is 0 before the keeper is asked: a thread that decodes a message now waits for the mutex and then
    // starts afresh, so nobody here relies on a reference that the keeper has dropped.
    if (const auto destroy = destructor_of(id); destroy == nullptr) {
      unmap_locally(id, ended);
      drop_hold(id);
    } else if (!is_last_of_all(id)) {
      unmap_locally(id, ended);
    } else {
      lock.unlock();  // the destructor is foreign code, and may give up other regions
      destroy(family.arena + entry_of(id).offset);
      lock.lock();
      unmap_locally(id, ended);
      drop_hold(id);
    }
  }
  for (const auto& [handle, inner] : ended) leave_locally(inner);
}

// A handle that this process looks through was copied or moved within shared memory: who uses what it names goes on.
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

// Moves to `ended` a few looks whose handles have changed since, so that what others replaced or removed is not held
// for long. Under the mutex; all handles in it lie in mapped regions.
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

result<void> protect(const region& r, int protection) {
  if (::mprotect(r.data(), r.size(), protection) < 0) return from_errno("mprotect a shared region");
  return {};
}

// Ends what look_through() began for a handle. What it named, whose reference the caller has now; or 0.
std::uint64_t end_look(const void* handle) noexcept {
  const std::scoped_lock lock(mapped().mutex);
  const auto node = mapped().looked_through.extract(reinterpret_cast<std::uint64_t>(handle));
  if (node.empty()) return 0;
  looks_ended.fetch_add(1, std::memory_order_release);
  return node.mapped();
}

}  // namespace

region::region(const region_request& request) {
  const std::array values{request.bytes, static_cast<std::uint64_t>(request.kind)};
  const keeper_answer answer = ask_keeper(keeper_op::make_region, values).value();
  const std::uint64_t id = answer.values[0];
  const region_entry& r = family.book->regions[index_of(id)];
  {
    const std::scoped_lock lock(mapped().mutex);
    if (auto done = map_region(r.offset, r.bytes, r.kind); !done) {
      drop_hold(id);
      throw_exception_from_error(done.error(), BOOST_CURRENT_LOCATION);
    }
    mapped().by_offset[r.offset] = id;
    local_counts[index_of(id)].store(1, std::memory_order_relaxed);
  }
  region held(adopt_tag{}, id);  // in private memory: releases if committing throws
  commit_region(held, std::min(request.committed, r.bytes));
  *this = std::move(held);
}

region::region(const region& other) { take(other); }

region::region(region&& other) {
  if (!in_arena(this) && !in_arena(&other)) {
    id_ = std::exchange(other.id_, 0);
    return;
  }
  take(other);
  other.leave();
}

region& region::operator=(region other) noexcept {
  if (!in_arena(this)) {
    std::swap(id_, other.id_);
    return *this;
  }
  leave();
  take(other);
  return *this;
}

region::~region() { leave(); }

void region::take(const region& other) {
  const std::uint64_t id = other.id_;
  if (id == 0) return;
  if (in_arena(this)) {
    const std::array self{id};
    carry(region_around(this), self, +1);
    if (in_arena(&other)) copy_look(&other, this, id);
  } else if (auto taken = take_locally(id); !taken) {
    throw_exception_from_error(taken.error(), BOOST_CURRENT_LOCATION);
  }
  set_id(id);
}

void region::leave() noexcept {
  if (id_ == 0 || family.book == nullptr) return;
  const std::uint64_t id = id_;
  set_id(0);
  if (!in_arena(this)) return leave_locally(id);
  // The last reference to an object may be this one, inside another object: then its destructor is ours to run, so this
  // process holds it too while the region around gives it up.
  const std::uint64_t looked = end_look(this);
  const bool object = entry_of(id).kind == static_cast<std::uint32_t>(region_kind::object);
  const bool held = object && looked != id && take_locally(id);
  const std::array self{id};
  carry(region_around(this), self, -1);
  if (held) leave_locally(id);
  if (looked != 0) leave_locally(looked);
}

// This reference lies inside a region: see mapped_regions::looked_through.
void region::look_through() const {
  if (latest_look.handle == this && latest_look.id == id_ &&
      latest_look.looks_ended == looks_ended.load(std::memory_order_acquire))
    return;
  looks ended;
  result<void> taken;
  {
    const std::scoped_lock lock(mapped().mutex);
    check_some_looks(ended);
    auto& all = mapped().looked_through;
    const auto address = reinterpret_cast<std::uint64_t>(this);
    if (const auto it = all.find(address); it != all.end() && it->second != id_) {
      ended.insert(all.extract(it));
      looks_ended.fetch_add(1, std::memory_order_release);
    }
    if (const auto [it, fresh] = all.try_emplace(address, id_); fresh) {
      if (taken = take_first(id_); !taken) all.erase(it);
    }
    latest_look = {this, id_, looks_ended.load(std::memory_order_relaxed)};
  }
  for (const auto& [handle, inner] : ended) leave_locally(inner);
  if (!taken) throw_exception_from_error(taken.error(), BOOST_CURRENT_LOCATION);
}

std::uint64_t region::size() const { return family.book->regions[index_of(id_)].bytes; }

void region::encode(encoder& out) const {
  detail::encode(out, id_);
  if (id_ != 0) out.attachments.push_back(id_);
}

region region::hold(std::uint64_t id) {
  if (!is_current(id)) throw std::system_error(ESTALE, std::system_category(), "covey: a shared object is gone");
  if (auto taken = take_locally(id); !taken) throw_exception_from_error(taken.error(), BOOST_CURRENT_LOCATION);
  return region(adopt_tag{}, id);
}

region region::decode(decoder& in, region_kind kind) {
  const auto id = detail::decode<std::uint64_t>(in);
  if (id == 0) return {};
  family_check();
  if (!is_current(id)) throw bad_message("covey: a message names a shared object that is gone");
  if (family.book->regions[index_of(id)].kind != static_cast<std::uint32_t>(kind))
    throw bad_message("covey: a message names a shared object of another kind");
  if (auto taken = take_locally(id); !taken)
    throw bad_message("covey: a shared object cannot be had: " + taken.error().message());
  region r(adopt_tag{}, id);
  if (in.carrier != 0) {
    const std::array self{id};
    carry(in.carrier, self, -1);
  }
  return r;
}

object_header* object_around(const void* p) noexcept {
  if (!in_arena(p)) return nullptr;
  const std::uint64_t id = region_around(p);
  if (id == 0 || entry_of(id).kind != static_cast<std::uint32_t>(region_kind::object)) return nullptr;
  return reinterpret_cast<object_header*>(family.arena + entry_of(id).offset);
}

std::uint64_t region_around(const void* p) noexcept {
  if (family.book == nullptr) return 0;  // forked past covey
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - family.arena);
  const std::scoped_lock lock(mapped().mutex);
  auto it = mapped().by_offset.upper_bound(offset);
  if (it == mapped().by_offset.begin()) return 0;
  --it;
  return offset < it->first + family.book->regions[index_of(it->second)].bytes ? it->second : 0;
}

result<void> commit_pages(const std::byte* begin, std::uint64_t bytes) {
  while (::fallocate(family.arena_fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin - family.arena),
                     static_cast<off_t>(bytes)) < 0)
    if (errno != EINTR) return from_errno("reserve " + std::to_string(bytes) + " bytes of shared memory");
  return {};
}

void commit_region(const region& r, std::uint64_t bytes) {
  if (bytes != 0) commit_pages(r.data(), bytes).value();
}

arena_usage arena_in_use() {
  family_check();
  arena_usage u;
  for (std::uint32_t i = 0; i < family.book->regions_used.load(std::memory_order_acquire); ++i)
    u.regions += family.book->regions[i].generation.load(std::memory_order_relaxed) % 2;
  struct stat s{};
  if (::fstat(family.arena_fd, &s) == 0) u.bytes = static_cast<std::uint64_t>(s.st_blocks) * 512;
  return u;
}

result<void> allow_writing(const region& lane) { return protect(lane, PROT_READ | PROT_WRITE); }

result<void> forbid_writing(const region& lane) { return protect(lane, PROT_READ); }

void report_damage(std::uint64_t region_id) noexcept {
  const std::array values{region_id};
  tell_keeper(keeper_op::report_damage, values);
}

bool is_damaged(std::uint64_t region_id) noexcept {
  return family.book != nullptr && is_current(region_id) &&
         entry_of(region_id).damaged.load(std::memory_order_acquire) != 0;
}

void carry(std::uint64_t carrier, std::span<const std::uint64_t> attachments, int delta) noexcept {
  for (const std::uint64_t id : attachments) {
    const std::array values{carrier, id, static_cast<std::uint64_t>(static_cast<std::int64_t>(delta))};
    tell_keeper(keeper_op::carry, values);
  }
}

}  // namespace covey::detail
