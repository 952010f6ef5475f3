// The checksums of messages: what is written over is found.
#include <gtest/gtest.h>
#include <covey/ipc/queue_layout.hpp>

#include <array>
#include <numeric>
#include <vector>

namespace {

using namespace covey::detail;

constexpr std::uint64_t key = queue_key(4711);
constexpr std::size_t words = 4, inlined = 64;

// What a slot says of its message, and the message.
struct summed {
  std::array<std::byte, words * sizeof(std::uint64_t) + inlined> all{};

  [[nodiscard]] std::uint64_t checksum() const {
    std::array<std::uint64_t, words> header;
    std::memcpy(header.data(), all.data(), sizeof header);
    return checksum_of(key, header, std::span(all).last(inlined));
  }
  void flip(std::size_t bit) { all[bit / 8] ^= static_cast<std::byte>(1 << bit % 8); }
};
constexpr std::size_t bits = 8 * sizeof summed::all;

TEST(Checksum, FindsEachBitAndEachTwoBits) {
  summed s;
  for (std::size_t i = 0; i < s.all.size(); ++i) s.all[i] = static_cast<std::byte>(i % 8 == 0 ? i : 0);
  const std::uint64_t right = s.checksum();
  std::size_t missed = 0;
  for (std::size_t a = 0; a < bits; ++a) {
    s.flip(a);
    missed += s.checksum() == right ? 1 : 0;
    for (std::size_t b = 0; b < a; ++b) {
      s.flip(b);
      missed += s.checksum() == right ? 1 : 0;
      s.flip(b);
    }
    s.flip(a);
  }
  EXPECT_EQ(missed, 0U);
}

TEST(Checksum, FindsTheUppermostBytesOfTwoWords) {
  summed s;
  const std::uint64_t right = s.checksum();
  std::size_t missed = 0;
  for (std::size_t a = 7; a < s.all.size(); a += 8) {
    for (std::size_t b = 7; b < a; b += 8) {
      for (unsigned both = 1; both < 65536; ++both) {
        s.all[a] = static_cast<std::byte>(both);
        s.all[b] = static_cast<std::byte>(both >> 8);
        missed += s.checksum() == right ? 1 : 0;
      }
      s.all[b] = {};
    }
    s.all[a] = {};
  }
  EXPECT_EQ(missed, 0U);
}

TEST(Checksum, IsOfEachLengthAndOfEachByteOfIt) {
  std::vector<std::byte> bytes(100);
  std::iota(reinterpret_cast<unsigned char*>(bytes.data()), reinterpret_cast<unsigned char*>(bytes.data()) + 100, 1);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const std::uint64_t right = checksum_of(key, {}, std::span(bytes).first(n));
    EXPECT_NE(right, checksum_of(key, {}, std::span(bytes).first(n + 1)));
    EXPECT_NE(right, checksum_of(key + 1, {}, std::span(bytes).first(n)));
    for (std::size_t i = 0; i < n; ++i) {
      const std::byte was = std::exchange(bytes[i], std::byte{0xff});
      EXPECT_NE(right, checksum_of(key, {}, std::span(bytes).first(n))) << i << " of " << n;
      bytes[i] = was;
    }
  }
}

// Memory that was all set to one value, its checksum too.
TEST(Checksum, OfWhatWasFilledIsNotWhatItWasFilledWith) {
  for (const std::uint64_t fill : {0x00U, 0x01U, 0x55U, 0xaaU, 0xffU}) {
    summed s;
    s.all.fill(static_cast<std::byte>(fill));
    EXPECT_NE(s.checksum(), 0x0101010101010101 * fill);
  }
}

TEST(Checksum, OfALargeMessageIsOfWordsAllOverIt) {
  queue_view q;
  q.key = key;
  const std::array<std::uint64_t, words> header{1, 2, 3, 64};
  for (const std::size_t bytes : {72U, 73U, 100U, 1024U, 1'000'000U}) {
    std::vector<std::byte> payload(bytes, std::byte{7});
    const std::uint64_t right = checksum_of_large(q, header, payload);
    for (std::size_t eighth = 0; eighth < 8; ++eighth) {
      auto over = payload;
      const std::size_t end = std::min(bytes, (eighth + 1) * ((bytes + 7) / 8) + 8);
      for (std::size_t i = eighth * (bytes / 8); i < end; ++i) over[i] = static_cast<std::byte>(i * 31 + eighth);
      EXPECT_NE(right, checksum_of_large(q, header, over)) << eighth << " of " << bytes;
    }
  }
}

}  // namespace
