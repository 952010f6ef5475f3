#include <covey/sync/watched_word.hpp>

#include <covey/sync/deadlock.hpp>

namespace covey::detail {

lock_word::outcome watched_word::lock_slowly(std::uint32_t number, lock_word::unrepaired_lock mode,
                                             const deadline& until, const stop_word* stop) {
  if (watched_ == 0 || until || stop != nullptr) return word_.lock(mode, until, stop);
  auto had = lock_word::outcome::not_now;
  wait_watched(
      true, number,
      [&](const deadline& next_look) {
        had = word_.lock(mode, next_look);
        return had != lock_word::outcome::not_now;
      },
      [&](const auto& ask) {
        if (const participant owner = word_.owner_approx(); owner != 0)
          ask(owner, [&] { return word_.owner_approx() == owner; });
      });
  return had;
}

void watched_word::tell_release() noexcept { note_release(); }

void watched_word::unlock_unrepaired() noexcept {
  if (watched_ != 0) tell_release();
  word_.unlock_unrepaired();
}

}  // namespace covey::detail
