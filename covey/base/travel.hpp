/// @file
/// What may travel to another process, decided at compile time, with a sentence for what may not.
#pragma once

#include <array>
#include <chrono>
#include <complex>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <functional>
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

template <class T>
inline constexpr bool always_false = false;

template <class T>
constexpr void require_travels();

template <class T, std::size_t... I>
constexpr void require_fields(std::index_sequence<I...>) {
  (require_travels<boost::pfr::tuple_element_t<I, T>>(), ...);
}

template <class T, std::size_t... I>
constexpr void require_elements(std::index_sequence<I...>) {
  (require_travels<std::remove_cv_t<std::tuple_element_t<I, T>>>(), ...);
}

template <class... T>
constexpr void require_alternatives(std::type_identity<std::variant<T...>>) {
  (require_travels<T>(), ...);
}

/// Compiles exactly when a T may travel; else stops with the sentence that helps.
template <class T>
constexpr void require_travels() {
  if constexpr (std::is_reference_v<T>) {
    static_assert(always_false<T>,
                  "covey: a reference would point into the wrong process: take the parameter by value or by "
                  "const reference, and return what changed");
  } else if constexpr (hooked<T> || handle_type<T> || number<T> || chrono_type<T> || std::same_as<T, std::error_code> ||
                       std::same_as<T, std::filesystem::path> || std::same_as<T, std::monostate> ||
                       std::same_as<T, std::nullopt_t>) {
  } else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    static_assert(always_false<T>,
                  "covey: a raw pointer means nothing in another process: send the object itself, or a "
                  "covey::shared_ptr to it");
  } else if constexpr (std::is_member_pointer_v<T>) {
    static_assert(always_false<T>, "covey: a member pointer travels only as the function that is called");
  } else if constexpr (is_view<T>) {
    static_assert(always_false<T>,
                  "covey: a view points into the sender's memory: inside other types use std::string or "
                  "std::vector (a view may be a parameter of the called function)");
  } else if constexpr (is_a<T, std::reference_wrapper>) {
    static_assert(always_false<T>,
                  "covey: a reference_wrapper points into the wrong process: send the object itself, or a "
                  "covey::shared_ptr to it");
  } else if constexpr (is_a<T, std::optional>) {
    require_travels<typename T::value_type>();
  } else if constexpr (is_a<T, std::variant>) {
    require_alternatives(std::type_identity<T>{});
  } else if constexpr (is_a<T, std::complex>) {
    require_travels<typename T::value_type>();
  } else if constexpr (is_std_array<T>) {
    require_travels<typename T::value_type>();
  } else if constexpr (tuple_type<T>) {
    require_elements<T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (growing_container<T>) {
    require_travels<typename T::value_type>();
  } else if constexpr (stateful_callable<T>) {
    static_assert(always_false<T>,
                  "covey: a capturing lambda would carry pointers into the wrong process: pass what it captures "
                  "as arguments and return its results, or vouch for plain captures with covey::by_value(lambda)");
  } else if constexpr (std::is_empty_v<T> && std::is_trivially_default_constructible_v<T>) {
  } else if constexpr (plain_aggregate<T>) {
    require_fields<T>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  } else {
    static_assert(always_false<T>,
                  "covey: this type has no way to travel: make it an aggregate of types that travel, or "
                  "specialize covey::travel_as for it");
  }
}

}  // namespace detail
}  // namespace covey
