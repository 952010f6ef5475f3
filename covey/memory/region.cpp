#include <covey/memory/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>

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
};

mapped_regions& mapped() {
  static auto* const all = new mapped_regions;  // lives to the very end: handles may be static
  return *all;
}

std::uint32_t index_of(std::uint64_t id) { return static_cast<std::uint32_t>(id); }

bool is_current(std::uint64_t id) {
  return index_of(id) < regions_max &&
         family.book->regions[index_of(id)].generation.load(std::memory_order_acquire) == id >> 32;
}

result<void> map_region(std::uint64_t offset, std::uint64_t bytes) {
  if (::mmap(family.arena + offset, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
             family.arena_fd, static_cast<off_t>(offset)) == MAP_FAILED)
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

// Counts one more reference from private memory; the first one asks the keeper and maps.
result<void> take_locally(std::uint64_t id) {
  auto& count = local_counts[index_of(id)];
  for (std::uint32_t n = count.load(std::memory_order_relaxed); n > 0;)
    if (count.compare_exchange_weak(n, n + 1, std::memory_order_relaxed)) return {};
  const std::scoped_lock lock(mapped().mutex);
  if (count.load(std::memory_order_relaxed) == 0) {
    const std::array values{id};
    COVEY_TRY(const keeper_answer answer, ask_keeper(keeper_op::hold, values));
    if (auto done = map_region(answer.values[0], answer.values[1]); !done) {
      drop_hold(id);
      return done.error();
    }
    mapped().by_offset[answer.values[0]] = id;
  }
  count.fetch_add(1, std::memory_order_relaxed);
  return {};
}

void leave_locally(std::uint64_t id) noexcept {
  auto& count = local_counts[index_of(id)];
  for (std::uint32_t n = count.load(std::memory_order_relaxed); n > 1;)
    if (count.compare_exchange_weak(n, n - 1, std::memory_order_release)) return;
  const std::scoped_lock lock(mapped().mutex);
  if (count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const region_entry& r = family.book->regions[index_of(id)];
  unmap_region(r.offset, r.bytes);
  mapped().by_offset.erase(r.offset);
  drop_hold(id);
}

}  // namespace

region::region(const region_request& request) {
  const std::array values{request.bytes, static_cast<std::uint64_t>(request.kind)};
  const keeper_answer answer = ask_keeper(keeper_op::make_region, values).value();
  const std::uint64_t id = answer.values[0];
  const region_entry& r = family.book->regions[index_of(id)];
  {
    const std::scoped_lock lock(mapped().mutex);
    if (auto done = map_region(r.offset, r.bytes); !done) {
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

region::region(const region& other) { take(other.id_); }

region::region(region&& other) {
  if (!in_arena(this) && !in_arena(&other)) {
    id_ = std::exchange(other.id_, 0);
    return;
  }
  take(other.id_);
  other.leave();
  other.id_ = 0;
}

region& region::operator=(region other) noexcept {
  if (!in_arena(this)) {
    std::swap(id_, other.id_);
    return *this;
  }
  leave();
  id_ = 0;
  take(other.id_);
  return *this;
}

region::~region() { leave(); }

void region::take(std::uint64_t id) {
  if (id == 0) return;
  if (in_arena(this)) {
    const std::array self{id};
    carry(region_around(this), self, +1);
  } else if (auto taken = take_locally(id); !taken) {
    throw_exception_from_error(taken.error(), BOOST_CURRENT_LOCATION);
  }
  id_ = id;
}

void region::leave() noexcept {
  if (id_ == 0) return;
  if (in_arena(this)) {
    const std::array self{id_};
    carry(region_around(this), self, -1);
  } else {
    leave_locally(id_);
  }
}

// A reference inside a region is used without being copied first: this process holds what it names from now on, to its
// end.
void region::ensure_mapped() const {
  if (local_counts[index_of(id_)].load(std::memory_order_relaxed) > 0) return;
  if (auto taken = take_locally(id_); !taken) throw_exception_from_error(taken.error(), BOOST_CURRENT_LOCATION);
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

std::uint64_t region_around(const void* p) noexcept {
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - family.arena);
  const std::scoped_lock lock(mapped().mutex);
  auto it = mapped().by_offset.upper_bound(offset);
  if (it == mapped().by_offset.begin()) return 0;
  --it;
  return offset < it->first + family.book->regions[index_of(it->second)].bytes ? it->second : 0;
}

void commit_region(const region& r, std::uint64_t bytes) {
  if (bytes == 0) return;
  const auto offset = static_cast<off_t>(r.data() - family.arena);
  while (::fallocate(family.arena_fd, FALLOC_FL_KEEP_SIZE, offset, static_cast<off_t>(bytes)) < 0)
    if (errno != EINTR)
      throw std::system_error(errno, std::system_category(),
                              "reserve " + std::to_string(bytes) + " bytes of shared memory");
}

void carry(std::uint64_t carrier, std::span<const std::uint64_t> attachments, int delta) noexcept {
  for (const std::uint64_t id : attachments) {
    const std::array values{carrier, id, static_cast<std::uint64_t>(static_cast<std::int64_t>(delta))};
    tell_keeper(keeper_op::carry, values);
  }
}

}  // namespace covey::detail
