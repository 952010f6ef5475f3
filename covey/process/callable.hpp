/// @file
/// Calls as bytes: a function and its arguments, packed here, run in another process of the same program.
/// docs/design/code-and-values.md tells what is sent.
#pragma once

#include <covey/base/codec.hpp>
#include <stop_token>
#include <vector>

namespace covey {

/// A lambda with captures whose author vouches that its bytes mean the same in another process: plain values, no
/// pointers into private memory, no references. Made by by_value().
template <class F>
struct vouched {
  F function;  ///< what is called
};

/// Lets a lambda with captures travel by its bytes. The closure must be trivially copyable; that its captures are plain
/// values (no pointers, references, views or handles) is the author's word.
template <class F>
vouched<F> by_value(F function) {
  static_assert(std::is_trivially_copyable_v<F>, "covey: by_value needs captures that are plain values");
  return {std::move(function)};
}

namespace detail {

/// A call, ready to travel.
struct packed_call {
  std::uint64_t entry = 0;  // address of a trampoline
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> attachments;
};

/// Throws std::system_error when `address` is not code that was mapped before the family was forked.
void require_early_code(std::uint64_t address);

// ---- signatures ----------------------------------------------------------------------------------------------------

template <class... P>
struct parameters {};

template <class T>
struct signature;  // undefined: no single signature (an overloaded or generic call operator)
template <class R, class... P>
struct signature<R (*)(P...)> {
  using type = parameters<P...>;
};
template <class R, class... P>
struct signature<R (*)(P...) noexcept> {
  using type = parameters<P...>;
};
template <class R, class C, class... P>
struct signature<R (C::*)(P...)> {
  using type = parameters<P...>;
  using object = C&;
};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const> {
  using type = parameters<P...>;
  using object = const C&;
};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) noexcept> {
  using type = parameters<P...>;
  using object = C&;
};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const noexcept> {
  using type = parameters<P...>;
  using object = const C&;
};

template <class T>
struct unvouched {
  using type = T;
};
template <class T>
struct unvouched<vouched<T>> {
  using type = T;
};
template <class T>
inline constexpr bool is_vouched = is_a<T, vouched>;

/// A string literal or char pointer given to a generic callee travels as a std::string.
template <class Arg>
using generic_parameter =
    std::conditional_t<std::is_convertible_v<Arg, const char*> && std::is_pointer_v<std::decay_t<Arg>>, std::string,
                       std::decay_t<Arg>>;

template <class F, class... Args>
auto parameters_of() {
  using function = typename unvouched<F>::type;
  if constexpr (std::is_member_function_pointer_v<function>) {
    return []<class... P>(parameters<P...>) {
      return parameters<std::remove_cvref_t<typename signature<function>::object>, P...>{};
    }(typename signature<function>::type{});
  } else if constexpr (std::is_pointer_v<function>) {
    return typename signature<function>::type{};
  } else if constexpr (requires { &function::operator(); }) {
    return typename signature<decltype(&function::operator())>::type{};
  } else {
    return parameters<generic_parameter<Args>...>{};
  }
}

/// What is sent for a parameter P: views by their content, const references by value.
template <class P>
struct sent_as {
  using bare = std::remove_cvref_t<P>;
  using type =
      std::conditional_t<std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>, P, bare>;
};
template <class P>
  requires is_a<std::remove_cvref_t<P>, std::basic_string_view>
struct sent_as<P> {
  using type = std::basic_string<typename std::remove_cvref_t<P>::value_type>;
};
template <class P>
  requires is_span<std::remove_cvref_t<P>>
struct sent_as<P> {
  using type = std::vector<typename std::remove_cvref_t<P>::value_type>;
};

// ---- the other side ------------------------------------------------------------------------------------------------

/// The callable itself: nothing for one without state, the bytes of a pointer, the bytes of a vouched closure.
template <class F>
void encode_function(encoder& out, const F& f) {
  if constexpr (is_vouched<F>) {
    out.raw(&f.function, sizeof f.function);
  } else if constexpr (std::is_pointer_v<F>) {
    require_early_code(reinterpret_cast<std::uint64_t>(f));
    out.raw(&f, sizeof f);
  } else if constexpr (std::is_member_function_pointer_v<F>) {
    out.raw(&f, sizeof f);
  } else if constexpr (!std::is_empty_v<F> || !std::is_default_constructible_v<F>) {
    require_travels<F>();
  }
}

template <class F>
auto decode_function(decoder& in) {
  if constexpr (is_vouched<F>) {
    using closure = typename unvouched<F>::type;
    std::array<std::byte, sizeof(closure)> bytes;
    in.raw(bytes.data(), bytes.size());
    return std::bit_cast<closure>(bytes);
  } else if constexpr (std::is_pointer_v<F> || std::is_member_function_pointer_v<F>) {
    F f;
    in.raw(&f, sizeof f);
    return f;
  } else {
    return F{};
  }
}

template <class P, class Sent>
decltype(auto) as_parameter(Sent& sent) {
  if constexpr (is_view<std::remove_cvref_t<P>>) {
    return std::remove_cvref_t<P>(sent);
  } else if constexpr (std::is_lvalue_reference_v<P>) {
    return static_cast<const Sent&>(sent);
  } else {
    return std::move(sent);
  }
}

/// Runs a packed call: decodes, calls, and gives the result to `finish`.
template <class F, bool GivesToken, class... P, class Finish>
void run_packed(decoder& in, std::stop_token token, const Finish& finish, parameters<P...>) {
  auto function = decode_function<F>(in);
  std::tuple<typename sent_as<P>::type...> sent{decode<typename sent_as<P>::type>(in)...};
  expect_end(in);
  const auto call = [&]<std::size_t... I>(std::index_sequence<I...>) -> decltype(auto) {
    if constexpr (GivesToken)
      return std::invoke(function, std::move(token), as_parameter<P>(std::get<I>(sent))...);
    else
      return std::invoke(function, as_parameter<P>(std::get<I>(sent))...);
  };
  using sequence = std::index_sequence_for<P...>;
  if constexpr (std::is_void_v<decltype(call(sequence{}))>) {
    call(sequence{});
    finish();
  } else {
    finish(call(sequence{}));
  }
}

// ---- this side -----------------------------------------------------------------------------------------------------

template <class... P, class... Args>
void encode_arguments(encoder& out, parameters<P...>, Args&&... args) {
  static_assert(sizeof...(P) == sizeof...(Args), "covey: the function takes another number of arguments");
  (require_travels<typename sent_as<P>::type>(), ...);
  [[maybe_unused]] const auto one = [&]<class Sent, class Arg>(std::type_identity<Sent>, Arg&& arg) {
    if constexpr (std::is_same_v<std::remove_cvref_t<Arg>, Sent>) {
      encode(out, arg);
    } else if constexpr (is_span<std::remove_cvref_t<Arg>> || growing_container<std::remove_cvref_t<Arg>>) {
      if constexpr (std::is_constructible_v<Sent, Arg>)
        encode(out, Sent(std::forward<Arg>(arg)));
      else
        encode(out, Sent(arg.begin(), arg.end()));
    } else {
      static_assert(std::is_constructible_v<Sent, Arg>,
                    "covey: an argument does not convert to the function's parameter");
      encode(out, static_cast<Sent>(std::forward<Arg>(arg)));
    }
  };
  (one(std::type_identity<typename sent_as<P>::type>{}, std::forward<Args>(args)), ...);
}

template <class List>
struct without_token {
  using type = List;
  static constexpr bool has = false;
};
template <class... P>
struct without_token<parameters<std::stop_token, P...>> {
  using type = parameters<P...>;
  static constexpr bool has = true;
};

/// The parameters of F when called with Args, less a leading std::stop_token, which the callee's process makes itself.
template <class F, class... Args>
using call_parameters = without_token<decltype(parameters_of<F, Args...>())>;

/// The callable as it is kept: functions decay to pointers.
template <class F>
using kept = std::decay_t<F>;

/// Packs f(args…) to be run by `Trampoline<F, parameters>::run`.
template <template <class F, class Parameters> class Trampoline, class F, class... Args>
packed_call pack_call(const F& f, Args&&... args) {
  using parameters_type = call_parameters<F, Args...>;
  packed_call call;
  call.entry = reinterpret_cast<std::uint64_t>(&Trampoline<F, parameters_type>::run);
  require_early_code(call.entry);
  encoder out;
  encode_function(out, f);
  encode_arguments(out, typename parameters_type::type{}, std::forward<Args>(args)...);
  call.bytes = std::move(out.bytes);
  call.attachments = std::move(out.attachments);
  return call;
}

}  // namespace detail
}  // namespace covey
