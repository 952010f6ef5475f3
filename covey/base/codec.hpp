/// @file
/// Values as bytes and back, between processes of one program. docs/design/code-and-values.md has the table of types.
#pragma once

#include <covey/base/travel.hpp>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace covey {

/// A message that cannot be what its reader expects: truncated, too long, or an impossible value.
class bad_message : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// How deep aggregates and hooked types may lie in one another; only types that contain themselves get there.
inline constexpr int depth_max = 1000;

/// Bytes being written, and the shared objects that they name.
struct encoder {
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> attachments;  // ids of regions; whoever stores the bytes keeps a reference to each
  int depth = 0;

  void raw(const void* data, std::size_t size) {
    if (size == 0) return;
    const std::size_t before = bytes.size();
    bytes.resize(before + size);
    std::memcpy(bytes.data() + before, data, size);
  }
};

/// Bytes being read. `carrier` holds the references of the handles in them.
struct decoder {
  std::span<const std::byte> rest;
  std::uint64_t carrier = 0;
  int depth = 0;

  void raw(void* data, std::size_t size) {
    if (size > rest.size()) throw bad_message("covey: a message ends too early");
    if (size == 0) return;  // `data` may be null then, and memcpy must not see that
    std::memcpy(data, rest.data(), size);
    rest = rest.subspan(size);
  }

  /// A length, not more than the rest can hold when each element takes at least `least` bytes.
  std::size_t length(std::size_t least) {
    std::uint64_t n = 0;
    raw(&n, sizeof n);
    if (n > rest.size() / least) throw bad_message("covey: a message names a length beyond its end");
    return static_cast<std::size_t>(n);
  }
};

/// One level deeper, while it lives.
class deeper {
 public:
  explicit deeper(int& depth) : depth_(depth) {
    if (depth_ == depth_max) throw bad_message("covey: a value is nested too deep to travel");
    ++depth_;
  }
  deeper(const deeper&) = delete;
  deeper& operator=(const deeper&) = delete;
  ~deeper() { --depth_; }

 private:
  int& depth_;
};

template <class T>
void encode(encoder& out, const T& value);
template <class T>
T decode(decoder& in);

template <class T>
constexpr std::size_t least_bytes();

template <class T, std::size_t... I>
constexpr std::size_t least_bytes_of_elements(std::index_sequence<I...>) {
  return (std::size_t{0} + ... + least_bytes<std::remove_cv_t<std::tuple_element_t<I, T>>>());
}

template <class T, std::size_t... I>
constexpr std::size_t least_bytes_of_fields(std::index_sequence<I...>) {
  return (std::size_t{0} + ... + least_bytes<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>>());
}

/// Types without content take one byte, so that no length is larger than its message.
template <class T>
inline constexpr bool takes_nothing = false;
template <class T>
  requires(std::is_empty_v<T>)
inline constexpr bool takes_nothing<T> = !hooked<T> && !handle_type<T>;
template <class T>
inline constexpr bool takes_nothing<std::array<T, 0>> = true;

/// A bound from below of the bytes that a T takes; never 0.
template <class T>
constexpr std::size_t least_bytes() {
  if constexpr (hooked<T>)
    return least_bytes<packed_as<T>>();
  else if constexpr (handle_type<T> || takes_nothing<T> || is_a<T, std::optional>)
    return 1;
  else if constexpr (number<T>)
    return sizeof(T);
  else if constexpr (std::same_as<T, std::error_code>)
    return 12;
  else if constexpr (is_a<T, std::variant>)
    return 5;
  else if constexpr (is_std_array<T>)
    return std::tuple_size_v<T> * least_bytes<typename T::value_type>();
  else if constexpr (is_a<T, std::complex>)
    return 2 * sizeof(typename T::value_type);
  else if constexpr (is_a<T, std::chrono::duration>)
    return least_bytes<typename T::rep>();
  else if constexpr (is_a<T, std::chrono::time_point>)
    return least_bytes<typename T::rep>();
  else if constexpr (growing_container<T> || std::same_as<T, std::filesystem::path>)
    return 8;
  else if constexpr (tuple_type<T>)
    return least_bytes_of_elements<T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  else
    return least_bytes_of_fields<T>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
}

