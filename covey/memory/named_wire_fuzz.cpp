// Any bytes are refused with bad_message, or become a message that keeps its bounds and survives format → parse. The
// first byte chooses which message is expected.
#include <algorithm>
#include <covey/base/check.hpp>
#include <covey/memory/named_wire.hpp>

namespace {

using namespace covey::detail;

void check_shape(const named_shape& s) {
  COVEY_CHECK(s.bytes > 0 && s.bytes <= named_bytes_max && s.align > 0 && s.align <= 4096,
              "an accepted shape is possible");
  COVEY_CHECK(s.type.size() <= type_name_bytes_max, "an accepted name is short");
  COVEY_CHECK(std::ranges::all_of(s.type, [](char c) { return c >= ' ' && c <= '~'; }),
              "an accepted name is printable");
}

template <class Parse, class Format, class Check>
void try_message(std::span<const std::byte> bytes, const Parse& parse, const Format& format, const Check& check) {
  try {
    const auto message = parse(bytes);
    COVEY_CHECK(version_of(bytes) == named_version, "only this version is accepted");
    COVEY_CHECK(bytes.size() <= named_message_bytes_max, "what is accepted is short");
    check(message);
    COVEY_CHECK(std::ranges::equal(format(message), bytes), "what is accepted survives format and parse");
  } catch (const covey::bad_message&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  if (data[0] % 2 == 0)
    try_message(bytes, parse_hello, format_hello, [](const named_hello& h) { check_shape(h.wanted); });
  else
    try_message(bytes, parse_answer, format_answer, [](const named_answer& a) {
      check_shape(a.holds);
      COVEY_CHECK(a.bytes <= named_bytes_max, "an accepted size is possible");
      COVEY_CHECK(a.verdict <= named_verdict::other_pid_namespace, "an accepted verdict is one");
    });
  return 0;
}
