#include <covey/ipc/queue_roles.hpp>

#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

namespace covey::detail {
namespace {

// In bits 30 and 31 of a process's id, whose slot is small.
std::uint64_t word_of(process_id who, queue_role role) { return who | static_cast<std::uint64_t>(role) << 30; }
queue_role role_in(std::uint64_t word) { return static_cast<queue_role>(word >> 30 & 3); }
process_id process_in(std::uint64_t word) { return word & ~(3ULL << 30); }

std::uint32_t lost_flag(queue_role role) { return role == queue_role::reader ? flag_readers_lost : flag_writers_lost; }
std::uint32_t taken_flag(queue_role role) {
  return role == queue_role::reader ? flag_readers_taken : flag_writers_taken;
}

// The word at `holder`. Of one who never lived nobody has a role, nor has lost one: then it was written over.
std::uint64_t checked_word(const role_table& t, const std::atomic<std::uint64_t>& holder) {
  const std::uint64_t word = holder.load(std::memory_order_seq_cst);
  if (word == 0) return word;  // as most are
  const queue_role role = role_in(word);
  const bool is_role = role == queue_role::reader || role == queue_role::writer;
  if (is_role && process_may_have_lived(process_in(word))) return word;
  report_damage(t.queue);
  throw queue_damaged();
}

bool anybody_has(const role_table& t, queue_role role) {
  for (const auto& r : t.holders) {
    const std::uint64_t word = checked_word(t, r);
    if (word != 0 && role_in(word) == role && process_alive(process_in(word))) return true;
  }
  return false;
}

void change_flags(const role_table& t, std::uint32_t add, std::uint32_t remove) {
  detail::change_flags(t.flags, t.queue, add, remove);
}

// The last one left, unless somebody comes in at this moment: who comes in takes the flag back after its entry.
bool note_if_lost(const role_table& t, queue_role role) {
  if (anybody_has(t, role)) return false;
  change_flags(t, lost_flag(role), 0);
  if (!anybody_has(t, role)) return true;
  change_flags(t, 0, lost_flag(role));
  return false;
}

// ---- of this process -----------------------------------------------------------------------------------------------

std::mutex roles_mutex;

// The process is part of the key: a forked child finds its parent's here.
using role_key = std::tuple<process_id, std::uint64_t, queue_role>;

std::map<role_key, std::uint32_t>& own_roles() {
  static auto* const roles = new std::map<role_key, std::uint32_t>;
  return *roles;
}

}  // namespace

void enter_role(const role_table& t, queue_role role) {
  family_check();  // a child forked past covey has its parent's number
  const std::scoped_lock lock(roles_mutex);
  std::uint32_t& own = own_roles()[{this_process_id(), t.queue, role}];
  if (own++ != 0) return;
  for (auto& r : t.holders) {
    std::uint64_t word = checked_word(t, r);
    if (word != 0 || !r.compare_exchange_strong(word, word_of(this_process_id(), role), std::memory_order_seq_cst))
      continue;
    change_flags(t, taken_flag(role), lost_flag(role));
    return;
  }
  own_roles().erase({this_process_id(), t.queue, role});
  throw std::length_error("covey: more than 512 processes hold a role of one queue");
}

bool leave_role_of(const role_table& t, queue_role role) {
  const std::scoped_lock lock(roles_mutex);
  const auto own = own_roles().find({this_process_id(), t.queue, role});
  if (own == own_roles().end() || --own->second > 0) return false;
  own_roles().erase(own);
  for (auto& r : t.holders) {
    std::uint64_t word = word_of(this_process_id(), role);
    r.compare_exchange_strong(word, 0, std::memory_order_seq_cst);
  }
  return note_if_lost(t, role);
}

void strike_dead_roles(const role_table& t) {
  for (auto& r : t.holders) {
    std::uint64_t word = checked_word(t, r);
    if (word == 0 || process_alive(process_in(word))) continue;
    const queue_role role = role_in(word);
    // Before the entry goes: who is killed in between leaves it to be found again.
    if (role == queue_role::writer) change_flags(t, flag_writer_died, 0);
    note_if_lost(t, role);
    r.compare_exchange_strong(word, 0, std::memory_order_seq_cst);
  }
  // Who was killed while it left, after its entry went, may have been the last one, and has not said so.
  for (const queue_role role : {queue_role::reader, queue_role::writer}) {
    const std::uint32_t flags = t.flags.load(std::memory_order_seq_cst);
    if ((flags & taken_flag(role)) != 0 && (flags & lost_flag(role)) == 0) note_if_lost(t, role);
  }
}

}  // namespace covey::detail