template <class T, std::size_t... I>
constexpr bool fields_are_bitwise(std::index_sequence<I...>);

/// Whether a T is encoded as the bytes that it has: numbers, arrays of such, and aggregates of such without padding.
template <class T>
constexpr bool is_bitwise() {
  if constexpr (!travels<T> || hooked<T> || handle_type<T> || takes_nothing<T> || !std::is_trivially_copyable_v<T>)
    return false;
  else if constexpr (number<T>)
    return !std::same_as<T, bool>;
  else if constexpr (is_std_array<T>)
    return is_bitwise<typename T::value_type>();
  else if constexpr (std::is_aggregate_v<T> && !std::is_array_v<T>)
    return least_bytes<T>() == sizeof(T) &&
           fields_are_bitwise<T>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  else
    return false;
}

template <class T, std::size_t... I>
constexpr bool fields_are_bitwise(std::index_sequence<I...>) {
  return (is_bitwise<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>>() && ...);
}

inline void encode_length(encoder& out, std::size_t n) {
  const std::uint64_t wide = n;
  out.raw(&wide, sizeof wide);
}

/// The category of an error code by name: addresses of categories agree, but only std's are known to both sides.
void encode_error_code(encoder& out, const std::error_code& code);
std::error_code decode_error_code(decoder& in);

template <class T>
inline constexpr bool is_bulk = false;  // contiguous and bitwise: copied at once
template <class T, class A>
inline constexpr bool is_bulk<std::vector<T, A>> = number<T> && !std::same_as<T, bool>;
template <class C, class R, class A>
inline constexpr bool is_bulk<std::basic_string<C, R, A>> = true;

template <class T>
inline constexpr bool is_bulk_array = false;
template <class T, std::size_t N>
inline constexpr bool is_bulk_array<std::array<T, N>> = number<T> && !std::same_as<T, bool>;

template <class T>
T decode_container(decoder& in) {
  T result;
  if constexpr (is_bulk<T>) {
    const std::size_t n = in.length(sizeof(typename T::value_type));
    result.resize(n);
    in.raw(result.data(), n * sizeof(typename T::value_type));
  } else {
    using element = typename T::value_type;
    const std::size_t n = in.length(least_bytes<element>());
    for (std::size_t i = 0; i < n; ++i) {
      if constexpr (requires { typename T::mapped_type; }) {
        auto key = decode<typename T::key_type>(in);
        auto mapped = decode<typename T::mapped_type>(in);
        result.emplace_hint(result.end(), std::move(key), std::move(mapped));
      } else {
        result.insert(result.end(), decode<element>(in));
      }
    }
  }
  return result;
}

template <class T, std::size_t I = 0>
T decode_alternative(decoder& in, std::size_t index) {
  if constexpr (I == std::variant_size_v<T>) {
    throw bad_message("covey: a message names an alternative that its variant does not have");
  } else {
    if (index == I) return T(std::in_place_index<I>, decode<std::variant_alternative_t<I, T>>(in));
    return decode_alternative<T, I + 1>(in, index);
  }
}

template <class T, std::size_t... I>
T decode_elements(decoder& in, std::index_sequence<I...>) {
  return T{decode<std::remove_cv_t<std::tuple_element_t<I, T>>>(in)...};  // braces: left to right
}

template <class T, std::size_t... I>
T decode_fields(decoder& in, std::index_sequence<I...>) {
  return T{decode<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>>(in)...};
}

