#include <covey/memory/named_wire.hpp>

#include <cxxabi.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace covey::detail {
namespace {

bool printable(char c) { return c >= ' ' && c <= '~'; }

void check(bool good, const char* why) {
  if (!good) throw bad_message(why);
}

void check_shape(const named_shape& s) {
  check(s.bytes > 0 && s.bytes <= named_bytes_max, "covey: a named segment's object has an impossible size");
  check(std::has_single_bit(s.align) && s.align <= 4096, "covey: a named segment's object has an impossible alignment");
  check(s.type.size() <= type_name_bytes_max && std::ranges::all_of(s.type, printable),
        "covey: a named segment's type has an impossible name");
}

template <class T>
std::vector<std::byte> format(const T& body) {
  encoder out;
  const named_prefix prefix{named_magic, named_version};
  out.raw(&prefix.magic, sizeof prefix.magic);
  out.raw(&prefix.version, sizeof prefix.version);
  encode(out, body);
  return std::move(out.bytes);
}

template <class T>
T parse(std::span<const std::byte> message) {
  check(message.size() <= named_message_bytes_max, "covey: a message about a named segment is too long");
  check(version_of(message) == named_version, "covey: a message about a named segment has another version");
  decoder in{message};
  named_prefix prefix{};
  in.raw(&prefix.magic, sizeof prefix.magic);
  in.raw(&prefix.version, sizeof prefix.version);
  T body = decode<T>(in);
  expect_end(in);
  return body;
}

}  // namespace

std::string named_shape::text() const {
  char numbers[80];
  std::snprintf(numbers, sizeof numbers, " (%llu bytes, layout %llx)", static_cast<unsigned long long>(bytes),
                static_cast<unsigned long long>(layout));
  return type + numbers;
}

named_shape make_shape(std::size_t bytes, std::size_t align, std::uint64_t layout, const std::type_info& type) {
  for (const char* c = type.name(); *c != '\0'; ++c) layout = (layout ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr), &std::free);
  std::string name = readable != nullptr ? readable.get() : type.name();
  name.resize(std::min(name.size(), type_name_bytes_max));
  std::ranges::replace_if(name, [](char c) { return !printable(c); }, '?');
  return {.bytes = bytes, .align = align, .layout = layout, .type = std::move(name)};
}

std::uint32_t version_of(std::span<const std::byte> message) noexcept {
  std::uint64_t magic = 0;
  std::uint32_t version = 0;
  if (message.size() < sizeof magic + sizeof version) return 0;
  std::memcpy(&magic, message.data(), sizeof magic);
  std::memcpy(&version, message.data() + sizeof magic, sizeof version);
  return magic == named_magic ? version : 0;
}

std::vector<std::byte> format_hello(const named_hello& hello) { return format(hello); }
std::vector<std::byte> format_answer(const named_answer& answer) { return format(answer); }

named_hello parse_hello(std::span<const std::byte> message) {
  auto hello = parse<named_hello>(message);
  check_shape(hello.wanted);
  return hello;
}

named_answer parse_answer(std::span<const std::byte> message) {
  auto answer = parse<named_answer>(message);
  check(answer.verdict <= named_verdict::other_pid_namespace, "covey: an answer about a named segment is none");
  check(answer.with <= sharing::anyone, "covey: a named segment is shared with nobody known");
  check(answer.bytes <= named_bytes_max, "covey: a named segment has an impossible size");
  check_shape(answer.holds);
  return answer;
}

}  // namespace covey::detail
