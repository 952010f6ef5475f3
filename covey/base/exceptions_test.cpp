// An exception that crossed to another process is caught there by the same type, with the same text.
#include <covey/base/exceptions.hpp>
#include <gtest/gtest.h>

namespace shop {
struct sold_out : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct unlisted : std::runtime_error {
  using std::runtime_error::runtime_error;
};
}  // namespace shop

COVEY_EXCEPTION(shop::sold_out)

namespace {

template <class E>
void cross(const E& e) {
  covey::detail::encoder out;
  covey::detail::encode_exception(out, std::make_exception_ptr(e));
  covey::detail::decoder in{out.bytes};
  std::rethrow_exception(covey::detail::decode_exception(in));
}

template <class Caught, class E>
std::string what_after(const E& e) {
  try {
    cross(e);
  } catch (const Caught& caught) {
    EXPECT_EQ(typeid(caught), typeid(Caught));
    return caught.what();
  }
  return "not thrown";
}

TEST(Exceptions, KeepStandardTypes) {
  EXPECT_EQ(what_after<std::out_of_range>(std::out_of_range("index 9")), "index 9");
  EXPECT_EQ(what_after<std::invalid_argument>(std::invalid_argument("no")), "no");
  EXPECT_THROW(cross(std::bad_alloc()), std::bad_alloc);
}

TEST(Exceptions, KeepTheCodeAndTheTextOfSystemErrors) {
  const std::system_error e(ENOENT, std::system_category(), "open inbox");
  EXPECT_EQ(what_after<std::system_error>(e), e.what());
  try {
    cross(e);
  } catch (const std::system_error& caught) {
    EXPECT_EQ(caught.code(), std::errc::no_such_file_or_directory);
  }
}

TEST(Exceptions, KeepRegisteredTypes) { EXPECT_EQ(what_after<shop::sold_out>(shop::sold_out("apples")), "apples"); }

TEST(Exceptions, NameTheTypeOfOthers) {
  EXPECT_EQ(what_after<covey::remote_error>(shop::unlisted("pears")), "shop::unlisted: pears");
  EXPECT_EQ(what_after<covey::remote_error>(42), "int: not a std::exception");
}

TEST(Exceptions, KeepTheNameOfARemoteErrorOnASecondWay) {
  EXPECT_EQ(what_after<covey::remote_error>(covey::remote_error("a::b", "text")), "a::b: text");
}

TEST(Exceptions, AreBadMessagesWhenTheBytesMakeNoSense) {
  const std::byte junk[] = {std::byte{200}, std::byte{1}};
  covey::detail::decoder in{junk};
  EXPECT_THROW(std::rethrow_exception(covey::detail::decode_exception(in)), covey::bad_message);
}

// what() ends at a NUL, the type and the text do not: encoding once cut the one by the length of the other.
TEST(Exceptions, PassesOnARemoteErrorThatHoldsANul) {
  using namespace covey::detail;
  using namespace std::string_literals;
  encoder out;
  encode_exception(out, std::make_exception_ptr(covey::remote_error("a\0type"s, "a\0text"s)));
  decoder in{out.bytes};
  try {
    std::rethrow_exception(decode_exception(in));
  } catch (const covey::remote_error& e) {
    EXPECT_EQ(e.type(), "a\0type"s);
    EXPECT_EQ(e.text(), "a\0text"s);
  }
}

}  // namespace