template <class T>
void encode(encoder& out, const T& value) {
  if constexpr (!travels<T>) {
    require_travels<T>();
  } else if constexpr (hooked<T>) {
    const deeper level(out.depth);
    encode(out, travel_as<T>::pack(value));
  } else if constexpr (handle_type<T>) {
    value.encode_handle(out);
  } else if constexpr (takes_nothing<T>) {
    encode(out, std::uint8_t{0});
  } else if constexpr (number<T>) {
    out.raw(&value, sizeof value);
  } else if constexpr (is_a<T, std::chrono::duration>) {
    encode(out, value.count());
  } else if constexpr (is_a<T, std::chrono::time_point>) {
    encode(out, value.time_since_epoch());
  } else if constexpr (std::same_as<T, std::error_code>) {
    encode_error_code(out, value);
  } else if constexpr (std::same_as<T, std::filesystem::path>) {
    encode(out, value.native());
  } else if constexpr (is_a<T, std::optional>) {
    encode(out, value.has_value());
    if (value) encode(out, *value);
  } else if constexpr (is_a<T, std::variant>) {
    if (value.valueless_by_exception()) throw bad_message("covey: a valueless variant cannot travel");
    encode(out, static_cast<std::uint32_t>(value.index()));
    std::visit([&](const auto& held) { encode(out, held); }, value);
  } else if constexpr (is_a<T, std::complex>) {
    encode(out, value.real());
    encode(out, value.imag());
  } else if constexpr (tuple_type<T>) {
    std::apply([&](const auto&... element) { (encode(out, element), ...); }, value);
  } else if constexpr (is_bulk_array<T>) {
    out.raw(value.data(), sizeof value);
  } else if constexpr (is_std_array<T>) {
    for (const auto& element : value) encode(out, element);
  } else if constexpr (is_bulk<T>) {
    encode_length(out, value.size());
    out.raw(value.data(), value.size() * sizeof(typename T::value_type));
  } else if constexpr (growing_container<T>) {
    encode_length(out, value.size());
    for (const typename T::value_type& element : value) encode(out, element);
  } else {
    const deeper level(out.depth);
    boost::pfr::for_each_field(value, [&](const auto& field) { encode(out, field); });
  }
}

template <class T>
T decode(decoder& in) {
  if constexpr (!travels<T>) {
    require_travels<T>();
  } else if constexpr (hooked<T>) {
    const deeper level(in.depth);
    return travel_as<T>::unpack(decode<packed_as<T>>(in));
  } else if constexpr (handle_type<T>) {
    return T::decode_handle(in);
  } else if constexpr (takes_nothing<T>) {
    (void)decode<std::uint8_t>(in);
    return T{};
  } else if constexpr (std::same_as<T, bool>) {
    return decode<std::uint8_t>(in) != 0;
  } else if constexpr (number<T>) {
    T value;
    in.raw(&value, sizeof value);
    return value;
  } else if constexpr (is_a<T, std::chrono::duration>) {
    return T(decode<typename T::rep>(in));
  } else if constexpr (is_a<T, std::chrono::time_point>) {
    return T(decode<typename T::duration>(in));
  } else if constexpr (std::same_as<T, std::error_code>) {
    return decode_error_code(in);
  } else if constexpr (std::same_as<T, std::filesystem::path>) {
    return T(decode<std::filesystem::path::string_type>(in));
  } else if constexpr (is_a<T, std::optional>) {
    if (decode<bool>(in)) return T(decode<typename T::value_type>(in));
    return T();
  } else if constexpr (is_a<T, std::variant>) {
    return decode_alternative<T>(in, decode<std::uint32_t>(in));
  } else if constexpr (is_a<T, std::complex>) {
    const auto real = decode<typename T::value_type>(in);
    return T(real, decode<typename T::value_type>(in));
  } else if constexpr (tuple_type<T>) {
    return decode_elements<T>(in, std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (is_bulk_array<T>) {
    T value;
    in.raw(value.data(), sizeof value);
    return value;
  } else if constexpr (is_std_array<T>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return T{((void)I, decode<typename T::value_type>(in))...};
    }(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (growing_container<T>) {
    return decode_container<T>(in);
  } else {
    const deeper level(in.depth);
    return decode_fields<T>(in, std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  }
}

/// Throws bad_message unless all was read.
inline void expect_end(const decoder& in) {
  if (!in.rest.empty()) throw bad_message("covey: a message is longer than what it says");
}

}  // namespace detail
}  // namespace covey
