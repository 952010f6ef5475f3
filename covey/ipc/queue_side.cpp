// A process keeps one entry a queue, with a side for each thread that used it. An entry ends with the process's last
// handle, under the memory's mutex: so nothing here asks for memory's mutex while it holds `table_mutex`.
#include <covey/ipc/queue_side.hpp>

#include <map>
#include <mutex>

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

// The process's last handle of the queue is gone: its lanes are nobody's. What is returned is destroyed later.
std::shared_ptr<void> say_farewell(std::uint64_t id) noexcept {
  const std::scoped_lock lock(table_mutex);
  auto node = table().extract(id);
  if (node.empty()) return nullptr;
  for (auto& [name, side] : node.mapped()->sides)
    if (side->writer && alive(name) && slot_of(name) == family.slot) side->writer->leave();
  return std::shared_ptr<queue_entry>(std::move(node.mapped()));
}

// The sides of this thread, by queue. Those of queues that are gone stay until there are many: ids do not come back.
struct own_side {
  std::uint64_t queue;
  queue_side* side;
};

struct own_sides {
  std::vector<own_side> all;
  ~own_sides();
};
thread_local own_sides mine;
constinit thread_local own_side latest{0, nullptr};

void forget_gone_ones() {
  std::erase_if(mine.all, [](const own_side& s) { return !table().contains(s.queue); });
}

queue_side& make_side(const region& queue) {
  const std::scoped_lock lock(table_mutex);
  static const bool hooked = (on_farewell(region_kind::queue, say_farewell), true);
  (void)hooked;
  auto& entry = table()[queue.id()];
  if (!entry) {
    entry = std::make_unique<queue_entry>();
    try {
      entry->view = view_of(queue);
    } catch (...) {
      table().erase(queue.id());
      throw;
    }
  }
  auto& side = entry->sides[this_name()];
  if (!side) side = std::make_unique<queue_side>(entry->view);
  if (mine.all.size() > 64) forget_gone_ones();
  std::erase_if(mine.all, [&](const own_side& s) { return s.queue == queue.id(); });
  mine.all.push_back({queue.id(), side.get()});
  return *side;
}

// The thread ends in order: what it has in hand is done, and its lanes are nobody's.
own_sides::~own_sides() {
  latest = {};
  if (family.book == nullptr) return;  // forked past covey: it is all the parent's
  try {
    acknowledge_all();
    std::vector<std::unique_ptr<queue_side>> gone;
    const std::scoped_lock lock(table_mutex);
    for (const own_side& s : all) {
      const auto entry = table().find(s.queue);
      if (entry == table().end()) continue;
      auto node = entry->second->sides.extract(thread_name);
      if (node.empty()) continue;
      if (node.mapped()->writer) node.mapped()->writer->leave();
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
  // The name too: a forked child finds its parent's.
  if (latest.queue == id && latest.side->name == thread_name) return *latest.side;
  for (const own_side& s : mine.all)
    if (s.queue == id && s.side->name == thread_name) {
      latest = s;
      return *s.side;
    }
  family_check();
  queue_side& side = make_side(queue);
  latest = {id, &side};
  return side;
}

std::vector<queue_side*> sides_with_messages() {
  std::vector<queue_side*> sides;
  const std::scoped_lock lock(table_mutex);
  for (const own_side& s : mine.all)
    if (table().contains(s.queue) && s.side->name == thread_name && !s.side->hand.empty()) sides.push_back(s.side);
  return sides;
}

}  // namespace covey::detail
