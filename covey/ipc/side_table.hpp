/// @file
/// side_table: what one thread of one process has to do with one object in shared memory, made when it is first needed.
#pragma once

#include <array>
#include <covey/memory/region.hpp>
#include <covey/memory/thread_object.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace covey::detail {

/// A process keeps one entry a region, with a Side for each thread that used it: until the thread ends, or the
/// process's last handle of the region goes. A Side has
///
///     using shared_view = …;                     // what all sides of a process know, made by the first
///     static constexpr std::array kinds{…};       // of regions
///     static shared_view look_at(const region&);  // may throw
///     explicit Side(const shared_view&);
///     void leave() noexcept;                     // what its thread owns in the region is nobody's
///     static void before_thread_ends();          // may throw: then the thread counts as dead
///
/// An entry ends under the memory's mutex: so nothing here asks for that while it holds the table's.
///
/// Safety: thread-safe; a Side is its thread's own.
template <class Side>
class side_table {
 public:
  /// The side of this thread.
  static Side& of(const region& r) {
    const std::uint64_t id = r.id();
    const std::uint64_t now = farewells.load(std::memory_order_acquire);
    const latest_side& l = latest[id % latest.size()];
    if (l.own.region == id && l.own.name == thread_name && l.farewells_seen == now && id != 0) [[likely]]
      return *l.own.side;
    return find_or_make(r, now);
  }

  /// Those of this thread's sides of which `f` is true.
  template <class F>
  static std::vector<Side*> own_ones(const F& f) {
    std::vector<Side*> sides;
    const own_sides* const own = mine::if_made();
    if (own == nullptr) return sides;
    const std::scoped_lock lock(table_mutex);
    for (const own_side& s : own->all)
      if (s.name == thread_name && is_there(s) && f(*s.side)) sides.push_back(s.side);
    return sides;
  }

 private:
  struct entry {
    typename Side::shared_view view;
    std::map<participant, std::unique_ptr<Side>> sides{};
  };

  struct own_side {
    std::uint64_t region = 0;
    participant name = 0;  // a forked child finds its parent's
    Side* side = nullptr;
  };

  // The sides of this thread, by region.
  struct own_sides {
    std::vector<own_side> all{};
    std::uint64_t farewells_seen = 0;
    own_sides() = default;
    own_sides(const own_sides&) = delete;
    own_sides& operator=(const own_sides&) = delete;
    ~own_sides() { end(all); }
  };
  using mine = thread_object<own_sides>;

  struct latest_side {
    own_side own{};
    std::uint64_t farewells_seen = 0;
  };

  static std::map<std::uint64_t, std::unique_ptr<entry>>& table() {
    static auto* const entries = new std::map<std::uint64_t, std::unique_ptr<entry>>;
    return *entries;
  }

  // The process's last handle is gone: what its threads own there is nobody's. What is returned is destroyed later.
  static std::shared_ptr<void> say_farewell(std::uint64_t id) noexcept {
    const std::scoped_lock lock(table_mutex);
    auto node = table().extract(id);
    if (node.empty()) return nullptr;
    farewells.fetch_add(1, std::memory_order_release);  // pairs with of()
    for (auto& [name, side] : node.mapped()->sides)
      if (alive(name) && slot_of(name) == family.slot) side->leave();
    return std::shared_ptr<entry>(std::move(node.mapped()));
  }

  static bool is_there(const own_side& s) {
    const auto found = table().find(s.region);
    return found != table().end() && found->second->sides.contains(s.name);
  }

  // Under the mutex.
  static void forget_gone_ones(own_sides& sides) {
    std::erase_if(sides.all, [](const own_side& s) { return !is_there(s); });
    sides.farewells_seen = farewells.load(std::memory_order_acquire);
  }

  static own_side made_side(const region& r) {
    own_sides& sides = mine::get();
    const typename Side::shared_view view = Side::look_at(r);  // may ask for the memory's mutex
    const std::scoped_lock lock(table_mutex);
    static const bool hooked = [] {
      for (const region_kind kind : Side::kinds) on_farewell(kind, say_farewell);
      return true;
    }();
    (void)hooked;
    auto found = table().find(r.id());
    if (found == table().end()) found = table().emplace(r.id(), std::make_unique<entry>(entry{view})).first;
    auto& sides_here = found->second->sides;
    auto side = sides_here.find(this_name());
    if (side == sides_here.end())
      side = sides_here.emplace(this_name(), std::make_unique<Side>(found->second->view)).first;
    forget_gone_ones(sides);
    const own_side own{r.id(), this_name(), side->second.get()};
    std::erase_if(sides.all, [&](const own_side& s) { return s.region == own.region; });
    sides.all.push_back(own);
    return own;
  }

  [[gnu::noinline]] static Side& find_or_make(const region& r, std::uint64_t now) {
    family_check();
    const own_side* const known = known_side(r.id());
    latest_side& l = latest[r.id() % latest.size()];
    l = {known != nullptr ? *known : made_side(r), now};
    return *l.own.side;
  }

  // The one that this thread has already.
  static const own_side* known_side(std::uint64_t id) {
    own_sides* const sides = mine::if_made();
    if (sides == nullptr) return nullptr;
    if (sides->farewells_seen != farewells.load(std::memory_order_acquire)) {
      const std::scoped_lock lock(table_mutex);
      forget_gone_ones(*sides);
    }
    for (const own_side& s : sides->all)
      if (s.region == id && s.name == thread_name) return &s;
    return nullptr;
  }

  // The thread ends in order.
  static void end(std::vector<own_side>& all) noexcept {
    latest = {};
    if (!family.takes_part) return;  // forked past covey: it is all the parent's
    try {
      Side::before_thread_ends();
      std::vector<std::unique_ptr<Side>> gone;
      const std::scoped_lock lock(table_mutex);
      for (const own_side& s : all) {
        if (s.name != thread_name || !is_there(s)) continue;
        auto node = table().find(s.region)->second->sides.extract(s.name);
        node.mapped()->leave();
        gone.push_back(std::move(node.mapped()));
      }
    } catch (...) {
      // Then the thread counts as dead, and others clean up.
    }
  }

  static inline std::mutex table_mutex;
  // How often an entry ended. A region may leave this process and come back in a message, under the same id: what a
  // thread knows of its sides holds as long as this has not changed.
  static inline std::atomic<std::uint64_t> farewells{0};
  // By region: a thread often has several in turn.
  static inline constinit thread_local std::array<latest_side, 4> latest{};
};

}  // namespace covey::detail
