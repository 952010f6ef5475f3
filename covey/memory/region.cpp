#include <covey/memory/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <covey/memory/errors.hpp>
#include <covey/memory/holdings.hpp>
#include <covey/memory/memory_left.hpp>

namespace covey::detail {
namespace {

result<void> protect(const region& r, int protection) {
  if (::mprotect(r.data(), r.size(), protection) < 0) return from_errno("mprotect a shared region");
  return {};
}

// What a message says, checked.
std::uint64_t decode_id(decoder& in, region_kind kind) {
  const auto id = decode<std::uint64_t>(in);
  if (id == 0) return 0;
  family_check();
  if (!is_current(id)) throw bad_message("covey: a message names a shared object that is gone");
  if (entry_of(id).kind != static_cast<std::uint32_t>(kind))
    throw bad_message("covey: a message names a shared object of another kind");
  return id;
}

void take_from_message(std::uint64_t id, access how) {
  if (auto taken = take_locally(id, how); !taken)
    throw bad_message("covey: a shared object cannot be had: " + taken.error().message());
}

void end_of_message(decoder& in, std::uint64_t id) {
  if (in.carrier == 0 || id == 0) return;
  const std::array self{id};
  carry(in.carrier, self, -1);
}

}  // namespace

region::region(const region_request& request) {
  const std::array values{request.bytes, static_cast<std::uint64_t>(request.kind), request.type,
                          reinterpret_cast<std::uint64_t>(request.destroy), std::uint64_t{request.huge_pages}};
  auto answer = ask_keeper(keeper_op::make_region, values);
  if (!answer && answer.error().code == std::errc::not_enough_memory)
    answer = from_errno(ENOMEM, "reserve " + std::to_string(request.bytes) + " bytes of covey's address space");
  const std::uint64_t id = answer.value().values[0];
  hold_made(id).value();
  region held(adopt_tag{}, id);  // in private memory: releases if committing throws
  const std::uint64_t committed = std::min(request.committed, entry_of(id).bytes);
  if (request.huge_pages && commit_huge_pages(held.data(), committed)) {
    // Done.
  } else if (request.populate) {
    commit_touched_pages(held.data(), committed).value();
  } else {
    commit_region(held, committed);
  }
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
  const std::uint64_t id = other.id();
  if (id == 0) return;
  if (in_arena(&other) && !is_current(id))
    throw memory_damaged("covey: a handle in shared memory names nothing that exists");
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
  const std::uint64_t id = this->id();
  if (id == 0 || !family.takes_part) return;
  set_id(0);
  if (!in_arena(this)) return leave_locally(id);
  // The last reference to an object may be this one, inside another object: then its destructor is ours to run, so this
  // process holds it too while the region around gives it up.
  const std::uint64_t looked = end_look(this);
  const bool object = is_current(id) && entry_of(id).kind == static_cast<std::uint32_t>(region_kind::object);
  const bool held = object && looked != id && take_locally(id);
  const std::array self{id};
  carry(region_around(this), self, -1);
  if (held) leave_locally(id);
  if (looked != 0) leave_locally(looked);
}

std::uint64_t region::size() const {
  const std::uint64_t id = this->id();
  if (in_arena(this) && !is_current(id))
    throw memory_damaged("covey: a handle in shared memory names nothing that exists");
  return entry_of(id).bytes;
}

void region::encode(encoder& out) const {
  const std::uint64_t id = this->id();
  detail::encode(out, id);
  if (id != 0) out.attachments.push_back(id);
}

region region::hold(std::uint64_t id) {
  family_check();
  if (!is_current(id)) throw std::system_error(ESTALE, std::system_category(), "covey: a shared object is gone");
  take_locally(id).value();
  return region(adopt_tag{}, id);
}

region region::hold_if_held(std::uint64_t id) {
  family_check();
  return take_if_held(id) ? region(adopt_tag{}, id) : region();
}

region region::hold_if_counted(std::uint64_t id) {
  family_check();
  return take_if_counted(id) ? region(adopt_tag{}, id) : region();
}

region region::decode(decoder& in, region_kind kind) {
  const std::uint64_t id = decode_id(in, kind);
  if (id == 0) return {};
  take_from_message(id, access::write);
  region r(adopt_tag{}, id);
  end_of_message(in, id);
  return r;
}

// ---- read-only references ------------------------------------------------------------------------------------------

reading::reading(const region& of) : id_(of.id()) { take(); }

std::uint64_t reading::size() const noexcept { return id_ == 0 ? 0 : entry_of(id_).bytes; }

reading::reading(const reading& other) : id_(other.id_) { take(); }

reading::~reading() {
  if (id_ != 0) leave_locally(id_, access::read);
}

void reading::take() {
  if (in_arena(this))
    throw std::logic_error("covey: read_only cannot lie in shared memory; put a shared_ptr<const T> there");
  if (id_ != 0) take_locally(id_, access::read).value();
}

std::byte* reading::data() const noexcept { return id_ == 0 ? nullptr : family.arena + entry_of(id_).offset; }

void reading::encode(encoder& out) const {
  detail::encode(out, id_);
  if (id_ != 0) out.attachments.push_back(id_);
}

reading reading::decode(decoder& in, region_kind kind) {
  reading r;
  const std::uint64_t id = decode_id(in, kind);
  if (id != 0) take_from_message(id, access::read);
  r.id_ = id;
  end_of_message(in, id);
  return r;
}

object_header* object_around(const void* p) noexcept {
  if (!in_arena(p)) return nullptr;
  const std::uint64_t id = region_around(p);
  if (id == 0 || entry_of(id).kind != static_cast<std::uint32_t>(region_kind::object)) return nullptr;
  return reinterpret_cast<object_header*>(family.arena + entry_of(id).offset);
}

namespace {

result<void> reserve_pages(const std::byte* begin, std::uint64_t bytes) {
  while (::fallocate(family.arena_fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin - family.arena),
                     static_cast<off_t>(bytes)) < 0)
    if (errno != EINTR) return from_errno("reserve " + std::to_string(bytes) + " bytes of shared memory");
  return {};
}

}  // namespace

