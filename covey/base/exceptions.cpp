#include <covey/base/exceptions.hpp>

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace covey::detail {
namespace {

enum class tag : std::uint8_t { unknown, named, registered, system, bad_alloc, bad_cast, bad_variant, bad_optional };

exception_kind* first_kind = nullptr;  // written by static initialization, before main

template <class E>
exception_kind make_kind() {
  return {typeid(E).name(), is_exactly<E>, rebuild<E>, nullptr};
}

// std's exceptions that are made from a text, most derived types exactly.
exception_kind std_kinds[] = {
    make_kind<std::runtime_error>(), make_kind<std::logic_error>(),    make_kind<std::invalid_argument>(),
    make_kind<std::out_of_range>(),  make_kind<std::length_error>(),   make_kind<std::domain_error>(),
    make_kind<std::range_error>(),   make_kind<std::overflow_error>(), make_kind<std::underflow_error>(),
    make_kind<bad_message>(),
};

template <class Visit>
const exception_kind* find_kind(const Visit& matches) {
  for (const exception_kind& k : std_kinds)
    if (matches(k)) return &k;
  for (const exception_kind* k = first_kind; k != nullptr; k = k->next)
    if (matches(*k)) return k;
  return nullptr;
}

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 && text ? text.get() : name;
}

void put(encoder& out, tag t, const std::string& type, const std::string& what, const std::error_code& code = {}) {
  encode(out, t);
  encode(out, type);
  encode(out, what);
  encode(out, code);
}

void encode_std_exception(encoder& out, const std::exception& e) {
  const char* const name = typeid(e).name();
  if (const auto* s = dynamic_cast<const std::system_error*>(&e)) {
    // what() is "context: reason"; the constructor adds the reason again.
    std::string context = e.what();
    const std::string reason = s->code().message();
    if (context.ends_with(reason)) context.resize(context.size() - reason.size());
    if (context.ends_with(": ")) context.resize(context.size() - 2);
    const bool exact = typeid(e) == typeid(std::system_error);
    const bool file = typeid(e) == typeid(std::filesystem::filesystem_error);
    put(out, exact || file ? tag::system : tag::named, name, exact || file ? context : e.what(), s->code());
  } else if (const auto* kind = find_kind([&](const exception_kind& k) { return k.matches(e); })) {
    put(out, tag::registered, kind->type, e.what());
  } else if (typeid(e) == typeid(std::bad_alloc)) {
    put(out, tag::bad_alloc, name, e.what());
  } else if (typeid(e) == typeid(std::bad_variant_access)) {
    put(out, tag::bad_variant, name, e.what());
  } else if (typeid(e) == typeid(std::bad_optional_access)) {
    put(out, tag::bad_optional, name, e.what());
  } else if (typeid(e) == typeid(std::bad_cast)) {
    put(out, tag::bad_cast, name, e.what());
  } else if (const auto* r = dynamic_cast<const remote_error*>(&e)) {
    put(out, tag::unknown, r->type(), r->text());
  } else {
    put(out, tag::named, name, e.what());
  }
}

std::exception_ptr rebuild_exception(tag t, const std::string& type, const std::string& what,
                                     const std::error_code& code) {
  switch (t) {
    case tag::registered:
      if (const auto* kind = find_kind([&](const exception_kind& k) { return type == k.type; }))
        return kind->rebuild(what);
      return std::make_exception_ptr(remote_error(demangled(type.c_str()), what));
    case tag::system:
      return std::make_exception_ptr(what.empty() ? std::system_error(code) : std::system_error(code, what));
    case tag::bad_alloc: return std::make_exception_ptr(std::bad_alloc());
    case tag::bad_cast: return std::make_exception_ptr(std::bad_cast());
    case tag::bad_variant: return std::make_exception_ptr(std::bad_variant_access());
    case tag::bad_optional: return std::make_exception_ptr(std::bad_optional_access());
    case tag::named: return std::make_exception_ptr(remote_error(demangled(type.c_str()), what));
    default: return std::make_exception_ptr(remote_error(type, what));
  }
}

}  // namespace

bool register_exception(exception_kind& kind) {
  kind.next = first_kind;
  first_kind = &kind;
  return true;
}

void encode_exception(encoder& out, const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& known) {
    encode_std_exception(out, known);
  } catch (...) {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    put(out, tag::unknown, type != nullptr ? demangled(type->name()) : "unknown", "not a std::exception");
  }
}

std::exception_ptr decode_exception(decoder& in) noexcept {
  try {
    const auto t = decode<tag>(in);
    const auto type = decode<std::string>(in);
    const auto what = decode<std::string>(in);
    return rebuild_exception(t, type, what, decode<std::error_code>(in));
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace covey::detail
