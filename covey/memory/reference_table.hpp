/// @file
/// Regions of the arena and who refers to them: the keeper's tables, kept in the ledger so that the next keeper finds
/// them.
#pragma once

#include <compare>
#include <covey/base/result.hpp>
#include <covey/memory/ledger.hpp>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

namespace covey::detail {

/// Keeper only; one thread. The ledger holds the truth, each entry made valid or invalid by one store; the members
/// are indexes, rebuilt by the constructor.
class reference_table {
 public:
  struct made {
    std::uint64_t id;
    std::uint64_t offset;
  };

  /// Takes over what a former keeper left: regions that nobody refers to are freed.
  reference_table(ledger& book, int arena_fd, std::uint64_t arena_bytes);

  struct wanted {
    std::uint64_t made_for;  // a process, and its request
    std::uint64_t made_by;
    std::uint64_t bytes;  // rounded up to pages
    std::uint32_t kind;
    std::uint64_t type;
    std::uint64_t destroy;
    std::uint64_t align;  // of its place in the arena; a power of two, or 0
  };

  /// A region that nobody refers to yet. `again`: the request may have been served, then it is the region made then.
  result<made> make_region(const wanted& w, bool again);

  /// The region, or nullptr when `id` names none that is in use.
  [[nodiscard]] const region_entry* find(std::uint64_t id) const;

  /// `from` holds one reference to `to`, however often said. False: there is no room for it.
  [[nodiscard]] bool hold(std::uint64_t from, std::uint64_t to);
  /// `from` itself holds none any more. Frees the region when it was the last.
  void drop(std::uint64_t from, std::uint64_t to);
  /// As drop, unless `from` is the only one that refers to `to`: then it still does, and the answer is true.
  bool release(std::uint64_t from, std::uint64_t to);
  /// Adds `delta` to the count; counts may be negative for a while (docs/design/memory.md). A
  /// reference for which there is no room keeps `to` for ever: nobody could be told.
  void add(std::uint64_t from, std::uint64_t to, std::int64_t delta);
  [[nodiscard]] bool holds(std::uint64_t from, std::uint64_t to) const;
  /// Message `number` (not 0) of `carrier` holds a reference to `to`, however often said. False: there is no room
  /// for it.
  [[nodiscard]] bool attach(std::uint64_t carrier, std::uint64_t number, std::uint64_t to);
  /// It holds none any more, however often said.
  void detach(std::uint64_t carrier, std::uint64_t number);
  /// Marks `to` as damaged if `from` holds it; whether that is news.
  bool mark_damaged(std::uint64_t from, std::uint64_t to);
  /// Also what its messages hold.
  void drop_all_from(std::uint64_t from);
  /// False, and nothing copied: there is no room for all.
  [[nodiscard]] bool copy_all(std::uint64_t from, std::uint64_t new_from);
  /// Frees a region that was made and that nobody could hold.
  void forget(std::uint64_t id) { free_if_unreferenced(id); }

 private:
  struct edge_key {
    std::uint64_t from, message, to;
    auto operator<=>(const edge_key&) const = default;
  };

  region_entry& entry(std::uint64_t id) const { return book_.regions[static_cast<std::uint32_t>(id)]; }
  void rebuild();
  void drop_edges_of_the_gone();
  void count_edge(std::uint64_t to, std::int64_t before, std::int64_t after);
  bool set_edge(const edge_key& key, std::int64_t count);
  void drop_edge(edge_key key);
  void free_if_unreferenced(std::uint64_t id);
  void free_all_unreferenced();
  void free_region(std::uint64_t id);
  [[nodiscard]] std::uint64_t find_made(const wanted& w) const;
  std::uint64_t take_space(std::uint64_t bytes, std::uint64_t align);
  void give_space(std::uint64_t offset, std::uint64_t bytes);

  ledger& book_;
  int arena_fd_;
  std::uint64_t arena_bytes_;
  std::map<edge_key, std::uint32_t> edges_;                 // → index in the ledger
  std::unordered_map<std::uint64_t, std::uint32_t> holders_;  // region → edges with a positive count
  std::vector<std::uint64_t> to_free_;
  bool freeing_ = false;
  std::vector<std::uint32_t> free_edges_;
  std::vector<std::uint32_t> free_regions_;
  std::map<std::uint64_t, std::uint64_t> space_;  // free address space: offset → bytes
};

}  // namespace covey::detail
