#include <covey/base/codec.hpp>

#include <future>

namespace covey::detail {

void encode_error_code(encoder& out, const std::error_code& code) {
  encode(out, std::string(code.category().name()));
  encode(out, code.value());
}

std::error_code decode_error_code(decoder& in) {
  const auto category = decode<std::string>(in);
  const int value = decode<int>(in);
  for (const std::error_category* known :
       {&std::system_category(), &std::generic_category(), &std::iostream_category(), &std::future_category()})
    if (category == known->name()) return {value, *known};
  return {value, std::generic_category()};
}

}  // namespace covey::detail
