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

/// The object of a member function, among its parameters.
template <class C>
struct object_parameter {};

template <class C, class... P>
struct member_signature {
  using type = parameters<P...>;
  using object = C;
};

template <class T>
struct signature;  // undefined: no single signature (an overloaded or generic call operator)
template <class R, class... P>
struct signature<R (*)(P...)> {
  using type = parameters<P...>;
};
template <class R, class... P>
struct signature<R (*)(P...) noexcept> : signature<R (*)(P...)> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...)> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...)&> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const&> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) noexcept> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const noexcept> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) & noexcept> : member_signature<C, P...> {};
template <class R, class C, class... P>
struct signature<R (C::*)(P...) const & noexcept> : member_signature<C, P...> {};

template <class T>
concept has_signature = requires { typename signature<T>::type; };

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

/// A member function's object: C, or what is given when that is derived from C, so that virtual functions find theirs.
template <class C, class... Args>
struct object_given {
  using type = C;
};
template <class C, class First, class... Rest>
  requires std::is_base_of_v<C, std::remove_cvref_t<First>>
struct object_given<C, First, Rest...> {
  using type = std::remove_cvref_t<First>;
};

template <class F, class... Args>
auto parameters_of() {
  using function = typename unvouched<F>::type;
  if constexpr (std::is_member_function_pointer_v<function> && has_signature<function>) {
    using object = typename object_given<typename signature<function>::object, Args...>::type;
    return []<class... P>(parameters<P...>) {
      return parameters<object_parameter<object>, P...>{};
    }(typename signature<function>::type{});
  } else if constexpr (has_signature<function>) {
    return typename signature<function>::type{};
  } else if constexpr (requires { requires has_signature<decltype(&function::operator())>; }) {
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
template <class C>
struct sent_as<object_parameter<C>> {
  using type = C;
};
template <class P>
  requires(is_span<std::remove_cvref_t<P>> && std::is_const_v<typename std::remove_cvref_t<P>::element_type>)
struct sent_as<P> {
  using type = std::vector<typename std::remove_cvref_t<P>::value_type>;
};

// ---- the other side ------------------------------------------------------------------------------------------------

/// Whether the words of a member function pointer name an entry of a virtual table, not code (Itanium C++ ABI; AArch64
/// keeps the mark in the second word).
inline bool is_virtual(std::span<const std::uint64_t, 2> words) {
#if defined(__aarch64__)
  return words[1] % 2 != 0;
#else
  return words[0] % 2 != 0;
#endif
}

/// The callable itself: nothing for one without state, the bytes of a pointer, the bytes of a vouched closure.
template <class F>
void encode_function(encoder& out, const F& f) {
  if constexpr (is_vouched<F>) {
    out.raw(&f.function, sizeof f.function);
  } else if constexpr (std::is_pointer_v<F>) {
    require_early_code(reinterpret_cast<std::uint64_t>(f));
    out.raw(static_cast<const void*>(&f), sizeof f);
  } else if constexpr (std::is_member_function_pointer_v<F>) {
    std::array<std::uint64_t, sizeof(F) / sizeof(std::uint64_t)> words;
    std::memcpy(words.data(), &f, sizeof f);
    if (!is_virtual(words)) require_early_code(words[0]);
    out.raw(static_cast<const void*>(&f), sizeof f);
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
    in.raw(static_cast<void*>(&f), sizeof f);
    return f;
  } else {
    return F{};
  }
}

template <class P, class Sent>
decltype(auto) as_parameter(Sent& sent) {
  if constexpr (is_a<P, object_parameter>) {
    return static_cast<Sent&>(sent);
  } else if constexpr (is_span<std::remove_cvref_t<P>>) {
    using span = std::remove_cvref_t<P>;
    if (span::extent != std::dynamic_extent && sent.size() != span::extent)
      throw bad_message("covey: a span of fixed extent was given another number of elements");
    return span(sent);
  } else if constexpr (is_view<std::remove_cvref_t<P>>) {
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

/// The type that an argument for P must convert to, as in a plain call.
template <class P>
struct called_with {
  using type = std::remove_cvref_t<P>;
};
template <class C>
struct called_with<object_parameter<C>> {
  using type = C;
};

template <class P, class Arg>
inline constexpr bool converts = std::is_same_v<std::remove_cvref_t<Arg>, typename sent_as<P>::type> ||
                                 std::is_convertible_v<Arg, typename called_with<P>::type>;

template <class P, class Arg>
void encode_argument(encoder& out, Arg&& arg) {
  using sent = typename sent_as<P>::type;
  if constexpr (std::is_same_v<std::remove_cvref_t<Arg>, sent>) {
    encode(out, arg);
  } else if constexpr (is_view<std::remove_cvref_t<P>>) {
    const std::remove_cvref_t<P> view = std::forward<Arg>(arg);
    encode(out, sent(view.begin(), view.end()));
  } else {
    encode(out, static_cast<sent>(std::forward<Arg>(arg)));
  }
}

template <class... P, class... Args>
void encode_arguments(encoder& out, parameters<P...>, Args&&... args) {
  (encode_argument<P>(out, std::forward<Args>(args)), ...);
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

// ---- what may be called, with a sentence for what may not
// ------------------------------------------------------------

/// Why a call does not travel; explain() has a sentence for each.
enum class call_refusal { none, state, vouched_state, not_a_function, signature, argument_count, conversion };

template <call_refusal Why, class F, class... Args>
struct call_verdict {
  static constexpr bool ok = Why == call_refusal::none;
};

template <call_refusal Why, class F, class... Args>
constexpr void explain(call_verdict<Why, F, Args...>) {
  static_assert(Why != call_refusal::state,
                "covey: a capturing lambda would carry pointers into the wrong process: pass what it captures as "
                "arguments and return its results, or vouch for plain captures with covey::by_value(lambda)");
  static_assert(
      Why != call_refusal::vouched_state,
      "covey: by_value needs captures that are plain values (numbers, enums and structs of them): pass others "
      "as arguments");
  static_assert(Why != call_refusal::not_a_function,
                "covey: what is to be called is no function, member function or lambda that takes these arguments");
  static_assert(Why != call_refusal::signature,
                "covey: this kind of function cannot be called from another process (variadic, or qualified by && or "
                "volatile): wrap it in a lambda without captures");
  static_assert(Why != call_refusal::argument_count, "covey: the function takes another number of arguments");
  static_assert(Why != call_refusal::conversion, "covey: an argument does not convert to the function's parameter");
}

template <class F, class... Args, class... P>
constexpr auto examine_arguments(parameters<P...>) {
  if constexpr (sizeof...(P) != sizeof...(Args)) {
    return call_verdict<call_refusal::argument_count, F, Args...>{};
  } else if constexpr (constexpr auto sent = first_refused(examine<typename sent_as<P>::type>()...); !sent.ok) {
    return sent;
  } else if constexpr (!(converts<P, Args> && ...)) {
    return call_verdict<call_refusal::conversion, F, Args...>{};
  } else {
    return call_verdict<call_refusal::none, F>{};
  }
}

template <class F, class... Args>
constexpr auto examine_call() {
  using function = typename unvouched<F>::type;
  constexpr bool pointer = std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;
  constexpr bool member = std::is_member_function_pointer_v<F>;
  if constexpr (pointer || member) {
    if constexpr (has_signature<F>)
      return examine_arguments<F, Args...>(typename call_parameters<F, Args...>::type{});
    else
      return call_verdict<call_refusal::signature, F>{};
  } else if constexpr (!std::is_class_v<function>) {
    return call_verdict<call_refusal::not_a_function, F>{};
  } else if constexpr (is_vouched<F> && !std::is_trivially_copyable_v<function>) {
    return call_verdict<call_refusal::vouched_state, F>{};
  } else if constexpr (!is_vouched<F> && !(std::is_empty_v<F> && std::is_default_constructible_v<F>)) {
    return call_verdict<call_refusal::state, F>{};
  } else if constexpr (requires { requires has_signature<decltype(&function::operator())>; }) {
    return examine_arguments<F, Args...>(typename call_parameters<F, Args...>::type{});
  } else if constexpr (!std::is_invocable_v<function&, generic_parameter<Args>...>) {
    return call_verdict<call_refusal::not_a_function, F, Args...>{};
  } else {
    return examine_arguments<F, Args...>(typename call_parameters<F, Args...>::type{});
  }
}

/// Packs f(args…) to be run by `Trampoline<F, parameters>::run`.
template <template <class F, class Parameters> class Trampoline, class F, class... Args>
packed_call pack_call(const F& f, Args&&... args) {
  using verdict = decltype(examine_call<F, Args...>());
  explain(verdict{});
  packed_call call;
  if constexpr (verdict::ok) {
    using parameters_type = call_parameters<F, Args...>;
    call.entry = reinterpret_cast<std::uint64_t>(&Trampoline<F, parameters_type>::run);
    require_early_code(call.entry);
    encoder out;
    encode_function(out, f);
    encode_arguments(out, typename parameters_type::type{}, std::forward<Args>(args)...);
    call.bytes = std::move(out.bytes);
    call.attachments = std::move(out.attachments);
  }
  return call;
}

}  // namespace detail
}  // namespace covey
