// The value is words: for an encoded one the first is the number of bytes that follow. They lie in the place that the
// version's lowest bit names; an update writes the other place, and then the version. A reader that finds the version
// as it was before it copied has copied what nobody wrote: to overwrite its place, an update would have had to follow
// one that raised the version.
#include <covey/sync/guarded.hpp>

#include <covey/memory/errors.hpp>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace covey::detail {
namespace {

constexpr std::uint64_t header_bytes = 128;

constexpr std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

// Small values lie behind the header, in its page; large ones in pages of their own, taken when they are needed.
constexpr std::uint64_t place_bytes(std::uint64_t capacity) {
  return header_bytes + 2 * capacity <= page_bytes ? capacity : whole_pages(capacity);
}
constexpr std::uint64_t first_place(std::uint64_t place) {
  return header_bytes + 2 * place <= page_bytes ? header_bytes : page_bytes;
}

// acquire: a copy that met an update's word has also met the version before it.
std::uint64_t load_word(const std::uint64_t* from) {
  return std::atomic_ref(*const_cast<std::uint64_t*>(from)).load(std::memory_order_acquire);
}

}  // namespace

guarded_bytes::guarded_bytes(std::uint64_t capacity, std::uint64_t type, const mutex_options& options)
    : region_(region_request{.bytes = first_place(place_bytes(capacity)) + 2 * place_bytes(capacity),
                             .committed = page_bytes,
                             .kind = region_kind::guarded,
                             .type = type}),
      base_(find()) {
  new (region_.data()) header(options);
}

guarded_bytes::guarded_bytes(const guarded_bytes& other) : region_(other.region_), base_(find()) {}

guarded_bytes::guarded_bytes(guarded_bytes&& other) noexcept : region_(std::move(other.region_)), base_(find()) {
  other.base_ = nullptr;
}

guarded_bytes& guarded_bytes::operator=(guarded_bytes other) noexcept {
  region_ = std::move(other.region_);
  base_ = find();
  return *this;
}

guarded_bytes guarded_bytes::decode(decoder& in, std::uint64_t type) {
  region r = region::decode(in, region_kind::guarded);
  if (!r || family.book->regions[static_cast<std::uint32_t>(r.id())].type != type)
    throw bad_message("covey: a message names a guarded value of another type");
  return guarded_bytes(std::move(r));
}

std::byte* guarded_bytes::base() const {
  if (base_ != nullptr) return base_;
  std::byte* const there = region_.data();
  if (there == nullptr) throw_moved_from();
  return there;
}

guarded_bytes::header& guarded_bytes::head() const { return *std::launder(reinterpret_cast<header*>(base())); }

// By the ledger, which nobody scribbles on: a region of one page holds two small places.
std::uint64_t guarded_bytes::capacity() const {
  const std::uint64_t all = region_.size();
  return all == page_bytes ? (page_bytes - header_bytes) / 2 / 8 * 8 : (all - page_bytes) / 2;
}

std::uint64_t* guarded_bytes::place(std::uint32_t version) const {
  const std::uint64_t first = region_.size() == page_bytes ? header_bytes : page_bytes;
  return reinterpret_cast<std::uint64_t*>(base() + first + version % 2 * capacity());
}

void guarded_bytes::load_exactly(std::span<std::uint64_t> words) const {
  const header& h = head();
  for (;;) {
    const std::uint32_t version = h.version.load(std::memory_order_acquire);  // pairs with publish()
    const std::uint64_t* const from = place(version);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = load_word(from + i);
    if (h.version.load(std::memory_order_relaxed) == version) return;
  }
}

void guarded_bytes::load(std::vector<std::uint64_t>& words) const {
  const header& h = head();
  for (;;) {
    const std::uint32_t version = h.version.load(std::memory_order_acquire);  // pairs with publish()
    const std::uint64_t* const from = place(version);
    const std::uint64_t bytes = load_word(from);
    const bool sensible = bytes <= capacity() - 8;
    if (sensible) {
      words.resize(1 + (bytes + 7) / 8);
      words[0] = bytes;
      for (std::size_t i = 1; i < words.size(); ++i) words[i] = load_word(from + i);
    }
    if (h.version.load(std::memory_order_relaxed) != version) continue;
    if (!sensible) throw bad_message("covey: a guarded value was written over by something else");
    return;
  }
}

bool guarded_bytes::lock(const deadline& until, const stop_word* stop) const {
  return head().updating.lock(number(), lock_word::unrepaired_lock::take, until, stop) != lock_word::outcome::not_now;
}

void guarded_bytes::unlock() const noexcept { head().updating.unlock(); }

void guarded_bytes::publish(std::span<const std::uint64_t> words) const {
  header& h = head();
  if (words.size_bytes() > capacity())
    throw std::system_error(std::make_error_code(std::errc::value_too_large),
                            "covey: a guarded value of " + std::to_string(words.size_bytes()) +
                                " bytes, where at most " + std::to_string(capacity()) + " fit");
  const std::uint32_t next = h.version.load(std::memory_order_relaxed) + 1;
  std::uint64_t* const to = place(next);
  if (region_.size() != page_bytes) commit_pages(reinterpret_cast<std::byte*>(to), words.size_bytes()).value();
  for (std::size_t i = 0; i < words.size(); ++i) std::atomic_ref(to[i]).store(words[i], std::memory_order_release);
  h.version.store(next, std::memory_order_release);  // pairs with load()
}

std::vector<std::uint64_t> words_of(const encoder& out) {
  if (!out.attachments.empty())
    throw std::invalid_argument("covey: a guarded value cannot hold handles, such as a mutex or a shared_ptr");
  std::vector<std::uint64_t> words(1 + (out.bytes.size() + 7) / 8);
  words[0] = out.bytes.size();
  if (!out.bytes.empty()) std::memcpy(words.data() + 1, out.bytes.data(), out.bytes.size());
  return words;
}

std::span<const std::byte> bytes_in(std::span<const std::uint64_t> words) {
  if (words.empty() || words[0] > (words.size() - 1) * 8)
    throw bad_message("covey: a guarded value was written over by something else");
  return std::as_bytes(words.subspan(1)).first(static_cast<std::size_t>(words[0]));
}

}  // namespace covey::detail