result<void> commit_pages(const std::byte* begin, std::uint64_t bytes) {
  COVEY_TRY_VOID(expect_memory(bytes));
  return reserve_pages(begin, bytes);
}

result<void> commit_touched_pages(std::byte* begin, std::uint64_t bytes) {
  if (bytes == 0) return {};
  COVEY_TRY_VOID(expect_memory(bytes));
  // All pages at once instead of a fault for each: a third less in sum. For a few it is not worth a call more.
  if (bytes >= 16 * page_bytes && ::madvise(begin, bytes, MADV_POPULATE_WRITE) == 0) return {};
  return reserve_pages(begin, bytes);
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

bool is_left_by_the_dead(std::uint64_t region_id) noexcept {
  if (family.book == nullptr || !is_current(region_id)) return false;
  // The keeper says so there before it drops what the dead held here.
  const std::uint32_t used = std::min(family.book->edges_used.load(std::memory_order_acquire), edges_max);
  for (std::uint32_t i = 0; i < used; ++i) {
    const edge_entry& e = family.book->edges[i];
    if (e.to.load(std::memory_order_acquire) != region_id || (e.from & edge_from_process) == 0) continue;
    if (!process_alive(e.from & ~edge_from_process)) return true;
  }
  return entry_of(region_id).left_by_the_dead.load(std::memory_order_acquire) != 0;
}

void carry(std::uint64_t carrier, std::span<const std::uint64_t> attachments, int delta) noexcept {
  for (const std::uint64_t id : attachments) {
    const std::array values{carrier, id, static_cast<std::uint64_t>(static_cast<std::int64_t>(delta))};
    tell_keeper(keeper_op::carry, values);
  }
}

void attach(std::uint64_t carrier, std::uint64_t number, std::span<const std::uint64_t> attachments) {
  constexpr std::size_t at_once = std::size(keeper_request{}.values) - 2;
  while (!attachments.empty()) {
    std::array<std::uint64_t, at_once + 2> values{carrier, number};
    const std::size_t n = std::min(at_once, attachments.size());
    std::ranges::copy(attachments.first(n), values.begin() + 2);
    ask_keeper(keeper_op::attach, values).value();
    attachments = attachments.subspan(n);
  }
}

void detach(std::uint64_t carrier, std::uint64_t number) noexcept {
  const std::array values{carrier, number};
  tell_keeper(keeper_op::detach, values);
}

}  // namespace covey::detail
