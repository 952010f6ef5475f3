/// @file
/// From futexes to descriptors: threads of this process that sleep for others who must sleep in poll().
#pragma once

#include <covey/memory/waitable.hpp>
#include <memory>
#include <span>

namespace covey::detail {

class watch_shard;

/// While it lives, its eventfd becomes readable when one of its words changes, somebody of the family dies, or
/// look_again_after has passed; once after each call of watch().
///
/// Safety: thread-compatible.
class watching {
 public:
  /// `eventfd` is the caller's and outlives this.
  explicit watching(int eventfd) : eventfd_(eventfd) {}
  watching(const watching&) = delete;
  watching& operator=(const watching&) = delete;
  ~watching() { forget(); }

  /// From now on these words and `deaths`, instead of those before. Words are read until the next call or the end.
  /// Throws std::system_error when there is no thread to be had, or argument_list_too_long.
  void watch(std::span<const wait_word> words, std::uint32_t deaths);

  /// No word is read any more.
  void forget() noexcept;

 private:
  int eventfd_;
  watch_shard* shard_ = nullptr;
};

/// How many words one thread can watch: futex_waitv takes 128, and it sleeps on `deaths` and on changes of its list.
inline constexpr std::size_t watched_words_max = 126;

/// Makes an eventfd readable.
void raise(int eventfd) noexcept;

/// Makes an eventfd unreadable.
void lower(int eventfd) noexcept;

/// Throws std::system_error.
int make_eventfd();

}  // namespace covey::detail
