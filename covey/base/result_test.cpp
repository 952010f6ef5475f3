// Errors travel as values and become exceptions only at the surface.
#include <covey/base/result.hpp>
#include <gtest/gtest.h>

namespace {

covey::result<int> half(int n) {
  if (n % 2 != 0) return covey::from_errno(EINVAL, "halve " + std::to_string(n));
  return n / 2;
}

covey::result<int> quarter(int n) {
  COVEY_TRY(const int h, half(n));
  return half(h);
}

TEST(Result, PassesTheFirstErrorUpWithItsContext) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message(), "halve 3: Invalid argument");
}

TEST(Result, ThrowsSystemErrorAtTheSurface) {
  try {
    (void)half(3).value();
    FAIL() << "no exception";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::invalid_argument);
    EXPECT_STREQ(e.what(), "halve 3: Invalid argument");
  }
}

}  // namespace
