/// @file
/// What may travel to another process, decided at compile time, with a sentence for what may not.
#pragma once

#include <array>
#include <chrono>
#include <complex>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <boost/pfr/core.hpp>
#include <boost/pfr/tuple_size.hpp>

namespace covey {

/// The hook by which a type of yours travels: specialize it with
/// `static U pack(const T&)` and `static T unpack(U)`, where U is any type that travels.
/// Example: examples/word_count.cpp sends paths; a URL class would pack to its text.
template <class T>
struct travel_as;

namespace detail {

template <class T>
concept hooked = requires(const T& value) {
  { travel_as<T>::unpack(travel_as<T>::pack(value)) } -> std::convertible_to<T>;
};

template <class T>
using packed_as = std::remove_cvref_t<decltype(travel_as<T>::pack(std::declval<const T&>()))>;

/// A type of ours that names a shared object: mutex, queue, shared_ptr, …
template <class T>
concept handle_type = requires { typename T::covey_handle; };

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... Args>
inline constexpr bool is_a<Template<Args...>, Template> = true;

template <class T>
inline constexpr bool is_std_array = false;
template <class T, std::size_t N>
inline constexpr bool is_std_array<std::array<T, N>> = true;

template <class T>
inline constexpr bool is_span = false;
template <class T, std::size_t N>
inline constexpr bool is_span<std::span<T, N>> = true;

template <class T>
inline constexpr bool is_view = is_span<T> || is_a<T, std::basic_string_view>;

template <class T>
concept number = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::same_as<T, std::byte>;

template <class T>
concept chrono_type = is_a<T, std::chrono::duration> || is_a<T, std::chrono::time_point>;

/// Owning containers that grow by insertion: vector, deque, list, string, set, map and the unordered ones.
template <class T>
concept growing_container = requires(T c, typename T::value_type v) {
  c.begin();
  c.end();
  c.size();
  c.clear();
  c.insert(c.end(), std::move(v));
} && !std::same_as<T, std::filesystem::path>;

template <class T>
concept tuple_type = is_a<T, std::tuple> || is_a<T, std::pair>;

/// A class with one plain call operator and something inside: in practice a capturing lambda or std::function.
template <class T>
concept stateful_callable = std::is_class_v<T> && !std::is_empty_v<T> && requires { &T::operator(); };

template <class T>
concept plain_aggregate = std::is_class_v<T> && std::is_aggregate_v<T> && !std::is_union_v<T>;

/// Text, numbers and the rest of std that travel by themselves.
template <class T>
concept plain_value =
    number<T> || chrono_type<T> || std::same_as<T, std::error_code> || std::same_as<T, std::filesystem::path>;

template <class T>
concept owning_pointer = is_a<T, std::unique_ptr> || is_a<T, std::shared_ptr> || is_a<T, std::weak_ptr>;

template <class T>
concept lock_of_std =
    std::same_as<T, std::mutex> || std::same_as<T, std::recursive_mutex> || std::same_as<T, std::condition_variable>;

// ---- the verdict: may it travel, and if not, what part of it may not
// -------------------------------------------------

/// Why a type does not travel; explain() has a sentence for each.
enum class refusal {
  none,
  reference,
  function_pointer,
  pointer,
  member_pointer,
  view,
  view_of_mutable,
  reference_wrapper,
  iterator,
  owning_pointer,
  lock_of_std,
  array,
  state,
  unknown
};

template <refusal Why, class Culprit>
struct verdict {
  static constexpr bool ok = Why == refusal::none;
};
using accepted = verdict<refusal::none, void>;

template <class T, class... Seen>
constexpr auto examine();

/// The first that is not accepted.
constexpr auto first_refused() { return accepted{}; }
template <class First, class... Rest>
constexpr auto first_refused(First, Rest... rest) {
  if constexpr (First::ok)
    return first_refused(rest...);
  else
    return First{};
}

/// Initializes any member of an aggregate.
struct any_member {
  template <class T>
  operator T() const&&;  // NOLINT(google-explicit-constructor): that is what it is for
};
template <std::size_t>
using another_member = any_member;

/// Whether `Before` members, a list of two, and `After` more initialize a T.
template <class T, std::size_t... Before, std::size_t... After>
constexpr bool takes_a_pair(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires { T{another_member<Before>{}..., {any_member{}, any_member{}}, another_member<After>{}...}; };
}

/// Whether one of the members of T from `At` on is a C array of two or more. Without braces of its own that takes an
/// initializer for each element, and Boost.PFR takes each for a member (`All`); with braces it takes one, as any other
/// member does, and there are too many after it. (Not found among members that cannot be made by default.)
template <class T, std::size_t All, std::size_t At = 0>
constexpr bool has_array_member() {
  if constexpr (At + 1 >= All)
    return false;
  else if constexpr (takes_a_pair<T>(std::make_index_sequence<At>{}, {}) &&
                     !takes_a_pair<T>(std::make_index_sequence<At>{}, std::make_index_sequence<All - At - 1>{}))
    return true;
  else
    return has_array_member<T, All, At + 1>();
}

template <class T, class... Seen, std::size_t... I>
constexpr auto examine_fields(std::index_sequence<I...>) {
  return first_refused(examine<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>, Seen...>()...);
}

template <class T, class... Seen, std::size_t... I>
constexpr auto examine_elements(std::index_sequence<I...>) {
  return first_refused(examine<std::remove_cv_t<std::tuple_element_t<I, T>>, Seen...>()...);
}

template <class... Seen, class... T>
constexpr auto examine_alternatives(std::type_identity<std::variant<T...>>) {
  return first_refused(examine<T, Seen...>()...);
}

/// `Seen` are the aggregates around T: one that contains itself (in a vector, say) is looked at once.
template <class T, class... Seen>
constexpr auto examine() {
  if constexpr (std::is_reference_v<T>) {
    return verdict<refusal::reference, T>{};
  } else if constexpr (hooked<T>) {
    return examine<packed_as<T>, Seen...>();
  } else if constexpr (handle_type<T> || plain_value<T>) {
    return accepted{};
  } else if constexpr (std::is_pointer_v<T> && std::is_function_v<std::remove_pointer_t<T>>) {
    return verdict<refusal::function_pointer, T>{};
  } else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    return verdict<refusal::pointer, T>{};
  } else if constexpr (std::is_member_pointer_v<T>) {
    return verdict<refusal::member_pointer, T>{};
  } else if constexpr (std::is_array_v<T>) {
    return verdict<refusal::array, T>{};
  } else if constexpr (is_span<T>) {
    using why = std::conditional_t<std::is_const_v<typename T::element_type>, verdict<refusal::view, T>,
                                   verdict<refusal::view_of_mutable, T>>;
    return why{};
  } else if constexpr (is_view<T>) {
    return verdict<refusal::view, T>{};
  } else if constexpr (is_a<T, std::reference_wrapper>) {
    return verdict<refusal::reference_wrapper, T>{};
  } else if constexpr (owning_pointer<T>) {
    return verdict<refusal::owning_pointer, T>{};
  } else if constexpr (lock_of_std<T>) {
    return verdict<refusal::lock_of_std, T>{};
  } else if constexpr (is_a<T, std::optional> || is_a<T, std::complex> || is_std_array<T>) {
    return examine<typename T::value_type, Seen...>();
  } else if constexpr (is_a<T, std::variant>) {
    return examine_alternatives<Seen...>(std::type_identity<T>{});
  } else if constexpr (tuple_type<T>) {
    return examine_elements<T, Seen...>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (growing_container<T>) {
    return examine<typename T::value_type, Seen...>();
  } else if constexpr (stateful_callable<T>) {
    return verdict<refusal::state, T>{};
  } else if constexpr (std::is_empty_v<T> && std::is_trivially_default_constructible_v<T>) {
    return accepted{};
  } else if constexpr (std::input_or_output_iterator<T>) {
    return verdict<refusal::iterator, T>{};
  } else if constexpr (plain_aggregate<T>) {
    if constexpr ((std::same_as<T, Seen> || ...))
      return accepted{};
    else if constexpr (has_array_member<T, boost::pfr::tuple_size_v<T>>())
      return verdict<refusal::array, T>{};
    else
      return examine_fields<T, T, Seen...>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  } else {
    return verdict<refusal::unknown, T>{};
  }
}

/// Compiles exactly when accepted; else stops with the sentence that helps. `Culprit` is the part that may not travel.
template <refusal Why, class Culprit>
constexpr void explain(verdict<Why, Culprit>) {
  static_assert(Why != refusal::reference,
                "covey: a reference would point into the wrong process: take the parameter by value or by const "
                "reference, and return what changed");
  static_assert(Why != refusal::function_pointer,
                "covey: a function travels only as the one that is called: as an argument use a lambda without "
                "captures");
  static_assert(Why != refusal::pointer,
                "covey: a raw pointer means nothing in another process: send the object itself (text as std::string), "
                "or a covey::shared_ptr to it");
  static_assert(Why != refusal::member_pointer, "covey: a member pointer travels only as the function that is called");
  static_assert(Why != refusal::view,
                "covey: a view points into the sender's memory: inside other types use std::string or std::vector (a "
                "view of const may be a parameter of the called function)");
  static_assert(Why != refusal::view_of_mutable,
                "covey: what another process writes into a span would be lost: take a span of const as a parameter, or "
                "a std::vector, and return what changed");
  static_assert(Why != refusal::reference_wrapper,
                "covey: a reference_wrapper points into the wrong process: send the object itself, or a "
                "covey::shared_ptr to it");
  static_assert(Why != refusal::iterator,
                "covey: an iterator points into the sender's memory: send the container or its values");
  static_assert(Why != refusal::owning_pointer,
                "covey: a smart pointer of std points into the sender's memory: send the object itself (or an optional "
                "of it), or use covey::shared_ptr");
  static_assert(Why != refusal::lock_of_std,
                "covey: a lock of std works in one process only: use covey::mutex and its kin");
  static_assert(Why != refusal::array, "covey: a C array does not travel, nor does what has one: use std::array");
  static_assert(Why != refusal::state,
                "covey: a capturing lambda would carry pointers into the wrong process: pass what it captures as "
                "arguments and return its results, or vouch for plain captures with covey::by_value(lambda)");
  static_assert(Why != refusal::unknown,
                "covey: this type has no way to travel: make it an aggregate of types that travel, or specialize "
                "covey::travel_as for it");
}

template <class T>
inline constexpr bool travels = decltype(examine<T>())::ok;

template <class T>
constexpr void require_travels() {
  explain(examine<T>());
}

}  // namespace detail
}  // namespace covey
