#pragma once

#include <tutti/core/host_device.h>

#include <bit>
#include <cstdint>
#include <string_view>

// The two fp8 formats, for operands of matrix products.
// Source: Micikevicius et al. 2022, "FP8 formats for deep learning".
namespace tutti {

/// kE4M3: 3 bits of mantissa, up to 448, no infinity. kE5M2: 2 bits, up to 57,344.
enum class Fp8Format : uint8_t { kNone, kE4M3, kE5M2 };

constexpr std::string_view name(Fp8Format format) {
  return format == Fp8Format::kE4M3 ? "e4m3" : format == Fp8Format::kE5M2 ? "e5m2" : "none";
}

/// The layout of a format's bits; its codes without the sign are in the order of the values.
template <Fp8Format format>
struct Fp8Bits {
  static constexpr int kMantissa = format == Fp8Format::kE4M3 ? 3 : 2;
  static constexpr int kBias = format == Fp8Format::kE4M3 ? 7 : 15;
  static constexpr uint32_t kLargest = format == Fp8Format::kE4M3 ? 0x7eU : 0x7bU;
  static constexpr uint32_t kNan = 0x7fU;
  static constexpr float kMost = format == Fp8Format::kE4M3 ? 448.0F : 57344.0F;
};

/// The nearest code, ties to even. Values above the largest number become the largest number; infinity
/// becomes NaN, so that an earlier overflow is not hidden.
template <Fp8Format format>
HOST_DEVICE constexpr uint8_t to_fp8(float x) {
  using F = Fp8Bits<format>;
  const auto u = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (u >> 24) & 0x80U;
  const uint32_t a = u & 0x7fffffffU;
  if (a >= 0x7f800000U) return static_cast<uint8_t>(sign | F::kNan);
  constexpr int kShift = 23 - F::kMantissa;
  constexpr uint32_t kNormal = uint32_t{128 - F::kBias} << 23;  // the smallest normal number
  uint32_t code = 0;
  if (a < kNormal) {
    // Adding this number rounds x to a multiple of the smallest code.
    constexpr auto kRounder = std::bit_cast<float>(uint32_t{128 - F::kBias + kShift} << 23);
    code = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + kRounder) - std::bit_cast<uint32_t>(kRounder);
  } else {
    const uint32_t rounded = a + ((1U << (kShift - 1)) - 1) + ((a >> kShift) & 1U);
    code = (rounded >> kShift) - (uint32_t{127 - F::kBias} << F::kMantissa);
    if (code > F::kLargest) code = F::kLargest;
  }
  return static_cast<uint8_t>(sign | code);
}

/// The value of a code, including the infinities of kE5M2.
template <Fp8Format format>
HOST_DEVICE constexpr float from_fp8(uint8_t code) {
  using F = Fp8Bits<format>;
  const uint32_t sign = (code & 0x80U) << 24;
  const uint32_t a = code & 0x7fU;
  if (a > F::kLargest) {
    const bool infinite = format == Fp8Format::kE5M2 && a == F::kLargest + 1;
    return std::bit_cast<float>(sign | (infinite ? 0x7f800000U : 0x7fc00000U));
  }
  constexpr int kShift = 23 - F::kMantissa;
  if (a >> F::kMantissa == 0) {
    constexpr auto kSmallest = std::bit_cast<float>(uint32_t{128 - F::kBias - F::kMantissa} << 23);
    const float value = static_cast<float>(a) * kSmallest;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((a << kShift) + (uint32_t{127 - F::kBias} << 23)));
}

/// The power of two that scales numbers of up to `range`, so that even twice as large ones are below `most`;
/// 1 if the range is not usable. Scaling by it is exact.
HOST_DEVICE constexpr float fp8_scale(float range, float most) {
  constexpr float kLeast = 1e-30F;  // the inverse scale must stay finite
  if (!(range > 0 && range < 1e30F)) return 1;
  const float scale = most / (2 * (range < kLeast ? kLeast : range));
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scale) & 0x7f800000U);
}

}  // namespace tutti
