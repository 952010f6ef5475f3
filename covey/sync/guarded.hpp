/// @file
/// guarded: a value that many read and update, and that is never seen half changed.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <covey/base/codec.hpp>
#include <covey/base/travel.hpp>
#include <covey/sync/handle.hpp>
#include <covey/sync/lock_forms.hpp>
#include <covey/sync/watched_word.hpp>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

namespace covey {
namespace detail {

template <class T>
inline constexpr bool refused_as_unknown = false;
template <class Culprit>
inline constexpr bool refused_as_unknown<verdict<refusal::unknown, Culprit>> = true;

/// Whether a T lies in shared memory as it is: plain bytes, in which no pointer is known to be.
template <class T>
inline constexpr bool lies_as_it_is =
    std::is_trivially_copyable_v<T> && (travels<T> || refused_as_unknown<decltype(examine<T>())>);

template <class T, class... Seen>
constexpr bool holds_handle();

template <class T, class... Seen, std::size_t... I>
constexpr bool fields_hold_handle(std::index_sequence<I...>) {
  return (holds_handle<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>, T, Seen...>() || ...);
}

template <class... T>
constexpr bool one_holds_handle(std::type_identity<std::variant<T...>>) {
  return (holds_handle<T>() || ...);
}

/// Whether a T that travels has a handle somewhere; as examine() looks at it. `Seen` are the aggregates around T.
template <class T, class... Seen>
constexpr bool holds_handle() {
  if constexpr (!travels<T> || plain_value<T>)
    return false;
  else if constexpr (hooked<T>)
    return holds_handle<packed_as<T>, Seen...>();
  else if constexpr (handle_type<T>)
    return true;
  else if constexpr (is_a<T, std::variant>)
    return one_holds_handle(std::type_identity<T>{});
  else if constexpr (tuple_type<T>)
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return (holds_handle<std::remove_cv_t<std::tuple_element_t<I, T>>, Seen...>() || ...);
    }(std::make_index_sequence<std::tuple_size_v<T>>{});
  else if constexpr (requires { typename T::value_type; })
    return holds_handle<typename T::value_type, Seen...>();
  else if constexpr (plain_aggregate<T> && !std::is_empty_v<T> && !(std::same_as<T, Seen> || ...))
    return fields_hold_handle<T, Seen...>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  else
    return false;
}

/// Two places for a value's bytes, and which of them is the value. docs/design/sync.md draws its states.
///
/// Safety: process-safe; the changing calls by whoever has locked.
/// Death:  one store makes the new bytes the value. Who dies before has changed nothing; there is nothing to repair.
class guarded_bytes {
 public:
  static constexpr std::uint64_t bytes_max = 32 << 20;  // of a value that does not lie as it is

  /// Of at most `capacity` bytes. `type` is what decoders compare. Throws std::system_error.
  guarded_bytes(std::uint64_t capacity, std::uint64_t type, const mutex_options& options);

  guarded_bytes(const guarded_bytes& other);
  guarded_bytes(guarded_bytes&& other) noexcept;
  guarded_bytes& operator=(guarded_bytes other) noexcept;
  ~guarded_bytes() = default;

  /// The value's bytes at one instant; never waits for a writer. Throws bad_message when their number makes no sense.
  void load(std::vector<std::uint64_t>& words) const;

  /// The same, of a value that takes exactly `words`.
  void load_exactly(std::span<std::uint64_t> words) const;

  /// Blocks until locked, `until`, or `stop`: then false. Throws std::system_error when this thread has locked already,
  /// and deadlock_detected.
  bool lock(const deadline& until, const stop_word* stop) const;
  void unlock() const noexcept;

  /// Makes `words` the value. Under the lock. Throws std::system_error when there is no memory for it, or it is beyond
  /// the capacity.
  void publish(std::span<const std::uint64_t> words) const;

  /// As handle_on::number().
  [[nodiscard]] std::uint32_t number() const noexcept { return static_cast<std::uint32_t>(region_.id()) + 1; }

  bool operator==(const guarded_bytes& other) const noexcept { return region_ == other.region_; }
  void encode(encoder& out) const { region_.encode(out); }
  static guarded_bytes decode(decoder& in, std::uint64_t type);

