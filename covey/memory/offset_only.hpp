/// @file
/// Which types mean the same at any address, decided at compile time, with a sentence for those that do not.
#pragma once

#include <array>
#include <atomic>
#include <covey/base/travel.hpp>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace covey {

/// True for a class of yours that is no aggregate but holds only what covey::offset_only allows: you vouch for it by
/// `template <> inline constexpr bool covey::vouched_offset_only<your_class> = true;`. Programs that share it are then
/// compared by its name, size and alignment only.
template <class T>
inline constexpr bool vouched_offset_only = false;

namespace detail {

/// A type of ours made to lie in a named segment: offset_ptr, named_mutex, …
template <class T>
concept offset_type = requires { typename T::covey_offset_type; };

template <class T>
inline constexpr bool is_atomic = is_a<T, std::atomic>;

// ---- the fields of an aggregate -------------------------------------------------------------------------------------
// Not Boost.PFR, which needs fields that can be moved, as atomics and locks cannot.

struct any_value {
  template <class U>
  operator U() const noexcept;  // NOLINT: implicit on purpose; initializes a field that cannot be moved
};
struct any_lvalue {
  template <class U>
  operator U&() const noexcept;  // NOLINT
};

inline constexpr std::size_t fields_max = 24;
inline constexpr std::size_t fields_unknown = ~std::size_t{0};

template <class T, class... Found>
consteval std::size_t count_fields() {
  if constexpr (sizeof...(Found) > fields_max)
    return fields_unknown;
  else if constexpr (requires { T{Found{}..., any_value{}}; })
    return count_fields<T, Found..., any_value>();
  else if constexpr (requires { T{Found{}..., any_lvalue{}}; })
    return count_fields<T, Found..., any_lvalue>();
  else if constexpr (requires { T{Found{}..., {}}; })
    return fields_unknown;
  else
    return sizeof...(Found) == 0 && !std::is_empty_v<T> ? fields_unknown : sizeof...(Found);
}

template <class... T>
struct type_list {};

/// The types of the fields of `v`; only for decltype.
template <std::size_t N, class T>
auto fields_of(T& v) {
  // clang-format off
  if constexpr (N == 0) return type_list<>{};
  else if constexpr (N == 1) { auto& [a] = v; return type_list<decltype(a)>{}; }
  else if constexpr (N == 2) { auto& [a, b] = v; return type_list<decltype(a), decltype(b)>{}; }
  else if constexpr (N == 3) { auto& [a, b, c] = v; return type_list<decltype(a), decltype(b), decltype(c)>{}; }
  else if constexpr (N == 4) {
    auto& [a, b, c, d] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d)>{};
  }
  else if constexpr (N == 5) {
    auto& [a, b, c, d, e] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e)>{};
  }
  else if constexpr (N == 6) {
    auto& [a, b, c, d, e, f] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f)>{};
  }
  else if constexpr (N == 7) {
    auto& [a, b, c, d, e, f, g] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g)>{};
  }
  else if constexpr (N == 8) {
    auto& [a, b, c, d, e, f, g, h] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h)>{};
  }
  else if constexpr (N == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i)>{};
  }
  else if constexpr (N == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j)>{};
  }
  else if constexpr (N == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k)>{};
  }
  else if constexpr (N == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l)>{};
  }
  else if constexpr (N == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m)>{};
  }
  else if constexpr (N == 14) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n)>{};
  }
  else if constexpr (N == 15) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o)>{};
  }
  else if constexpr (N == 16) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p)>{};
  }
  else if constexpr (N == 17) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q)>{};
  }
  else if constexpr (N == 18) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r)>{};
  }
  else if constexpr (N == 19) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s)>{};
  }
  else if constexpr (N == 20) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s), decltype(t)>{};
  }
  else if constexpr (N == 21) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u)>{};
  }
  else if constexpr (N == 22) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, w] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(w)>{};
  }
  else if constexpr (N == 23) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, w, x] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(w), decltype(x)>{};
  }
  else if constexpr (N == 24) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, w, x, y] = v;
    return type_list<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), decltype(g),
        decltype(h), decltype(i), decltype(j), decltype(k), decltype(l), decltype(m), decltype(n), decltype(o),
        decltype(p), decltype(q), decltype(r), decltype(s), decltype(t), decltype(u), decltype(w), decltype(x),
        decltype(y)>{};
  }
  // clang-format on
}

