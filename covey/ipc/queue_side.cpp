// A process keeps one entry a queue, with a side for each thread that used it. An entry ends with the process's last
// handle, under the memory's mutex: so nothing here asks for memory's mutex while it holds `table_mutex`.
#include <covey/ipc/queue_side.hpp>

#include <covey/memory/thread_object.hpp>
#include <map>
#include <mutex>
#include <stdexcept>

namespace covey::detail {
namespace {

struct queue_entry {
  queue_view view;
  std::map<participant, std::unique_ptr<queue_side>> sides;
};

std::mutex table_mutex;

std::map<std::uint64_t, std::unique_ptr<queue_entry>>& table() {
  static auto* const entries = new std::map<std::uint64_t, std::unique_ptr<queue_entry>>;
  return *entries;
}

// How often an entry ended. A queue may leave this process and come back in a message, under the same id: what a thread
// knows of its sides holds as long as this has not changed.
std::atomic<std::uint64_t> farewells{0};

// The process's last handle of the queue is gone: its lanes are nobody's. What is returned is destroyed later.
std::shared_ptr<void> say_farewell(std::uint64_t id) noexcept {
  const std::scoped_lock lock(table_mutex);
  auto node = table().extract(id);
  if (node.empty()) return nullptr;
  farewells.fetch_add(1, std::memory_order_release);  // pairs with side_of()
  for (auto& [name, side] : node.mapped()->sides)
    if (alive(name) && slot_of(name) == family.slot) side->leave_lane();
  return std::shared_ptr<queue_entry>(std::move(node.mapped()));
}

struct own_side {
  std::uint64_t queue = 0;
  participant name = 0;  // a forked child finds its parent's
  queue_side* side = nullptr;
};

// The sides of this thread, by queue.
struct own_sides {
  std::vector<own_side> all;
  std::uint64_t farewells_seen = 0;
  own_sides() = default;
  own_sides(const own_sides&) = delete;
  own_sides& operator=(const own_sides&) = delete;
  ~own_sides();
};
using mine = thread_object<own_sides>;

struct latest_side {
  own_side own;
  std::uint64_t farewells_seen = 0;
};
constinit thread_local latest_side latest;

bool is_there(const own_side& s) {
  const auto entry = table().find(s.queue);
  return entry != table().end() && entry->second->sides.contains(s.name);
}

// Under the mutex.
void forget_gone_ones(own_sides& sides) {
  std::erase_if(sides.all, [](const own_side& s) { return !is_there(s); });
  sides.farewells_seen = farewells.load(std::memory_order_acquire);
}

own_side made_side(const region& queue) {
  if (!queue) throw std::logic_error("covey: this handle of a queue was moved from");
  own_sides& sides = mine::get();
  const queue_view view = view_of(queue);  // asks for the memory's mutex when the handle lies in shared memory
  const std::scoped_lock lock(table_mutex);
  static const bool hooked =
      (on_farewell(region_kind::queue, say_farewell), on_farewell(region_kind::ordered_queue, say_farewell), true);
  (void)hooked;
  auto entry = table().find(view.id);
  if (entry == table().end())
    entry = table().emplace(view.id, std::make_unique<queue_entry>(queue_entry{view, {}})).first;
  auto& sides_here = entry->second->sides;
  auto side = sides_here.find(this_name());
  if (side == sides_here.end())
    side = sides_here.emplace(this_name(), std::make_unique<queue_side>(entry->second->view)).first;
  forget_gone_ones(sides);
  const own_side own{view.id, this_name(), side->second.get()};
  std::erase_if(sides.all, [&](const own_side& s) { return s.queue == own.queue; });
  sides.all.push_back(own);
  return own;
}

// The one that this thread has already.
const own_side* known_side(std::uint64_t queue) {
  own_sides* const sides = mine::if_made();
  if (sides == nullptr) return nullptr;
  if (sides->farewells_seen != farewells.load(std::memory_order_acquire)) {
    const std::scoped_lock lock(table_mutex);
    forget_gone_ones(*sides);
  }
  for (const own_side& s : sides->all)
    if (s.queue == queue && s.name == thread_name) return &s;
  return nullptr;
}

// The thread ends in order: what it has in hand is done, and its lanes are nobody's.
own_sides::~own_sides() {
  latest = {};
  if (!family.takes_part) return;  // forked past covey: it is all the parent's
  try {
    acknowledge_all();
    std::vector<std::unique_ptr<queue_side>> gone;
    const std::scoped_lock lock(table_mutex);
    for (const own_side& s : all) {
      if (s.name != thread_name || !is_there(s)) continue;
      auto node = table().find(s.queue)->second->sides.extract(s.name);
      node.mapped()->leave_lane();
      gone.push_back(std::move(node.mapped()));
    }
  } catch (...) {
    // Then the thread counts as dead, and others clean up.
  }
}

}  // namespace

queue_view view_of(const region& queue, bool tells) {
  queue_view v;
  v.tells = tells;
  v.base = queue.data();
  v.id = queue.id();
  v.key = queue_key(v.id);
  if (is_damaged(v.id)) throw queue_damaged();
  if (queue.size() < sizeof(queue_header)) v.damaged();
  v.shape = v.header().shape;
  if (v.header().shape_check != shape_check_of(v.key, v.shape) || !fits(v.shape, queue.size())) v.damaged();
  return v;
}

std::span<const std::byte> queue_side::data_of(std::size_t l) {
  const std::uint64_t id = q.lane(l).data.load(std::memory_order_acquire);
  if (id == 0) q.damaged();  // a payload lies there, so there was one
  if (data.size() <= l) data.resize(l + 1);
  if (data[l].id() != id) {
    region held;
    try {
      held = region::hold(id);
    } catch (const std::system_error&) {
      q.damaged();
    }
    if (held.kind() != region_kind::lane) q.damaged();
    data[l] = std::move(held);
  }
  return {data[l].data(), data[l].size()};
}

queue_side& side_of(const region& queue) {
  const std::uint64_t id = queue.id();
  const std::uint64_t now = farewells.load(std::memory_order_acquire);
  if (latest.own.queue == id && latest.own.name == thread_name && latest.farewells_seen == now && id != 0)
    return *latest.own.side;
  family_check();
  const own_side* const known = known_side(id);
  latest = {known != nullptr ? *known : made_side(queue), now};
  return *latest.own.side;
}

std::vector<queue_side*> sides_with_messages() {
  std::vector<queue_side*> sides;
  const own_sides* const own = mine::if_made();
  if (own == nullptr) return sides;
  const std::scoped_lock lock(table_mutex);
  for (const own_side& s : own->all)
    if (s.name == thread_name && is_there(s) && !s.side->hand.empty()) sides.push_back(s.side);
  return sides;
}

}  // namespace covey::detail
