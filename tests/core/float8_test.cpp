#include <tutti/core/float8.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tutti {
namespace {

/// A code's value from the formats' definition, in fp64.
double defined_value(int code, int mantissa_bits, int bias) {
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const int exponent = (code & 0x7f) >> mantissa_bits;
  const double one = 1 << mantissa_bits;
  const double value =
      exponent == 0 ? std::ldexp(mantissa / one, 1 - bias) : std::ldexp(1 + mantissa / one, exponent - bias);
  return (code & 0x80) != 0 ? -value : value;
}

template <Fp8Format format>
struct Defined {
  static constexpr int kMantissa = format == Fp8Format::kE4M3 ? 3 : 2;
  static constexpr int kBias = format == Fp8Format::kE4M3 ? 7 : 15;
  static constexpr int kLargest = format == Fp8Format::kE4M3 ? 0x7e : 0x7b;

  /// A search over all codes for the nearest one, ties to even.
  static int nearest(double x) {
    const double a = std::min(std::abs(x), defined_value(kLargest, kMantissa, kBias));
    int best = 0;
    for (int code = 0; code <= kLargest; ++code) {
      const double distance = std::abs(defined_value(code, kMantissa, kBias) - a);
      const double least = std::abs(defined_value(best, kMantissa, kBias) - a);
      if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    return best | (std::signbit(x) ? 0x80 : 0);
  }
};

template <Fp8Format format>
void check_all_codes() {
  using D = Defined<format>;
  for (int code = 0; code < 256; ++code) {
    const float value = from_fp8<format>(static_cast<uint8_t>(code));
    if ((code & 0x7f) > D::kLargest) {
      const bool infinite = format == Fp8Format::kE5M2 && (code & 0x7f) == 0x7c;
      EXPECT_TRUE(infinite ? std::isinf(value) : std::isnan(value)) << code;
      EXPECT_EQ(to_fp8<format>(value) & 0x7f, 0x7f) << code;
      continue;
    }
    EXPECT_EQ(value, defined_value(code, D::kMantissa, D::kBias)) << code;
    EXPECT_EQ(to_fp8<format>(value), code);
  }
}

template <Fp8Format format>
void check_rounding() {
  using D = Defined<format>;
  std::vector<float> values;
  for (int code = 0; code < D::kLargest; ++code) {
    const double low = defined_value(code, D::kMantissa, D::kBias);
    const double high = defined_value(code + 1, D::kMantissa, D::kBias);
    const auto middle = static_cast<float>((low + high) / 2);
    values.insert(values.end(), {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F)});
  }
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<float> exponent(-30, 20);
  for (int i = 0; i < 20000; ++i) values.push_back(std::exp2(exponent(random)));
  values.insert(values.end(), {0.0F, std::numeric_limits<float>::denorm_min(),
                               std::numeric_limits<float>::min(), std::numeric_limits<float>::max()});
  for (const float value : values) {
    EXPECT_EQ(to_fp8<format>(value), D::nearest(value)) << value;
    EXPECT_EQ(to_fp8<format>(-value), D::nearest(-value)) << -value;
  }
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    EXPECT_TRUE(std::isnan(from_fp8<format>(to_fp8<format>(value))));
}

TEST(Float8, E4M3MatchesItsDefinition) {
  check_all_codes<Fp8Format::kE4M3>();
  EXPECT_EQ(from_fp8<Fp8Format::kE4M3>(0x7e), Fp8Bits<Fp8Format::kE4M3>::kMost);
}

TEST(Float8, E5M2MatchesItsDefinition) {
  check_all_codes<Fp8Format::kE5M2>();
  EXPECT_EQ(from_fp8<Fp8Format::kE5M2>(0x7b), Fp8Bits<Fp8Format::kE5M2>::kMost);
}

TEST(Float8, RoundsToTheNearestTiesToEvenAndSaturates) {
  check_rounding<Fp8Format::kE4M3>();
  check_rounding<Fp8Format::kE5M2>();
}

TEST(Float8, ScalesArePowersOfTwoForTwiceTheRange) {
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<float> exponent(-90, 90);
  for (int i = 0; i < 10000; ++i) {
    const float range = std::exp2(exponent(random));
    const float scale = fp8_scale(range, 448);
    int power = 0;
    EXPECT_EQ(std::frexp(scale, &power), 0.5F);
    EXPECT_LE(2 * range * scale, 448);
    EXPECT_GT(4 * range * scale, 448);
  }
  for (const float range :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    EXPECT_EQ(fp8_scale(range, 448), 1);
  EXPECT_TRUE(std::isfinite(1 / fp8_scale(1e-38F, 57344)));
  EXPECT_TRUE(std::isfinite(fp8_scale(1e-38F, 57344)));
}

}  // namespace
}  // namespace tutti