template <class T>
using fields = decltype(fields_of<count_fields<T>()>(std::declval<T&>()));

// ---- the verdict ----------------------------------------------------------------------------------------------------

template <class T>
consteval bool is_offset_only();

template <class... T>
consteval bool all_offset_only(type_list<T...>) {
  return (is_offset_only<T>() && ...);
}

template <class T>
consteval bool is_offset_only() {
  if constexpr (std::is_reference_v<T> || std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_const_v<T>)
    return false;
  else if constexpr (number<T> || offset_type<T> || vouched_offset_only<T>)
    return true;
  else if constexpr (chrono_type<T> || is_std_array<T>) {
    if constexpr (is_a<T, std::chrono::duration>)
      return is_offset_only<typename T::rep>();
    else if constexpr (is_a<T, std::chrono::time_point>)
      return is_offset_only<typename T::duration>();
    else
      return is_offset_only<typename T::value_type>();
  } else if constexpr (is_atomic<T>) {
    if constexpr (T::is_always_lock_free)
      return is_offset_only<typename T::value_type>();
    else
      return false;
  } else if constexpr (plain_aggregate<T> && !is_view<T> && std::is_trivially_destructible_v<T>) {
    if constexpr (count_fields<T>() == fields_unknown)
      return false;
    else
      return all_offset_only(fields<T>{});
  } else
    return false;
}

/// Stops the compiler with the sentence that helps; one for all reasons, because the cure is the same.
template <class T>
constexpr void require_offset_only() {
  static_assert(is_offset_only<T>(),
                "covey: a named segment lies at another address in each program: it holds numbers, enums, std::array, "
                "lock-free std::atomic, covey::offset_ptr, offset_span, named_mutex, named_event and aggregates of up "
                "to 24 of these; no pointers, references, views, containers or covey's handles");
}

// ---- what two programs compare --------------------------------------------------------------------------------------

consteval std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) hash = (hash ^ ((value >> (8 * i)) & 0xff)) * 0x100000001b3ULL;  // FNV-1a
  return hash;
}

template <class T>
consteval std::uint64_t layout_of(std::uint64_t hash);

template <class... T>
consteval std::uint64_t layout_of_all(std::uint64_t hash, type_list<T...>) {
  ((hash = layout_of<T>(hash)), ...);
  return hash;
}

/// A number that two programs share exactly when they lay out T the same way, field by field.
template <class T>
consteval std::uint64_t layout_of(std::uint64_t hash) {
  hash = mix(mix(hash, sizeof(T)), alignof(T));
  if constexpr (std::is_enum_v<T>)
    return layout_of<std::underlying_type_t<T>>(mix(hash, 'e'));
  else if constexpr (number<T>)
    return mix(hash, std::is_same_v<T, bool>       ? 'b'
                     : std::is_floating_point_v<T> ? 'f'
                     : std::is_signed_v<T>         ? 'i'
                                                   : 'u');
  else if constexpr (offset_type<T> || vouched_offset_only<T>)
    return mix(hash, 'o');
  else if constexpr (is_a<T, std::chrono::duration>)
    return layout_of<typename T::rep>(mix(mix(mix(hash, 'd'), T::period::num), T::period::den));
  else if constexpr (is_a<T, std::chrono::time_point>)
    return layout_of<typename T::duration>(mix(hash, 't'));
  else if constexpr (is_std_array<T>)
    return layout_of<typename T::value_type>(mix(mix(hash, 'a'), std::tuple_size_v<T>));
  else if constexpr (is_atomic<T>)
    return layout_of<typename T::value_type>(mix(hash, 'A'));
  else
    return layout_of_all(mix(hash, 's'), fields<T>{});
}

#ifdef __GLIBC__
inline constexpr std::uint64_t layout_start = 0xcbf29ce484222325ULL;
#else
inline constexpr std::uint64_t layout_start = 0xcbf29ce484222326ULL;  // another C library: another lock inside
#endif

}  // namespace detail

/// A type that means the same at any address, so that programs which know nothing of each other may share it: numbers,
/// enums, std::chrono's durations and points, std::array, lock-free std::atomic, covey::offset_ptr, offset_span,
/// named_mutex, named_event, aggregates of these, and what is vouched for by vouched_offset_only.
template <class T>
concept offset_only = detail::is_offset_only<T>();

}  // namespace covey
