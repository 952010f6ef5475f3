// What a process and its threads keep of the queues that they use: see side_table.hpp.
#include <covey/ipc/queue_side.hpp>

#include <stdexcept>

namespace covey::detail {

queue_view queue_side::look_at(const region& queue) {
  if (!queue) throw std::logic_error("covey: this handle of a queue was moved from");
  return view_of(queue);
}

void queue_side::leave() noexcept {
  if (writer) writer->leave();
  if (by_rank) by_rank->leave();
}

void queue_side::before_thread_ends() { acknowledge_all(); }

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

std::span<const std::byte> queue_side::open_data(std::size_t l, std::uint64_t id) {
  if (id == 0) q.damaged();  // a payload lies there, so there was one
  if (data.size() <= l) data.resize(l + 1);
  region held;
  try {
    held = region::hold(id);
  } catch (const std::system_error&) {
    q.damaged();
  }
  if (held.kind() != region_kind::lane) q.damaged();
  const std::span<const std::byte> bytes{held.data(), held.size()};
  data[l] = {bytes, std::move(held)};
  return bytes;
}

std::vector<queue_side*> sides_with_messages() {
  return side_table<queue_side>::own_ones([](const queue_side& s) { return !s.hand.empty(); });
}

}  // namespace covey::detail