 private:
  friend struct looker;
  struct header {
    explicit header(const mutex_options& options) noexcept : updating(options) {}
    watched_word updating;
    std::atomic<std::uint32_t> version{0};
  };
  explicit guarded_bytes(region r) : region_(std::move(r)), base_(find()) {}
  [[nodiscard]] std::byte* find() const { return in_arena(this) ? nullptr : region_.data(); }
  [[nodiscard]] std::byte* base() const;
  [[nodiscard]] header& head() const;
  [[nodiscard]] std::uint64_t capacity() const;
  [[nodiscard]] std::uint64_t* place(std::uint32_t version) const;

  region region_;
  std::byte* base_;  // of the region; null in a handle that lies in shared memory
};

/// The bytes of a value that is encoded: their number, then they. Throws std::invalid_argument when handles are in it.
std::vector<std::uint64_t> words_of(const encoder& out);

/// The bytes in `words`. Throws bad_message.
std::span<const std::byte> bytes_in(std::span<const std::uint64_t> words);

}  // namespace detail

/// A value that many read and update, and that is seen whole or not at all, whoever dies.
///
/// `T` is copyable: plain bytes (numbers, aggregates and simple classes of them), or any type that travels, such as
/// standard containers and strings, which is then kept encoded. Pointers and handles (a mutex, a shared_ptr) are
/// refused when compiled.
///
/// Handle:  a copy is the same value; give it to any task, process or message.
/// Safety:  process-safe. Readers wait for nobody; an update waits for other updates. A reader begins again when two
///          updates pass while it copies.
/// Death:   whoever is killed inside an update, at any instruction, has changed nothing; nothing is stranded and
///          nothing need be repaired. The next update goes on. An update knows whom it waits for, and with
///          mutex_options::detect_deadlock finds that this would be for ever: two that wait inside each other's
///          function.
/// Limits:  a value that is kept encoded takes at most 32 MiB so.
/// Order:   what happened before an update is visible to whoever reads its value.
/// Fork:    a child forked past covey must not use it.
/// Design:  docs/design/sync.md. Example: examples/guarded.cpp
template <class T>
class guarded {
  static_assert(std::is_copy_constructible_v<T>, "covey: a guarded value is copied, so it must be copyable");
  static_assert(!detail::holds_handle<T>(),
                "covey: a guarded value cannot hold handles, such as a mutex or a shared_ptr: keep them beside it, and "
                "what they are to tell in it");

 public:
  using covey_handle = void;  ///< may travel to other processes
  using value_type = T;  ///< what it guards

  /// Guards a copy of `value`. Throws std::system_error if no shared memory can be had.
  explicit guarded(const T& value = T(), const mutex_options& options = {}) : bytes_(capacity(), type(), options) {
    if constexpr (!detail::lies_as_it_is<T>) detail::require_travels<T>();
    bytes_.publish(to_words(value));
  }

  /// The value at one instant. Waits for nobody.
  [[nodiscard]] T load() const { return load_words(); }

  /// What `f(value)` returns, by value, for the value at one instant. Waits for nobody.
  template <class F>
  auto read(F&& f) const {
    const T value = load();
    return std::invoke(std::forward<F>(f), value);
  }

  /// Makes `value` the value. Waits for other updates.
  void store(const T& value) {
    update([&](T& old) { old = value; });
  }

  /// As store; returns false, and does nothing, when `stop` was requested before its turn came.
  [[nodiscard]] bool store(const T& value, std::stop_token stop) {
    return update([&](T& old) { old = value; }, std::move(stop));
  }

  /// As store; returns false, and does nothing, when `timeout` passed, or `stop` was requested, before its turn came.
  template <class Rep, class Period>
  [[nodiscard]] bool store_for(const std::chrono::duration<Rep, Period>& timeout, const T& value,
                               std::stop_token stop = {}) {
    return update_for(timeout, [&](T& old) { old = value; }, std::move(stop));
  }

  /// As store_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration>
  [[nodiscard]] bool store_until(const std::chrono::time_point<Clock, Duration>& until, const T& value,
                                 std::stop_token stop = {}) {
    return update_until(until, [&](T& old) { old = value; }, std::move(stop));
  }

