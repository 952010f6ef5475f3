// The board: one writer, any number of readers, no lock. Four pages take turns; `published` counts versions, and
// version n is in page n % 4. The writer fills the next page, then one store publishes it. A reader copies the
// published page and looks whether the writer has come round to it since.
#include <covey/service/supervisor_view.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <new>

namespace covey {
namespace {

constexpr std::size_t pages = 4;
constexpr int tries_max = 1000;

struct record {
  char name[32];
  std::int32_t pid;
  std::uint32_t phase;
  std::uint64_t restarts;
  std::int64_t started_ns;  // system_clock
  char last_end[168];
};
struct page {
  std::uint64_t count;
  record children[supervised_children_max];
};
constexpr std::size_t word_bytes = sizeof(std::uint64_t);
constexpr std::size_t page_words = sizeof(page) / word_bytes;
static_assert(sizeof(page) % word_bytes == 0 && sizeof(record) % word_bytes == 0);

struct board {
  std::atomic<std::uint64_t> published;
  detail::process_id writer;  // constant after construction
  std::array<std::array<std::atomic<std::uint64_t>, page_words>, pages> page_of;
};

board& board_in(const detail::region& r) { return *reinterpret_cast<board*>(r.data()); }

std::size_t words_for(std::uint64_t count) { return (offsetof(page, children) + count * sizeof(record)) / word_bytes; }

template <std::size_t N>
void put_text(char (&to)[N], std::string_view text) {
  const std::size_t n = std::min(text.size(), N - 1);
  std::memcpy(to, text.data(), n);
  std::memset(to + n, 0, N - n);
}

template <std::size_t N>
std::string get_text(const char (&from)[N]) {
  return std::string(from, ::strnlen(from, N));
}

record to_record(const child_state& c) {
  record r{};
  put_text(r.name, c.name);
  r.pid = c.pid;
  r.phase = static_cast<std::uint32_t>(c.phase);
  r.restarts = c.restarts;
  r.started_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(c.started.time_since_epoch()).count();
  put_text(r.last_end, c.last_end);
  return r;
}

child_state from_record(const record& r) {
  using clock = std::chrono::system_clock;
  return {get_text(r.name),
          r.pid,
          r.restarts,
          static_cast<child_phase>(r.phase),
          get_text(r.last_end),
          clock::time_point(std::chrono::duration_cast<clock::duration>(std::chrono::nanoseconds(r.started_ns)))};
}

// False: the writer may have come round to the page meanwhile.
bool copy_page(const board& b, page& out) {
  const std::uint64_t version = b.published.load(std::memory_order_acquire);  // pairs with publish()
  const auto& words = b.page_of[version % pages];
  const std::uint64_t count =
      std::min<std::uint64_t>(words[0].load(std::memory_order_relaxed), supervised_children_max);
  std::array<std::uint64_t, page_words> copy;  // only what is used is written and read
  copy[0] = count;
  for (std::size_t i = 1; i < words_for(count); ++i) copy[i] = words[i].load(std::memory_order_relaxed);
  std::memcpy(&out, copy.data(), words_for(count) * word_bytes);
  std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the fence in publish()
  // Version v + 4 is written into the page of version v, after v + 3 was published.
  return b.published.load(std::memory_order_relaxed) - version < pages - 1;
}

}  // namespace

const char* to_string(child_phase phase) noexcept {
  switch (phase) {
    case child_phase::waiting: return "waiting";
    case child_phase::running: return "running";
    case child_phase::restarting: return "restarting";
    case child_phase::stopping: return "stopping";
    case child_phase::ended: return "ended";
  }
  return "unknown";
}

supervisor_view::supervisor_view()
    : region_(detail::region_request{.bytes = sizeof(board), .kind = detail::region_kind::board}) {
  new (region_.data()) board{};
  board_in(region_).writer = detail::this_process_id();
}

std::vector<child_state> supervisor_view::children() const {
  const board& b = board_in(region_);
  page copy;
  for (int tries = 0; !copy_page(b, copy); ++tries)
    if (tries == tries_max)
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              "covey: the supervisor publishes faster than this process reads");
  std::vector<child_state> all;
  std::transform(copy.children, copy.children + copy.count, std::back_inserter(all), from_record);
  return all;
}

child_state supervisor_view::child(std::string_view name) const {
  for (child_state& c : children())
    if (c.name == name.substr(0, sizeof(record::name) - 1)) return std::move(c);
  return {};
}

bool supervisor_view::alive() const noexcept { return detail::process_alive(board_in(region_).writer); }

void supervisor_view::publish(std::span<const child_state> children) const noexcept {
  board& b = board_in(region_);
  const std::uint64_t version = b.published.load(std::memory_order_relaxed) + 1;
  auto& words = b.page_of[version % pages];
  std::atomic_thread_fence(std::memory_order_release);  // who sees a word from below sees the version before it
  words[0].store(children.size(), std::memory_order_relaxed);
  std::size_t at = words_for(0);
  for (const child_state& c : children) {
    const auto record_words = std::bit_cast<std::array<std::uint64_t, sizeof(record) / word_bytes>>(to_record(c));
    for (const std::uint64_t w : record_words) words[at++].store(w, std::memory_order_relaxed);
  }
  b.published.store(version, std::memory_order_release);  // pairs with copy_page()
}

supervisor_view supervisor_view::decode_handle(detail::decoder& in) {
  return supervisor_view(detail::region::decode(in, detail::region_kind::board));
}

}  // namespace covey