  /// Calls `f(copy)` with a private copy of the value, and then makes that the value by one store; returns what `f`
  /// returned. When `f` throws, nothing has changed. Waits for other updates. Throws std::system_error when `f` updates
  /// the same value, or there is no memory for what it has become, and deadlock_detected if it was made to.
  template <class F>
  auto update(F&& f) {
    (void)bytes_.lock(std::nullopt, nullptr);
    return update_locked(std::forward<F>(f));
  }

  /// As update; returns false, and does nothing, when `stop` was requested before its turn came.
  template <class F>
  [[nodiscard]] bool update(F&& f, std::stop_token stop) {
    return update_by(std::nullopt, std::forward<F>(f), std::move(stop));
  }

  /// As update; returns false, and does nothing, when `timeout` passed, or `stop` was requested, before its turn came.
  template <class Rep, class Period, class F>
  [[nodiscard]] bool update_for(const std::chrono::duration<Rep, Period>& timeout, F&& f, std::stop_token stop = {}) {
    return update_by(detail::deadline_in(timeout), std::forward<F>(f), std::move(stop));
  }

  /// As update_for, with a point in time. A clock that is set while this waits is not followed.
  template <class Clock, class Duration, class F>
  [[nodiscard]] bool update_until(const std::chrono::time_point<Clock, Duration>& until, F&& f,
                                  std::stop_token stop = {}) {
    return update_by(detail::steady(until), std::forward<F>(f), std::move(stop));
  }

  /// Its number among the family's objects that live now; deadlock_detected tells locks by it.
  [[nodiscard]] std::uint32_t number() const noexcept { return bytes_.number(); }

  /// Whether both name the same value.
  bool operator==(const guarded& other) const noexcept { return bytes_ == other.bytes_; }

  void encode_handle(detail::encoder& out) const { bytes_.encode(out); }  ///< for covey
  /// For covey.
  static guarded decode_handle(detail::decoder& in) { return guarded(detail::guarded_bytes::decode(in, type())); }

 private:
  static constexpr std::size_t word_count = (sizeof(T) + 7) / 8;
  using plain_words = std::array<std::uint64_t, word_count>;

  explicit guarded(detail::guarded_bytes b) : bytes_(std::move(b)) {}

  static constexpr std::uint64_t capacity() {
    return detail::lies_as_it_is<T> ? word_count * 8 : detail::guarded_bytes::bytes_max;
  }
  static std::uint64_t type() { return typeid(T).hash_code(); }

  static auto to_words(const T& value) {
    if constexpr (detail::lies_as_it_is<T>) {
      plain_words words{};
      std::memcpy(words.data(), &value, sizeof value);
      return words;
    } else {
      detail::encoder out;
      detail::encode(out, value);
      return detail::words_of(out);
    }
  }

  T load_words() const {
    if constexpr (detail::lies_as_it_is<T>) {
      plain_words words;
      bytes_.load_exactly(words);
      std::array<std::byte, sizeof(T)> bytes;
      std::memcpy(bytes.data(), words.data(), sizeof(T));
      return std::bit_cast<T>(bytes);
    } else {
      std::vector<std::uint64_t> words;
      bytes_.load(words);
      detail::decoder in{.rest = detail::bytes_in(words)};
      T value = detail::decode<T>(in);
      detail::expect_end(in);
      return value;
    }
  }

  struct unlocking {
    const detail::guarded_bytes& bytes;
    ~unlocking() { bytes.unlock(); }
  };

  template <class F>
  bool update_by(const detail::deadline& until, F&& f, std::stop_token stop) {
    const detail::stop_word stopped(std::move(stop));
    if (!bytes_.lock(until, &stopped)) return false;
    (void)update_locked([&](T& value) { (void)std::invoke(std::forward<F>(f), value); });
    return true;
  }

  // Under the lock, which it gives up.
  template <class F>
  auto update_locked(F&& f) {
    const unlocking when_left{bytes_};
    T value = load_words();
    if constexpr (std::is_void_v<std::invoke_result_t<F, T&>>) {
      std::invoke(std::forward<F>(f), value);
      bytes_.publish(to_words(value));
    } else {
      auto result = std::invoke(std::forward<F>(f), value);
      bytes_.publish(to_words(value));
      return result;
    }
  }

  detail::guarded_bytes bytes_;
};

}  // namespace covey
